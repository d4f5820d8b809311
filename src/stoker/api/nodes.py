"""Operations on the nodes that a platform is made of: who may join, who is one, and by whose signature."""

from typing import Final

import msgspec
from starlette.responses import Response

from stoker.api.bodies import decoded, nothing, reply
from stoker.api.operations import Call, Operation
from stoker.types.nodes import NewToken, TokenWish


class Followed(msgspec.Struct, frozen=True):
    """The authority that will sign once every node trusts it."""

    fingerprint: str
    state: str


async def _make_token(call: Call) -> Response:
    return reply(await call.plane.nodes.token(await decoded(call.request, TokenWish)), 201)


async def _remove_node(call: Call) -> Response:
    await call.plane.nodes.remove(call.request.path_params["name"])
    return nothing()


async def _rotate_authority(call: Call) -> Response:
    made = await call.plane.nodes.rotate()
    return reply(Followed(made, call.plane.nodes.authority.words()), 201)


OPERATIONS: Final = (
    Operation(
        "POST",
        "/api/v1/nodes/tokens",
        _make_token,
        "Make a token that lets one node in, once; it is shown this once",
        "platform:write",
        where="platform",
        body=TokenWish,
        answer=NewToken,
        status=201,
    ),
    Operation(
        "DELETE",
        "/api/v1/nodes/{name}",
        _remove_node,
        "Have a node be one no more: its certificates are refused, its replicas start elsewhere",
        "platform:write",
        where="platform",
        status=204,
    ),
    Operation(
        "POST",
        "/api/v1/nodes/authority",
        _rotate_authority,
        "Have another certificate authority follow the one that signs now",
        "platform:write",
        where="platform",
        answer=Followed,
        status=201,
        audit="begins",
    ),
)
