"""The operation on responsibilities: who owns what of an endpoint, and how it stands."""

from typing import Final

from starlette.responses import Response

from stoker.api.bodies import reply
from stoker.api.operations import Call, Operation
from stoker.types.boundary import Boundary


async def _boundary(call: Call) -> Response:
    project, name = call.request.path_params["project"], call.request.path_params["name"]
    return reply(await call.plane.boundary.view(project, name))


OPERATIONS: Final = (
    Operation(
        "GET",
        "/api/v1/projects/{project}/endpoints/{name}/boundary",
        _boundary,
        "Who owns what of an endpoint: duties of the platform, each looked at now, and of its project",
        "endpoints:read",
        answer=Boundary,
    ),
)
