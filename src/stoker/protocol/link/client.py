"""The client's end of a link: calls out, answers in, and what the peer last said of itself."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from stoker.core.certificates import Door
from stoker.protocol import frames, secure
from stoker.protocol.frames import EndHead, FrameError, FrameReader, Hello, Kind, RequestHead
from stoker.protocol.link.cork import Cork
from stoker.protocol.link.wire import as_error, socket_path
from stoker.types.errors import ReplicaLost, StokerError
from stoker.types.replica import ReplicaStats

CONNECT_TIMEOUT_S = 2.0


class Receiver(Protocol):
    """Who takes the answer to one request, inside the loop's read. Neither method may raise or block."""

    def push(self, event: bytes | tuple[EndHead, bytes]) -> None:
        """Take a piece of the answer, or its end. Whoever takes pieces gives credit for them."""

    def fail(self, problem: StokerError) -> None:
        """Take the end of a request that failed: the replica's own error, or ReplicaLost."""


class Sender(Protocol):
    """What takes requests and brings their answers: a Link, or what speaks to a replica's server itself."""

    loop: asyncio.AbstractEventLoop

    def send(self, receiver: Receiver, head: RequestHead, body: bytes = b"") -> int:
        """Send a request and return its number; the answer goes to `receiver`, but not within this call.

        Raises StokerError for what cannot be sent.
        """

    def forget(self, stream: int) -> None:
        """Cancel one request; its receiver hears nothing more."""

    def credit(self, stream: int, count: int) -> None:
        """Allow `count` more bytes of its answer."""


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
        self.on_doubt: Callable[[], str] | None = None  # of a peer on another node: why it is trusted no more
        self.is_open = False
        self.greeted: asyncio.Future[Hello] = loop.create_future()
        self._reader = FrameReader()
        self._calls: dict[int, Receiver] = {}
        self._transport: asyncio.Transport | None = None
        self._cork: Cork | None = None
        self._next_stream = 1

    @property
    def in_flight(self) -> int:
        """Calls not yet ended."""
        return len(self._calls)

    def call(self, head: RequestHead, body: bytes = b"", *, kind: int = Kind.REQUEST) -> Call:
        """Send a request and return its call at once. Raises ReplicaLost when the connection is down.

        `head.body_bytes` must equal `len(body)`.
        """
        call = Call(self, self._next_stream)
        self.send(call, head, body, kind=kind)
        return call

    def send(self, receiver: Receiver, head: RequestHead, body: bytes = b"", *, kind: int = Kind.REQUEST) -> int:
        """Send a request whose answer goes to `receiver` as it arrives; return its stream. Otherwise as `call`."""
        if not self.is_open:
            raise ReplicaLost("the connection to the replica is down")
        stream = self._next_stream
        self._next_stream = stream % 0xFFFFFFFF + 1
        self._calls[stream] = receiver
        if len(body) <= frames.INLINE_MAX:
            self.write(frames.with_head(kind, stream, head, body))
            return stream
        view = memoryview(body)
        self.write(frames.with_head(kind, stream, head, view[: frames.INLINE_MAX]))
        for at in range(frames.INLINE_MAX, len(body), frames.INLINE_MAX):
            self.write(frames.frame(Kind.DATA, stream, view[at : at + frames.INLINE_MAX]))
        return stream

    def ping(self, token: bytes = b"\0" * 8, passed: tuple[int, int] = (0, 0)) -> None:
        """Ask for statistics; the answer arrives in `stats` and `on_stats`. `passed`: see frames.ping."""
        self.write(frames.ping(token, passed))

    def doubt(self) -> None:
        """Close the connection when its peer is on another node and trusted no more."""
        if self.on_doubt is not None and self.on_doubt():
            self.close()

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

    def credit(self, stream: int, count: int) -> None:
        """See Sender."""
        self.write(frames.credit(stream, count))

    def write(self, data: bytes) -> None:
        """Put bytes on the wire; silently nothing when it is down (the calls are failed by connection_lost)."""
        if self._cork is not None and self.is_open:
            self._cork.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self._cork = Cork(self._transport, self.loop)
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
        if kind == Kind.DATA:
            call = self._calls.get(stream)
            if call is not None:  # else it was cancelled while the answer was on its way
                call.push(payload)
        elif kind == Kind.END or kind == Kind.ERROR:
            call = self._calls.pop(stream, None)
            if call is None:
                return
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
            if address.startswith(secure.PREFIX):
                await _connect_far(link, address)
            else:
                await loop.create_unix_connection(lambda: link, socket_path(address))
                await link.greeted
    except asyncio.CancelledError:
        link.close()
        raise
    except (OSError, ValueError, TimeoutError) as down:
        link.close()
        raise ReplicaLost(f"nobody answers on {address}: {str(down) or 'no HELLO in time'}") from down
    if link.hello is not None and link.hello.wire != frames.WIRE_VERSION:
        link.close()
        raise ReplicaLost(f"{address} speaks wire version {link.hello.wire}, not {frames.WIRE_VERSION}")
    return link


async def _connect_far(link: Link, address: str) -> None:
    """Connect to a process on another node and make sure who it is, by its certificate and its HELLO."""
    far = secure.parse(address)
    mine, door = secure.known(far.folder), Door((far.role,), far.node)
    mine.look()
    transport, _ = await link.loop.create_connection(lambda: link, far.host, far.port, ssl=mine.client)
    peer = secure.peer_of(transport.get_extra_info("peercert"))
    if why := mine.judged(peer, door):
        raise ConnectionRefusedError(why)
    hello = await link.greeted
    if hello.name != far.name:  # another replica has the port by now, and this caller has not heard yet
        raise ConnectionRefusedError(f"{hello.name} answers there")
    # A certificate that ended is no doubt: its owner has another one by now, which open connections need not show.
    link.on_doubt = lambda: mine.doubt(peer, door)
