"""The server's end of a link: requests in, answers out, at the reader's pace."""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Protocol, cast

import msgspec

from stoker.protocol import frames
from stoker.protocol.frames import EndHead, FrameError, FrameReader, Hello, Kind, RequestHead
from stoker.protocol.link.bound import bind
from stoker.protocol.link.cork import Cork
from stoker.protocol.link.late import Impairment, Late
from stoker.protocol.link.wire import as_head, socket_path
from stoker.types.errors import Draining, EngineFailed, StokerError, TooLarge, Unsupported
from stoker.types.replica import ReplicaStats

STREAMS_MAX = 4096  # open at once on one connection
HANDSHAKE_S = 5.0  # of a peer on another node
CLOSE_TIMEOUT_S = 2.0  # for what is written but not yet read by the peer


class Exchange:
    """One request, at the server's end. Ends with exactly one `end` or `fail`; both are no-ops after a cancel."""

    __slots__ = ("_budget", "_connection", "_credit", "body", "head", "is_done", "on_cancel", "on_end", "stream")

    def __init__(self, connection: "_Connection", stream: int, head: RequestHead, body: bytes) -> None:
        self.stream = stream
        self.head = head
        self.body = body
        self.is_done = False  # ended, failed or cancelled: whatever is sent now is dropped
        self.on_cancel: Callable[[], object] | None = None  # what it returns is ignored
        self.on_end: Callable[[EndHead], object] | None = None  # called when it ends well
        self._connection = connection
        self._budget = frames.WINDOW_BYTES
        self._credit: asyncio.Event | None = None

    async def send(self, data: bytes) -> None:
        """Send a piece of the answer; waits while the reader is behind. Pieces over INLINE_MAX are cut."""
        for at in range(0, len(data), frames.INLINE_MAX):
            piece = data[at : at + frames.INLINE_MAX]
            while self._budget < len(piece) and not self.is_done:
                self._credit = asyncio.Event()
                await self._credit.wait()
            if self.is_done:
                return
            self._budget -= len(piece)
            self._connection.write(frames.frame(Kind.DATA, self.stream, piece))

    def end(self, head: EndHead, body: bytes = b"") -> None:
        """Close the stream well. `body` is at most INLINE_MAX; use `finish` when it may be larger."""
        if not self.is_done:
            self._close()
            if self.on_end is not None:
                self.on_end(head)
            head.others = self._connection.others
            self._connection.write(frames.with_head(Kind.END, self.stream, head, body))

    async def finish(self, head: EndHead, body: bytes) -> None:
        """Close the stream well with a body of any size."""
        if len(body) > frames.INLINE_MAX:
            await self.send(body)
            body = b""
        self.end(head, body)

    def fail(self, problem: StokerError) -> None:
        """Close the stream badly."""
        if not self.is_done:
            self._close()
            self._connection.write(frames.error(self.stream, as_head(problem)))

    def cancel(self) -> None:
        """The client lost interest, or the connection is gone (called by the connection)."""
        if not self.is_done:
            self._close()
            if self.on_cancel is not None:
                self.on_cancel()

    def when_lost(self, then: Callable[[], object]) -> None:
        """Call `then` once the connection that this came over is gone, however long after the answer."""
        self._connection.closed.add_done_callback(lambda _: then())

    def add_credit(self, count: int) -> None:
        """The reader made room (called by the connection)."""
        self._budget = min(self._budget + count, frames.WINDOW_BYTES)
        if self._credit is not None:
            self._credit.set()

    def _close(self) -> None:
        self.is_done = True
        if self._connection.exchanges.pop(self.stream, None) is not None:
            self._connection.all.exchanges -= 1
        if self._credit is not None:
            self._credit.set()


class Handler(Protocol):
    """What a process answers with. All methods run in the event loop and must not block."""

    body_max_bytes: int

    def hello(self) -> Hello:
        """Return who this process is."""

    def stats(self) -> ReplicaStats:
        """Return the statistics of now."""

    def request(self, exchange: Exchange) -> None:
        """Take a REQUEST whose body is complete; raise StokerError to refuse it, or answer through `exchange`."""

    def call(self, exchange: Exchange) -> None:
        """Take a CALL (a question about the process itself), in the same way."""

    def drain(self) -> None:
        """Finish what runs, refuse what is new."""


class Guard(Protocol):
    """Who may connect from another node (protocol/secure.py)."""

    context: ssl.SSLContext

    def admits(self, transport: asyncio.BaseTransport) -> Callable[[], str] | None:
        """Return what says why the peer is to go, "" while it may stay; None when it may not come in."""


class _All:
    """What is open on one address: connections, and the exchanges of all of them.

    passed: requests that clients work on past this process, as last told. progress: signs of progress of those.
    impairment: what is wrong with the network on purpose.
    """

    __slots__ = ("connections", "exchanges", "impairment", "passed", "progress")

    def __init__(self) -> None:
        self.connections: set[_Connection] = set()
        self.exchanges = 0
        self.passed = 0
        self.progress = 0
        self.impairment: Impairment | None = None


class _Connection(asyncio.Protocol):
    """The server's end of one connection."""

    def __init__(self, handler: Handler, all_: _All, guard: Guard | None = None) -> None:
        self._handler = handler
        self._guard = guard
        self.doubt: Callable[[], str] | None = None
        self.all = all_
        self._reader = FrameReader()
        self._partial: dict[int, tuple[int, RequestHead, bytearray]] = {}
        self._transport: asyncio.Transport | None = None
        self._cork: Cork | None = None
        self.exchanges: dict[int, Exchange] = {}
        self._passed = self._progress = 0  # of this client, as last told
        self._late: tuple[Late, Late] | None = None  # in, out; once the network was bad
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def others(self) -> int:
        """Requests of the other connections. Counted here, where nothing is on its way, so no reader corrects it; what
        runs past this process is as old as its client's last PING."""
        return self.all.exchanges - len(self.exchanges) + self.all.passed - self._passed

    def write(self, data: bytes) -> None:
        if self._is_late(1):
            self._lines()[1].carry(data, self.all.impairment)
        else:
            self._send(data)

    def _send(self, data: bytes) -> None:
        if self._cork is not None and self._transport is not None and not self._transport.is_closing():
            self._cork.write(data)

    def _is_late(self, way: int) -> bool:
        return self.all.impairment is not None or (self._late is not None and self._late[way].is_busy)

    def _lines(self) -> tuple[Late, Late]:
        """Return the late lines in and out."""
        if self._late is None:
            loop = asyncio.get_running_loop()
            self._late = (Late(loop, self._receive), Late(loop, self._send))
        return self._late

    def close(self) -> None:
        if self._transport is not None:
            if self._late is not None:
                self._late[1].flush()
            if self._cork is not None:
                self._cork.flush()
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._guard is not None:
            self.doubt = self._guard.admits(transport)
            if self.doubt is None:
                self._transport.abort()
                return
        self._cork = Cork(self._transport, asyncio.get_running_loop())
        self.all.connections.add(self)
        self.write(frames.hello(self._handler.hello()))

    def connection_lost(self, exc: Exception | None) -> None:
        self.all.connections.discard(self)
        self.all.passed -= self._passed
        self._partial.clear()
        for line in self._late or ():
            line.drop()
        for exchange in list(self.exchanges.values()):
            exchange.cancel()
        self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._is_late(0):
            self._lines()[0].carry(data, self.all.impairment)
        else:
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        try:
            for kind, stream, payload in self._reader.feed(data):
                self._take(kind, stream, payload)
        except (FrameError, struct.error):
            self.close()

    def _take(self, kind: int, stream: int, payload: bytes) -> None:
        if kind == Kind.REQUEST or kind == Kind.CALL:
            self._open_stream(kind, stream, payload)
        elif kind == Kind.DATA:
            self._more_body(stream, payload)
        elif kind == Kind.CANCEL:
            self._partial.pop(stream, None)
            exchange = self.exchanges.get(stream)
            if exchange is not None:
                exchange.cancel()
        elif kind == Kind.CREDIT:
            exchange = self.exchanges.get(stream)
            if exchange is not None:
                exchange.add_credit(frames.read_credit(payload))
        elif kind == Kind.PING:
            self._pinged(payload)
        elif kind == Kind.DRAIN:
            self._handler.drain()
        else:
            raise FrameError(f"a client does not send frames of kind {kind}")

    def _pinged(self, payload: bytes) -> None:
        """Take what the client tells of its work past this process, and count it as this process' own."""
        token, passed, progress = frames.read_ping(payload)
        all_ = self.all
        all_.passed += passed - self._passed
        all_.progress += (progress - self._progress) % frames.COUNTED_TO if progress else 0
        self._passed, self._progress = passed, progress or self._progress
        stats = self._handler.stats()
        if self.others or all_.progress:
            stats = msgspec.structs.replace(
                stats, others=self.others, running=stats.running + all_.passed, tokens=stats.tokens + all_.progress
            )
        self.write(frames.pong(token, stats))

    def _open_stream(self, kind: int, stream: int, payload: bytes) -> None:
        head, body = frames.read_request(payload)
        if head.body_bytes > self._handler.body_max_bytes:
            problem = TooLarge(f"a body of {head.body_bytes} bytes; at most {self._handler.body_max_bytes} are allowed")
            self.write(frames.error(stream, as_head(problem)))
        elif len(self.exchanges) + len(self._partial) >= STREAMS_MAX:
            self.write(frames.error(stream, as_head(Draining("too many requests on one connection"))))
        elif len(body) < head.body_bytes:
            self._partial[stream] = (kind, head, bytearray(body))
        else:
            self._dispatch(kind, stream, head, body)

    def _more_body(self, stream: int, payload: bytes) -> None:
        waiting = self._partial.get(stream)
        if waiting is None:
            return  # refused or cancelled before its body was here
        kind, head, held = waiting
        held += payload
        if len(held) > head.body_bytes:
            raise FrameError(f"a body longer than the {head.body_bytes} bytes announced")
        if len(held) == head.body_bytes:
            del self._partial[stream]
            self._dispatch(kind, stream, head, bytes(held))

    def _dispatch(self, kind: int, stream: int, head: RequestHead, body: bytes) -> None:
        if stream in self.exchanges or stream == 0:
            raise FrameError(f"stream {stream} is already in use")
        exchange = self.exchanges[stream] = Exchange(self, stream, head, body)
        self.all.exchanges += 1
        try:
            if kind == Kind.CALL:
                self._handler.call(exchange)
            else:
                self._handler.request(exchange)
        except StokerError as problem:
            exchange.fail(problem)
        except Exception as bug:  # one request's bug must not take the connection's others with it
            logging.getLogger(__name__).exception("handler failed", extra={"method": head.method})
            exchange.fail(EngineFailed(f"internal error: {type(bug).__name__}; the process' log has the details"))


class Server:
    """A listening frames server; `close` also closes its connections."""

    def __init__(self, listening: asyncio.AbstractServer, handler: Handler, all_: _All, path: str) -> None:
        self._listening = [listening]
        self._handler = handler
        self._all = all_
        self._connections = all_.connections
        self._path = path

    @property
    def passed(self) -> int:
        """Return how many requests clients work on past this process, as last told."""
        return self._all.passed

    def impair(self, how: Impairment | None) -> None:
        """Have every connection behave as over a bad network from now on; None: as they are."""
        self._all.impairment = how

    async def open_to(self, bound: socket.socket, guard: Guard) -> None:
        """Listen to other nodes too, over TLS, by what `bind_tcp` returned. Raises OSError."""
        loop = asyncio.get_running_loop()
        opened = await loop.create_server(
            lambda: _Connection(self._handler, self._all, guard),
            sock=bound,
            ssl=guard.context,
            ssl_handshake_timeout=HANDSHAKE_S,
        )
        self._listening.append(opened)

    def doubt(self) -> None:
        """Cut the connections whose peers are trusted no more."""
        for connection in list(self._connections):
            if connection.doubt is not None and connection.doubt():
                connection.abort()

    async def close(self) -> None:
        """Stop listening, flush and close every connection (at most CLOSE_TIMEOUT_S), remove the socket file."""
        for each in self._listening:
            each.close()
        for connection in list(self._connections):
            connection.close()
        if self._connections:
            await asyncio.wait([connection.closed for connection in self._connections], timeout=CLOSE_TIMEOUT_S)
        for connection in list(self._connections):
            connection.abort()
        with contextlib.suppress(OSError):  # it is gone, or this process is confined and has no right to its folder
            os.unlink(self._path)


async def serve(address: str, handler: Handler, bound: socket.socket | None = None) -> Server:
    """Listen on `address`, by what `bind` returned where that was done before. Raises OSError."""
    all_ = _All()
    loop = asyncio.get_running_loop()
    listening = await loop.create_unix_server(lambda: _Connection(handler, all_), sock=bound or bind(address))
    return Server(listening, handler, all_, socket_path(address))


def refuse(method: str) -> StokerError:
    """Return the error for a method that this process does not have."""
    return Unsupported(f"this process does not answer {method!r}")
