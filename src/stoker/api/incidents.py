"""Operations on incidents, and the question why an endpoint is as it is."""

import time
from typing import Final

import msgspec
from starlette.responses import Response

from stoker.api.bodies import decoded, flag, number, reply
from stoker.api.operations import Call, Operation, Parameter
from stoker.core.diagnose.incident import TEXT_MAX, Incident
from stoker.core.diagnose.verdict import Explanation
from stoker.core.diagnose.window import SINCE_MAX_S, UNTIL_MAX_S
from stoker.observe.incidents import postmortem
from stoker.store import endpoints, incidents
from stoker.types.errors import InvalidInput, NotFound
from stoker.types.ids import DEFAULT_PROJECT

LIMIT_MAX: Final = 1000


class IncidentList(msgspec.Struct, frozen=True):
    """Incidents, newest first."""

    items: list[Incident]


class Raise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody saw, and where."""

    endpoint: str
    project: str = str(DEFAULT_PROJECT)
    reason: str = "somebody asked"


class Resolution(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How it ended."""

    text: str = "closed by hand"


async def _why(call: Call) -> Response:
    project, name = call.request.path_params["project"], call.request.path_params["name"]
    await call.plane.database.reading(lambda connection: endpoints.get(connection, project, name))
    until_s = number(call.request, "until_s", 0, 0, UNTIL_MAX_S)
    since_s = number(call.request, "since_s", 0, 0, until_s + SINCE_MAX_S)
    if since_s and since_s <= until_s:
        raise InvalidInput(f"it cannot have ended {until_s:g} s ago and begun {since_s:g} s ago", field="until_s")
    now_s = time.time()
    found = await call.plane.incidents.why(
        project, name, now_s - since_s if since_s else None, now_s - until_s if until_s else None
    )
    return reply(await call.plane.remedies.advice(found, project, name))


async def _incidents(call: Call) -> Response:
    limit = int(number(call.request, "limit", 50, 1, LIMIT_MAX))
    only_open, project = flag(call.request, "open"), call.grant.only
    found = await call.plane.database.reading(
        lambda each: incidents.newest(each, limit, only_open=only_open, project=project)
    )
    return reply(IncidentList(found))


async def _incident(call: Call) -> Response:
    return reply(await _found(call))


async def _postmortem(call: Call) -> Response:
    return Response(postmortem.draft(await _found(call)), media_type="text/markdown; charset=utf-8")


async def _raise_incident(call: Call) -> Response:
    asked = await decoded(call.request, Raise)
    call.require("incidents:write", asked.project, asked.endpoint)
    await call.plane.database.reading(lambda each: endpoints.get(each, asked.project, asked.endpoint))
    return reply(await call.plane.incidents.open(asked.project, asked.endpoint, asked.reason), 201)


async def _close_incident(call: Call) -> Response:
    asked = await decoded(call.request, Resolution)
    if len(asked.text) > TEXT_MAX:
        raise InvalidInput(f"a resolution of {len(asked.text)} characters; at most {TEXT_MAX} are kept", field="text")
    found = await _found(call)
    call.require("incidents:write", found.project)
    return reply(await call.plane.incidents.close(found.number, asked.text))


async def _found(call: Call) -> Incident:
    which = _number(call)
    found = await call.plane.database.reading(lambda connection: incidents.get(connection, which))
    if call.grant.only not in (None, found.project):
        raise NotFound(incidents.unknown(which))
    return found


def _number(call: Call) -> int:
    text = call.request.path_params["number"]
    if not (text.isascii() and text.isdecimal()) or len(text) > 15:
        raise InvalidInput(f"{text!r} is not the number of an incident", field="number")
    return int(text)


OPERATIONS: Final = (
    Operation(
        "GET",
        "/api/v1/projects/{project}/endpoints/{name}/why",
        _why,
        "Why an endpoint is worse than before: causes, likeliest first",
        "endpoints:read",
        answer=Explanation,
        query=(
            Parameter("since_s", float, "how long ago it began; without it the last hour is searched", 0, UNTIL_MAX_S),
            Parameter("until_s", float, "how long ago it ended; without it, it goes on", 0, UNTIL_MAX_S),
        ),
    ),
    Operation(
        "GET",
        "/api/v1/incidents",
        _incidents,
        "Incidents, newest first",
        "incidents:read",
        where="each",
        answer=IncidentList,
        query=(
            Parameter("limit", int, f"1 to {LIMIT_MAX}", 1, LIMIT_MAX),
            Parameter("open", bool, "only those that go on"),
        ),
    ),
    Operation(
        "POST",
        "/api/v1/incidents",
        _raise_incident,
        "Open an incident",
        "incidents:write",
        where="each",
        body=Raise,
        answer=Incident,
        status=201,
    ),
    Operation(
        "GET",
        "/api/v1/incidents/{number}",
        _incident,
        "One incident with its timeline",
        "incidents:read",
        where="each",
        answer=Incident,
    ),
    Operation(
        "GET",
        "/api/v1/incidents/{number}/markdown",
        _postmortem,
        "Draft of its post-mortem",
        "incidents:read",
        where="each",
        media="text/markdown",
    ),
    Operation(
        "POST",
        "/api/v1/incidents/{number}/close",
        _close_incident,
        "End it",
        "incidents:write",
        where="each",
        body=Resolution,
        answer=Incident,
    ),
)
