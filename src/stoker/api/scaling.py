"""The operation on scaling: what was decided about an endpoint, and from which numbers."""

from typing import Final

from starlette.responses import Response

from stoker.api.bodies import number, reply
from stoker.api.operations import Call, Operation, Parameter
from stoker.client.scaling import LIMIT, ScalingView
from stoker.core.scale.policy import is_scaled
from stoker.core.scale.record import Record
from stoker.core.snapshot import EndpointState
from stoker.store import endpoints, scaling
from stoker.store.engine import Connection

UNIX_S_MAX: Final = 1e11


async def _scaling(call: Call) -> Response:
    project, name = call.request.path_params["project"], call.request.path_params["name"]
    limit = int(number(call.request, "limit", LIMIT, 1, scaling.RECORDS_MAX))
    at_s = number(call.request, "at_s", 0.0, 0.0, UNIX_S_MAX)

    def read(connection: Connection) -> tuple[EndpointState, list[Record]]:
        state = endpoints.get(connection, project, name)
        return state, scaling.records(connection, project, name, limit, at_s or None)

    state, records = await call.plane.database.reading(read)
    return reply(
        ScalingView(
            project=project,
            endpoint=name,
            replicas=state.resource.spec.replicas,
            is_scaled=is_scaled(state.resource.spec),
            records=tuple(records),
            now=None if at_s else call.plane.scaling.newest(state.key),
            memory=None if at_s else call.plane.scaling.memory(state.key),
        )
    )


OPERATIONS: Final = (
    Operation(
        "GET",
        "/api/v1/projects/{project}/endpoints/{name}/scaling",
        _scaling,
        "Why an endpoint has as many replicas as it has: decisions with their numbers, newest first",
        "endpoints:read",
        answer=ScalingView,
        query=(
            Parameter("at_s", float, "unix seconds: decisions until then; by default until now"),
            Parameter("limit", int, f"1 to {scaling.RECORDS_MAX}"),
        ),
    ),
)
