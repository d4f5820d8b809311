"""One client connection: requests one after the other, one answer at a time, every wait bounded.

A bare asyncio.Protocol, not uvicorn: on one machine and workload (POST of 300 bytes, 64 connections, a task a request)
uvicorn's cycle costs 23 µs of processor a request and this 10; and uvicorn never ends a half-sent head, a dripping
body or an answer that nobody reads.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Protocol, cast

from stoker.gateway.http import replies
from stoker.gateway.http.incoming import HttpRequest, Incoming, Phase
from stoker.types.errors import ClientTooSlow, StokerError, Unavailable


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how much a client may take."""

    head_s: float = 10.0  # from a head's first byte to its last, and for a new connection's first byte
    idle_s: float = 75.0  # between requests; over the 60 s after which common clients drop theirs
    body_grace_s: float = 10.0
    stall_grace_s: float = 20.0
    bytes_per_s: int = 8 << 10  # after the grace a body, or the reading of an answer, must be faster than this
    linger_s: float = 2.0  # a refused sender is read (and ignored) so long, else a reset would destroy the answer
    connections_max: int = 8192  # a process; less where it may open fewer files
    per_address_max: int = 2048  # of them from one client address, so that one client cannot take all; 0: no limit
    bodies_max_bytes: int = 512 << 20  # held by a process at once, of bodies over incoming.SMALL_BODY_BYTES


LINGER_BYTES: Final = 64 << 20
WRITE_HIGH_BYTES: Final = 64 << 10


class Site(Protocol):
    """What a connection needs from the process around it."""

    now_s: float  # of the last sweep; exact enough for time limits
    date_line: bytes
    is_draining: bool
    limits: Limits
    wanted: AbstractSet[bytes]  # headers that are read besides those of headers.WANTED

    def enter(self, connection: "Connection", address: str) -> StokerError | None:
        """Count a new connection from `address`; return why it is one too many, if it is."""

    def leave(self, connection: "Connection", address: str) -> None:
        """Count it no more."""

    def serve(self, connection: "Connection", request: HttpRequest) -> None:
        """Take a complete request; answer through `connection`, now or later."""

    def body_limit(self, request: HttpRequest) -> int:
        """Return how many body bytes `request` may have; raises StokerError to refuse it before its body."""

    def refusal(self, request: HttpRequest | None, problem: StokerError) -> tuple[bytes, bytes]:
        """Return header lines and body that tell `problem` in the shape of the request's protocol."""

    def reserve(self, count: int) -> bool:
        """Take `count` bytes of the allowance for bodies; False when it is used up."""

    def release(self, count: int) -> None:
        """Give back what `reserve` took."""


class Connection(asyncio.Protocol):
    """Both directions of one socket. Pipelined requests wait, unread beyond what one read brought."""

    __slots__ = (
        "_address", "_ignored_bytes", "_incoming", "_is_paused", "_is_pumping", "_is_streaming", "_ready", "_refusal",
        "_site", "_stall_drained_bytes", "_stall_s", "_transport", "_written_bytes", "active", "is_lost", "is_stalled",
        "on_gone", "on_writable",
    )  # fmt: skip

    def __init__(self, site: Site) -> None:
        self._site = site
        self._incoming = Incoming(self, site.wanted)
        self._ready: deque[HttpRequest] = deque()
        self._refusal: StokerError | None = None
        self._address = ""
        self._is_pumping = False
        self._is_paused = False
        self._is_streaming = False
        self._ignored_bytes = 0
        self._written_bytes = 0
        self._stall_s = 0.0
        self._stall_drained_bytes = 0
        self.active: HttpRequest | None = None  # the request being answered
        self.is_lost = False
        self.is_stalled = False  # the client reads slower than we write; fetch no more for it
        self.on_gone: Callable[[], object] | None = None
        self.on_writable: Callable[[], None] | None = None

    # ---- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol. Over the process' maximum the connection is told so at once."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        peer = transport.get_extra_info("peername")
        self._address = peer[0] if peer else ""
        problem = self._site.enter(self, self._address)
        if problem is not None:
            self.refuse(problem)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.is_lost = True
        self._site.leave(self, self._address)
        self._incoming.close()
        for request in (self.active, self._incoming.request, *self._ready):
            if request is not None:
                self._free(request)
        self._ready.clear()
        gone, self.on_gone, self.on_writable = self.on_gone, None, None
        if gone is not None:
            gone()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        incoming = self._incoming
        if incoming.phase == Phase.DEAF:
            self._ignored_bytes += len(data)
            if self._ignored_bytes > LINGER_BYTES:
                self._transport.abort()
            return
        incoming.feed(data)
        self._pump()

    def pause_writing(self) -> None:
        """See asyncio.Protocol: the client is behind by WRITE_HIGH_BYTES."""
        self.is_stalled = True
        self._stall_s = self._site.now_s
        self._stall_drained_bytes = self._drained_bytes()
        if self.active is None:
            self._pump()

    def resume_writing(self) -> None:
        """See asyncio.Protocol: the client caught up."""
        self.is_stalled = False
        if self.on_writable is not None:
            self.on_writable()
        if self.active is None:
            self._pump()

    # ---- what the site calls

    def sweep(self, now_s: float) -> None:
        """End what takes too long. Called a few times a second."""
        limits, incoming = self._site.limits, self._incoming
        if self.is_stalled:
            late_s = now_s - self._stall_s - limits.stall_grace_s
            if late_s > 0 and self._drained_bytes() - self._stall_drained_bytes < late_s * limits.bytes_per_s:
                self._transport.abort()
            return
        waited_s = now_s - incoming.phase_s
        if incoming.phase == Phase.DEAF:
            if self.active is None and self._refusal is None and waited_s > limits.linger_s:
                self._transport.abort()
        elif self._is_paused:
            return  # we do not read, so the client is not to blame
        elif incoming.phase == Phase.HEAD:
            if waited_s > limits.head_s:
                self.refuse(ClientTooSlow(f"the request head did not arrive in {limits.head_s:g} s"))
        elif incoming.phase == Phase.BODY:
            if incoming.received < (waited_s - limits.body_grace_s) * limits.bytes_per_s:
                self.refuse(ClientTooSlow(f"the body arrives slower than {limits.bytes_per_s} bytes a second"))
        elif self.active is None and waited_s > (limits.idle_s if self._written_bytes else limits.head_s):
            self._transport.close()

    def close_if_idle(self) -> None:
        """Close the connection unless a request is on it."""
        if self.active is None and not self._ready and self._incoming.phase == Phase.IDLE:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection now."""
        self._transport.abort()

    # ---- what the reader calls (incoming.Owner)

    def take(self, request: HttpRequest) -> None:
        """Queue a complete request behind those that came before it."""
        request.address = self._address
        self._ready.append(request)

    def refuse(self, problem: StokerError) -> None:
        """Stop reading; `problem` is told once the requests before this one are answered."""
        if self._refusal is None and not self.is_lost and self._incoming.phase != Phase.DEAF:
            self._refusal = problem
            self._incoming.deafen()
            asyncio.get_running_loop().call_soon(self._pump)

    def say_continue(self) -> None:
        """Tell the client to send its body; behind another request it goes on by itself after a moment."""
        if self.active is None and not self._ready:
            self._write(replies.CONTINUE)

    def body_limit(self, request: HttpRequest) -> int:
        """See Site."""
        request.address = self._address
        return self._site.body_limit(request)

    def reserve(self, count: int) -> bool:
        """See Site."""
        return self._site.reserve(count)

    def now_s(self) -> float:
        """Return the time of the last sweep."""
        return self._site.now_s

    def hold(self, count: int) -> None:
        """Count `count` more bytes for the body of the active request (it was compressed). Raises Unavailable."""
        request = self.active
        if request is not None:
            if not self._site.reserve(count):
                raise Unavailable("the gateway holds as many bodies as it can; retry", retry_after_s=1.0)
            request.reserved += count

    # ---- answering

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        """Answer the active request whole. `headers` are complete lines, without Content-Length and Connection."""
        request = self.active
        if request is None or self.is_lost:
            return
        self._write(replies.whole(status, headers, body, self._connection_line(request), request.method == b"HEAD"))
        self._finish(request)

    def start_stream(self, headers: bytes, first: bytes) -> None:
        """Answer the active request with 200, header lines and the first piece, in one write."""
        request = self.active
        if request is not None and not self.is_lost:
            self._is_streaming = True
            self._write(replies.stream_start(headers, first, self._connection_line(request), request.is_1_0))

    def send_piece(self, data: bytes) -> None:
        """Write one piece of a stream."""
        request = self.active
        if request is not None and data:  # an empty chunk would end the body
            self._write(data if request.is_1_0 else b"%x\r\n%b\r\n" % (len(data), data))

    def comment(self, data: bytes, headers: bytes = b"") -> None:
        """Write what is no part of the answer; with `headers` the stream begins so."""
        if headers:
            self.start_stream(headers, data)
        else:
            self.send_piece(data)

    def end_stream(self, last: bytes) -> None:
        """Write the last piece of a stream (it may be empty) and its end, in one write."""
        request = self.active
        if request is None or self.is_lost:
            return
        self._is_streaming = False
        if request.is_1_0:
            self._write(last)
        else:
            self._write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last) if last else b"0\r\n\r\n")
        self._finish(request)

    def _drained_bytes(self) -> int:
        return self._written_bytes - self._transport.get_write_buffer_size()

    def _connection_line(self, request: HttpRequest) -> bytes:
        if not request.keep_alive or self._site.is_draining or (request.is_1_0 and self._is_streaming):
            request.keep_alive = False
            return self._site.date_line + replies.CLOSE
        return self._site.date_line + replies.KEEP_ALIVE if request.is_1_0 else self._site.date_line

    def _write(self, data: bytes) -> None:
        if not self.is_lost and not self._transport.is_closing():
            self._written_bytes += len(data)
            self._transport.write(data)

    def _finish(self, request: HttpRequest) -> None:
        self._free(request)
        self.active = None
        self.on_gone = self.on_writable = None
        if not request.keep_alive:
            self._ready.clear()
            self._refusal = None
            self._end()
            return
        if self._incoming.phase == Phase.IDLE:
            self._incoming.phase_s = self._site.now_s
        if self._ready or self._refusal is not None or self._is_paused:
            self._pump()

    def _pump(self) -> None:
        """Start the next request if none is active; read on only when none waits.

        Nothing is started, nor read, for a client that does not read its answers: 400 KB of pipelined requests for
        /metrics were 96 MB of answers that waited here.
        """
        if self._is_pumping or self.is_lost:
            return
        self._is_pumping = True
        while self.active is None and self._ready and not self.is_stalled and not self.is_lost:
            self.active = request = self._ready.popleft()
            self._site.serve(self, request)
        self._is_pumping = False
        if self.active is None and not self._ready and self._refusal is not None:
            self._tell_refusal(self._refusal)
        must_pause = bool(self._ready) or (self.is_stalled and self.active is None)
        if must_pause != self._is_paused and not self.is_lost and not self._transport.is_closing():
            self._is_paused = must_pause
            if must_pause:
                self._transport.pause_reading()
            else:
                self._incoming.phase_s = self._site.now_s
                self._transport.resume_reading()

    def _tell_refusal(self, problem: StokerError) -> None:
        request, self._incoming.request, self._refusal = self._incoming.request, None, None
        headers, body = self._site.refusal(request, problem)
        if request is not None:
            self._free(request)
        self._write(replies.whole(problem.status, headers, body, self._site.date_line + replies.CLOSE))
        self._end()

    def _end(self) -> None:
        """Close for writing, and ignore what still comes for a while."""
        self._incoming.deafen()
        if not self.is_lost and not self._transport.is_closing():
            with contextlib.suppress(OSError, RuntimeError):
                self._transport.write_eof()

    def _free(self, request: HttpRequest) -> None:
        if request.reserved:
            self._site.release(request.reserved)
            request.reserved = 0
