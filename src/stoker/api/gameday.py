"""Operations of game days: begin, and end."""

from typing import Final

from starlette.responses import Response

from stoker.api.bodies import decoded, nothing
from stoker.api.operations import Call, Operation, Parameter
from stoker.control import gameday
from stoker.core.gameday import BY_NAME
from stoker.types.errors import InvalidInput
from stoker.types.faults import FAULT_MAX_S

_PATH: Final = "/api/v1/projects/{project}/endpoints/{name}/gameday"


async def _begin(call: Call) -> Response:
    asked = await decoded(call.request, gameday.Begin)
    if asked.scenario not in BY_NAME:
        raise InvalidInput(f"no scenario {asked.scenario!r}; there are {', '.join(BY_NAME)}", field="scenario")
    if not 0 < asked.seconds <= FAULT_MAX_S:
        raise InvalidInput(f"{asked.seconds:g} s are not between 0 and {FAULT_MAX_S:g}", field="seconds")
    path = call.request.path_params
    await gameday.begin(call.plane, path["project"], path["name"], asked)
    return nothing()


async def _end(call: Call) -> Response:
    path = call.request.path_params
    because = call.request.query_params.get("because", "asked to")
    await gameday.end(call.plane, path["project"], path["name"], because)
    return nothing()


OPERATIONS: Final = (
    Operation(
        "POST",
        _PATH,
        _begin,
        "Begin a game day: a fault in replicas, a bad revision, or load",
        "gamedays:run",
        body=gameday.Begin,
        status=204,
        audit="begins",
    ),
    Operation(
        "DELETE",
        _PATH,
        _end,
        "End it: every fault in replicas, and the bad revision",
        "gamedays:run",
        status=204,
        query=(Parameter("because", str, "how it went, for the journal", longest=8000),),
        audit="begins",
    ),
)
