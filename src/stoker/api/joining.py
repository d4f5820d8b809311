"""What control answers other nodes, over TLS and by their certificates; no part of the control API, and no keys.

GET  /v1/ca               → the authorities (PEM); open: whoever joins compares the fingerprint
POST /v1/join             JoinBody → Issued; open: the token says who may
POST /v1/renew            Requests → Issued
POST /v1/sync             SyncBody → Synced
GET  /v1/blobs/{digest}   → bytes; of versions that have a replica on the asking node, no others
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from stoker.api.bodies import decoded, reply
from stoker.api.refusals import ErrorBody, ErrorInfo, refusal
from stoker.blob.port import BlobStore
from stoker.control.plane import ControlPlane
from stoker.store.recording import Actor, acting
from stoker.types.errors import NotFound, StokerError, Unauthenticated
from stoker.types.ids import Digest, is_digest
from stoker.types.nodes import JoinBody, Requests, SyncBody
from stoker.types.peers import Peer

Handler = Callable[[Request], Awaitable[Response]]
log: Final = logging.getLogger(__name__)


class Joining:
    """The routes."""

    def __init__(self, plane: ControlPlane, blobs: BlobStore) -> None:
        self._plane = plane
        self._blobs = blobs

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/ca", _told(self.ca)),
                Route("/v1/join", _told(self.join), methods=["POST"]),
                Route("/v1/renew", _told(self.renew), methods=["POST"]),
                Route("/v1/sync", _told(self.sync), methods=["POST"]),
                Route("/v1/blobs/{digest}", _told(self.blob)),
            ]
        )

    async def ca(self, _request: Request) -> Response:
        """Answer GET /v1/ca."""
        return Response(self._plane.nodes.authority.trust, media_type="application/x-pem-file")

    async def join(self, request: Request) -> Response:
        """Answer POST /v1/join."""
        body = await decoded(request, JoinBody)
        origin = request.client.host if request.client is not None else ""
        with acting(Actor("node", "nodes.join", origin)):
            return reply(await self._plane.nodes.join(body))

    async def renew(self, request: Request) -> Response:
        """Answer POST /v1/renew."""
        return reply(await self._plane.nodes.renew(self._peer(request), await decoded(request, Requests)))

    async def sync(self, request: Request) -> Response:
        """Answer POST /v1/sync."""
        return reply(self._plane.nodes.sync(self._peer(request), await decoded(request, SyncBody)))

    async def blob(self, request: Request) -> Response:
        """Answer GET /v1/blobs/{digest}."""
        peer, digest = self._peer(request), request.path_params["digest"]
        if not is_digest(digest) or not self._is_for(peer, Digest(digest)):
            raise NotFound("no such blob is for this node")
        return FileResponse(self._blobs.path(Digest(digest)), media_type="application/octet-stream")

    def _peer(self, request: Request) -> Peer:
        peer: Peer | None = request.state.peer
        if peer is None:
            raise Unauthenticated("this needs the certificate of a node's agent")
        self._plane.nodes.must_be_node(peer)
        return peer

    def _is_for(self, peer: Peer, digest: Digest) -> bool:
        """Whether a version with that blob has a replica on the node."""
        state = self._plane.loop.state
        if state is None:
            return False
        configs = {each.revision: each.config for each in state.revisions}
        mine = {each.revision for each in state.assignments if each.node == peer.node}
        versions = (state.versions.get((configs[each].model, configs[each].number)) for each in mine)
        return any(digest == entry.digest for one in versions if one is not None for entry in one.manifest.files)


def _told(handler: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except StokerError as problem:
            return refusal(problem)
        except Exception:  # the process goes on; the node hears that it is not its fault
            log.exception("a node could not be answered")
            return reply(ErrorBody(ErrorInfo("internal", "this is a bug; control's log has the details")), 500)

    return answer
