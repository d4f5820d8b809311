"""The connection that carries frames: many calls at once over one socket, both ends.

Client end: `connect` → `Link.call` → `Call.next` / `Call.answer`. Server end: `serve` with a `Handler`.
Nothing here waits without a bound on bytes: an answer stops at WINDOW_BYTES until the reader gives credit.
"""

import asyncio
import contextlib
import os
import struct
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from stoker.protocol import frames
from stoker.protocol.frames import EndHead, ErrorHead, FrameError, FrameReader, Hello, Kind, RequestHead
from stoker.types.errors import Draining, ReplicaLost, StokerError, TooLarge, Unsupported, all_codes
from stoker.types.replica import ReplicaStats

STREAMS_MAX = 4096  # open at once on one connection
CONNECT_TIMEOUT_S = 2.0
_ERRORS = all_codes()


def as_error(head: ErrorHead) -> StokerError:
    """Return the error that `head` tells of, as this process' exception."""
    kind = _ERRORS.get(head.code, StokerError)
    return kind(head.message, field=head.field, retry_after_s=head.retry_after_s)


def as_head(problem: StokerError) -> ErrorHead:
    """Return `problem` as it crosses the wire."""
    return ErrorHead(
        code=problem.code, message=problem.message, field=problem.field, retry_after_s=problem.retry_after_s
    )


class Call:
    """One request in flight, at the client's end."""

    __slots__ = ("_events", "_failure", "_link", "_unread", "_waiter", "stream")

    def __init__(self, link: "Link", stream: int) -> None:
        self.stream = stream
        self._link = link
        self._events: deque[bytes | tuple[EndHead, bytes]] = deque()
        self._failure: StokerError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._unread = 0

    async def next(self) -> bytes | tuple[EndHead, bytes]:
        """Return the next piece of the answer, or its end. Raises the replica's error, or ReplicaLost."""
        while not self._events:
            if self._failure is not None:
                raise self._failure
            self._waiter = self._link.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        event = self._events.popleft()
        if type(event) is bytes:
            self._unread += len(event)
            if self._unread >= frames.WINDOW_BYTES // 2:
                self._link.write(frames.credit(self.stream, self._unread))
                self._unread = 0
        return event

    async def answer(self) -> tuple[EndHead, bytes]:
        """Return the whole answer: end head and body. For answers that are not streamed to anybody."""
        event = await self.next()
        if type(event) is tuple:
            return event
        pieces: list[bytes] = []
        while type(event) is bytes:
            pieces.append(event)
            event = await self.next()
        assert type(event) is tuple
        return event[0], b"".join((*pieces, event[1]))

    def cancel(self) -> None:
        """Tell the replica that nobody waits any more. Does nothing once the answer ended."""
        self._link.forget(self.stream)

    def push(self, event: bytes | tuple[EndHead, bytes]) -> None:
        """Take one event from the wire (called by the link)."""
        self._events.append(event)
        self._wake()

    def fail(self, problem: StokerError) -> None:
        """End the call with `problem` after what already arrived (called by the link)."""
        self._failure = problem
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Link(asyncio.Protocol):
    """The client's end of one connection. `hello` and `stats` are the peer's last words about itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.hello: Hello | None = None
        self.stats = ReplicaStats()
        self.on_stats: Callable[[ReplicaStats], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        self.is_open = False
        self.greeted: asyncio.Future[Hello] = loop.create_future()
        self._reader = FrameReader()
        self._calls: dict[int, Call] = {}
        self._transport: asyncio.Transport | None = None
        self._next_stream = 1

    @property
    def in_flight(self) -> int:
        """Calls not yet ended."""
        return len(self._calls)

    def call(self, head: RequestHead, body: bytes = b"", *, kind: Kind = Kind.REQUEST) -> Call:
        """Send a request and return its call at once. Raises ReplicaLost when the connection is down.

        `head.body_bytes` must equal `len(body)`.
        """
        if not self.is_open:
            raise ReplicaLost("the connection to the replica is down")
        stream = self._next_stream
        self._next_stream = stream % 0xFFFFFFFF + 1
        call = self._calls[stream] = Call(self, stream)
        if len(body) <= frames.INLINE_MAX:
            self.write(frames.with_head(kind, stream, head, body))
            return call
        view = memoryview(body)
        self.write(frames.with_head(kind, stream, head, view[: frames.INLINE_MAX]))
        for at in range(frames.INLINE_MAX, len(body), frames.INLINE_MAX):
            self.write(frames.frame(Kind.DATA, stream, view[at : at + frames.INLINE_MAX]))
        return call

    def ping(self, token: bytes = b"\0" * 8) -> None:
        """Ask for statistics; the answer arrives in `stats` and `on_stats`."""
        self.write(frames.frame(Kind.PING, 0, token))

    def drain(self) -> None:
        """Ask the peer to finish what runs and refuse what is new."""
        self.write(frames.frame(Kind.DRAIN, 0))

    def close(self) -> None:
        """Close the connection; calls in flight fail with ReplicaLost."""
        if self._transport is not None:
            self._transport.abort()

    def forget(self, stream: int) -> None:
        """Cancel one call (used by Call.cancel)."""
        if self._calls.pop(stream, None) is not None:
            self.write(frames.frame(Kind.CANCEL, stream))

    def write(self, data: bytes) -> None:
        """Put bytes on the wire; silently nothing when it is down (the calls are failed by connection_lost)."""
        if self._transport is not None and self.is_open:
            self._transport.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        try:
            for kind, stream, payload in self._reader.feed(data):
                self._take(kind, stream, payload)
        except FrameError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.is_open = False
        if not self.greeted.done():
            self.greeted.set_exception(ReplicaLost("the peer closed the connection before its HELLO"))
            self.greeted.exception()
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.fail(ReplicaLost("the replica went away while it worked on this request"))
        if self.on_lost is not None:
            self.on_lost()

    def _take(self, kind: int, stream: int, payload: bytes) -> None:
        if kind == Kind.DATA or kind == Kind.END or kind == Kind.ERROR:
            call = self._calls.get(stream)
            if call is None:
                return  # cancelled while the answer was on its way
            if kind == Kind.DATA:
                call.push(payload)
                return
            del self._calls[stream]
            if kind == Kind.END:
                call.push(frames.read_end(payload))
            else:
                call.fail(as_error(frames.read_error(payload)))
        elif kind == Kind.PONG:
            _, self.stats = frames.read_pong(payload)
            if self.on_stats is not None:
                self.on_stats(self.stats)
        elif kind == Kind.HELLO:
            self.hello = frames.read_hello(payload)
            if not self.greeted.done():
                self.greeted.set_result(self.hello)
        else:
            raise FrameError(f"a server does not send frames of kind {kind}")


async def connect(address: str, *, timeout_s: float = CONNECT_TIMEOUT_S) -> Link:
    """Connect to `address` and wait for its HELLO. Raises ReplicaLost when nobody answers in `timeout_s`."""
    loop = asyncio.get_running_loop()
    link = Link(loop)
    try:
        async with asyncio.timeout(timeout_s):
            await loop.create_unix_connection(lambda: link, socket_path(address))
            await link.greeted
    except (OSError, TimeoutError) as down:
        link.close()
        raise ReplicaLost(f"nobody answers on {address}: {down or 'no HELLO in time'}") from down
    if link.hello is not None and link.hello.wire != frames.WIRE_VERSION:
        link.close()
        raise ReplicaLost(f"{address} speaks wire version {link.hello.wire}, not {frames.WIRE_VERSION}")
    return link


def socket_path(address: str) -> str:
    """Return the path in `unix:/path`. Raises ValueError for any other kind of address."""
    kind, _, rest = address.partition(":")
    if kind != "unix" or not rest:
        raise ValueError(f"{address!r} is not an address; expected unix:/path")
    return rest


class Exchange:
    """One request, at the server's end. Ends with exactly one `end` or `fail`; both are no-ops after a cancel."""

    __slots__ = ("_budget", "_connection", "_credit", "body", "head", "is_done", "on_cancel", "stream")

    def __init__(self, connection: "_Connection", stream: int, head: RequestHead, body: bytes) -> None:
        self.stream = stream
        self.head = head
        self.body = body
        self.is_done = False  # ended, failed or cancelled: whatever is sent now is dropped
        self.on_cancel: Callable[[], None] | None = None
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

    def add_credit(self, count: int) -> None:
        """The reader made room (called by the connection)."""
        self._budget = min(self._budget + count, frames.WINDOW_BYTES)
        if self._credit is not None:
            self._credit.set()

    def _close(self) -> None:
        self.is_done = True
        self._connection.exchanges.pop(self.stream, None)
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


class _Connection(asyncio.Protocol):
    """The server's end of one connection."""

    def __init__(self, handler: Handler, open_connections: "set[_Connection]") -> None:
        self._handler = handler
        self._open = open_connections
        self._reader = FrameReader()
        self._partial: dict[int, tuple[int, RequestHead, bytearray]] = {}
        self._transport: asyncio.Transport | None = None
        self.exchanges: dict[int, Exchange] = {}

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open.add(self)
        self.write(frames.hello(self._handler.hello()))

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._partial.clear()
        for exchange in list(self.exchanges.values()):
            exchange.cancel()

    def data_received(self, data: bytes) -> None:
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
            self.write(frames.pong(payload[:8], self._handler.stats()))
        elif kind == Kind.DRAIN:
            self._handler.drain()
        else:
            raise FrameError(f"a client does not send frames of kind {kind}")

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
        try:
            if kind == Kind.CALL:
                self._handler.call(exchange)
            else:
                self._handler.request(exchange)
        except StokerError as problem:
            exchange.fail(problem)


class Server:
    """A listening frames server; `close` also closes its connections."""

    def __init__(self, listening: asyncio.AbstractServer, connections: set[_Connection], path: str) -> None:
        self._listening = listening
        self._connections = connections
        self._path = path

    async def close(self) -> None:
        """Stop listening, flush and close every connection, remove the socket file."""
        self._listening.close()
        for connection in list(self._connections):
            connection.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


async def serve(address: str, handler: Handler) -> Server:
    """Listen on `address` (mode 600). A socket file that nobody answers on is replaced. Raises OSError."""
    path = socket_path(address)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    connections: set[_Connection] = set()
    loop = asyncio.get_running_loop()
    listening = await loop.create_unix_server(lambda: _Connection(handler, connections), path)
    Path(path).chmod(0o600)
    return Server(listening, connections, path)


def refuse(method: str) -> StokerError:
    """Return the error for a method that this process does not have."""
    return Unsupported(f"this process does not answer {method!r}")
