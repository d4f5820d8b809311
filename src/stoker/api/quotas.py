"""Operations on quotas: how they stand, and what bounds the platform as a whole."""

import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.responses import Response

from stoker.api.bodies import invalid, read, reply
from stoker.api.manifests import change_project
from stoker.api.operations import Call, Operation, Parameter
from stoker.control import allowances, quotas
from stoker.protocol.quotas import quota_problems
from stoker.store import journal
from stoker.store.engine import Connection
from stoker.types.access import EVERYWHERE
from stoker.types.errors import InvalidInput
from stoker.types.quotas import ProjectQuota, QuotaView
from stoker.types.resources import Project


class QuotaList(msgspec.Struct, frozen=True):
    """Quotas: the platform's own, those of projects, of keys, and totals of a period."""

    items: list[QuotaView]


async def _quotas(call: Call) -> Response:
    wanted = call.request.query_params.get("project")

    def may_see(project: str) -> bool:
        return wanted in (None, project) and call.may("usage:read", project or EVERYWHERE)

    samples, now_s = call.plane.models.samples, time.time()
    found = await call.plane.database.reading(lambda each: quotas.views(each, may_see, now_s, samples))
    return reply(QuotaList(found))


async def _platform(call: Call) -> Response:
    return reply(await call.plane.database.reading(allowances.of_platform))


async def _change_platform(call: Call) -> Response:
    given = await _patch(call)

    def change(connection: Connection) -> ProjectQuota:
        quota = _merged(allowances.of_platform(connection), given)
        problems = quota_problems(quota)
        if problems:
            raise InvalidInput(problems[0][1], field=problems[0][0])
        allowances.set_platform(connection, quota)
        because = f"{call.because}, changed: {', '.join(given)}"
        journal.add(connection, journal.Entry(time.time(), "SetPlatformQuota", because))
        return quota

    quota = await call.plane.database.writing(change)
    call.plane.loop.wake()
    return reply(quota)


async def _change_project(call: Call) -> Response:
    given, name = await _patch(call), call.request.path_params["project"]

    def wanted(project: Project) -> Project:
        quota = _merged(project.spec.quota, given)
        return msgspec.structs.replace(project, spec=msgspec.structs.replace(project.spec, quota=quota))

    return reply((await change_project(call, name, wanted)).spec.quota)


async def _patch(call: Call) -> dict[str, Any]:
    try:
        return msgspec.json.decode(await read(call.request), type=dict[str, Any])
    except msgspec.MsgspecError as wrong:
        raise InvalidInput(f"no quota: {wrong}") from wrong


def _merged(quota: ProjectQuota, given: Mapping[str, Any]) -> ProjectQuota:
    """Return `quota` with what is given; null takes a limit away. Raises InvalidInput."""
    kept = {name: value for name, value in msgspec.to_builtins(quota).items() if name not in given}
    named = {name: value for name, value in given.items() if value is not None}
    try:
        return msgspec.convert({**kept, **named}, ProjectQuota)
    except msgspec.ValidationError as wrong:
        raise invalid(wrong) from wrong


OPERATIONS: Final = (
    Operation(
        "GET",
        "/api/v1/quotas",
        _quotas,
        "How quotas stand: used, limit, whether it refuses, and when it begins anew",
        "usage:read",
        where="each",
        answer=QuotaList,
        query=(Parameter("project", str, "only those of this project"),),
    ),
    Operation(
        "GET",
        "/api/v1/platform/quota",
        _platform,
        "What bounds all projects together",
        "usage:read",
        where="platform",
        answer=ProjectQuota,
    ),
    Operation(
        "PATCH",
        "/api/v1/platform/quota",
        _change_platform,
        "Change what bounds all projects together: what is given; null takes a limit away",
        "platform:write",
        where="platform",
        body=ProjectQuota,
        answer=ProjectQuota,
    ),
    Operation(
        "PATCH",
        "/api/v1/projects/{project}/quota",
        _change_project,
        "Change a project's quota: what is given; null takes a limit away",
        "projects:write",  # everywhere, which specs.apply asks for
        body=ProjectQuota,
        answer=ProjectQuota,
    ),
)
