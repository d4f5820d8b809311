"""HTTP to other nodes: uvicorn behind mutual TLS, where a request knows by its certificate who asks.

The peer is in the request's state as `peer`; None where the caller showed no certificate and may do without.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import uvicorn

from stoker.app.bounded_http import BoundedHttp
from stoker.core.certificates import CONTROL_DOOR, Door, refusal
from stoker.protocol import secure
from stoker.protocol.secure import Identity
from stoker.types.peers import Peer

CONNECTIONS_MAX: Final = 512
# Who may come: certificate → why not. What it returns is asked again before each request of an open connection.
Judge = Callable[[Peer | None], str]
log: Final = logging.getLogger(__name__)


class FarServer:
    """Serves `app` on host and port to peers that `judge` lets in. `asks_all`: a certificate may be missing."""

    def __init__(self, app: Any, mine: Identity, judge: Judge, *, asks_all: bool = False) -> None:
        protocol = type("JudgedHttp", (_JudgedHttp,), {"judge": staticmethod(judge)})
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=1,
            limit_concurrency=CONNECTIONS_MAX,
        )
        config.load()
        config.ssl = mine.server
        if asks_all:
            mine.server.verify_mode = ssl.CERT_OPTIONAL
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    def start(self, host: str, port: int) -> None:
        """Listen. Raises OSError."""
        kind = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(kind, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as taken:
            listening.close()
            raise OSError(taken.errno, f"cannot listen on {host}:{port}: {taken.strerror}") from taken
        listening.listen(128)
        listening.setblocking(False)
        self._task = asyncio.get_running_loop().create_task(self._server.serve([listening]), name="other nodes")

    async def close(self) -> None:
        """Answer what was asked, then stop listening."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


def expecting(mine: Identity, door: Door) -> Judge:
    """Return what lets in whom `door` says, as far as `mine` trusts."""
    return lambda peer: mine.judged(peer, door)


def nodes_judge(mine: Identity) -> Judge:
    """Return what lets in agents of nodes, and who has no certificate yet.

    Not by who was removed: that is asked for each request, and answered in words.
    """

    def judge(peer: Peer | None) -> str:
        return refusal(peer, mine.me, CONTROL_DOOR, mine.trusted, (), time.time()) if peer is not None else ""

    return judge


class _JudgedHttp(BoundedHttp):
    """One connection whose peer was looked at."""

    judge: Judge
    peer: Peer | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self.peer = secure.peer_of(transport.get_extra_info("peercert"))
        self.app_state = {**self.app_state, "peer": self.peer}
        if why := self.judge(self.peer):
            log.warning("refused a peer", extra={"peer": str(self.client), "reason": why})
            transport.abort()

    def on_message_begin(self) -> None:
        """Take the first byte of a request, if its peer may still ask."""
        if self.judge(self.peer):
            self.transport.abort()
            return
        super().on_message_begin()


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to its process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn."""
        yield
