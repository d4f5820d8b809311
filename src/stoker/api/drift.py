"""Operations on drift: what moved at an endpoint, and a reference learned from what passes."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.responses import Response

from stoker.api.bodies import decoded, nothing, reply
from stoker.api.operations import Call, Operation
from stoker.client.views import DriftView


class LearnBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long rows are gathered."""

    window_s: Annotated[float, Meta(ge=1, le=7 * 86_400)] = 3600.0


async def _drift(call: Call) -> Response:
    where = call.request.path_params
    return reply(await call.plane.drift.view(where["project"], where["name"]))


async def _learn(call: Call) -> Response:
    where = call.request.path_params
    body = await decoded(call.request, LearnBody)
    await call.plane.drift.learn(where["project"], where["name"], body.window_s)
    return nothing(202)


_DRIFT: Final = "/api/v1/projects/{project}/endpoints/{name}/drift"

OPERATIONS: Final = (
    Operation("GET", _DRIFT, _drift, "How far the data moved from its reference", "endpoints:read", answer=DriftView),
    Operation(
        "POST",
        _DRIFT + "/learn",
        _learn,
        "Make a reference of the rows that pass",
        "endpoints:write",
        body=LearnBody,
        status=202,
        audit="begins",
    ),
)
