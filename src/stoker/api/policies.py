"""Operations on admission policies: list, delete, and ask what they would say of what is there now."""

import asyncio
import time
from typing import Final

import msgspec
from starlette.responses import Response

from stoker.api.bodies import MANIFEST_BYTES_MAX, nothing, read, reply
from stoker.api.operations import Call, Operation
from stoker.client.views import PolicyFinding
from stoker.core import policy
from stoker.protocol import manifest
from stoker.store import journal, policies
from stoker.store.engine import Connection
from stoker.types.access import EVERYWHERE
from stoker.types.errors import InvalidInput
from stoker.types.resources import Policy


class PolicyList(msgspec.Struct, frozen=True):
    """Policies by project and name."""

    items: list[Policy]


class FindingList(msgspec.Struct, frozen=True):
    """What rules say of what is there now, but those that passed."""

    items: list[PolicyFinding]


async def _policies(call: Call) -> Response:
    found = await call.plane.database.reading(policies.everything)
    return reply(PolicyList([each for each in found if call.may("policies:read", each.metadata.project)]))


async def _delete_policy(call: Call) -> Response:
    project, name = call.request.path_params["project"], call.request.path_params["name"]

    def change(connection: Connection) -> None:
        found = policies.find(connection, project, name)
        if found is not None and found.spec.all_projects:
            call.require("policies:write", EVERYWHERE)
        policies.remove(connection, project, name)
        journal.add(connection, journal.Entry(time.time(), "DeletePolicy", call.because, project, subject=name))

    await call.plane.database.writing(change)
    return nothing()


async def _look_at(call: Call) -> Response:
    resources = await asyncio.to_thread(manifest.load, await read(call.request, MANIFEST_BYTES_MAX))
    given = [each for each in resources if isinstance(each, Policy)]
    if len(given) != len(resources):
        raise InvalidInput("expected policies and nothing else", field="kind")
    found = await call.plane.admission.look(given)
    return reply(
        FindingList(
            [
                PolicyFinding(change.kind, change.project, change.name, verdict)
                for change, verdicts in found
                for verdict in policy.remarks(verdicts)
            ]
        )
    )


OPERATIONS: Final = (
    Operation(
        "GET",
        "/api/v1/policies",
        _policies,
        "List admission policies",
        "policies:read",
        where="each",
        answer=PolicyList,
    ),
    Operation(
        "POST",
        "/api/v1/policies/look",
        _look_at,
        "Say what policies, stored or not, would find in what is there now",
        "policies:read",
        where="platform",
        body="application/yaml",
        answer=FindingList,
        audit="nothing",
    ),
    Operation(
        "DELETE",
        "/api/v1/projects/{project}/policies/{name}",
        _delete_policy,
        "Delete a policy",
        "policies:write",
        status=204,
    ),
)
