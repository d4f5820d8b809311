"""One HTTP/1.1 connection to a server: one request at a time, kept open between them.

A bare asyncio.Protocol on httptools, as the gateway's own side is (http/connection.py). What a server sends is bounded
before it is understood: its head, an error's body, an answer that is not streamed; a stream is read at its reader's
pace. Redirects are answers like any other, and no success: the key goes only where the endpoint says.
"""

import asyncio
import ssl
import time
from typing import Final, Protocol, cast

import httptools

from stoker.gateway.remote.call import Call
from stoker.protocol.openai_chunks import status_error
from stoker.types.errors import EngineFailed, StokerError

HEAD_BYTES_MAX: Final = 64 << 10  # of an answer, and of anything else without a body byte in it
ERROR_BYTES_MAX: Final = 64 << 10
REST_BYTES_MAX: Final = 64 << 10  # after `[DONE]`
WRITE_HIGH_BYTES: Final = 1 << 20
_WANTED: Final = frozenset(
    (b"content-type", b"content-encoding", b"content-length", b"retry-after", b"transfer-encoding")
)


class Owner(Protocol):
    """What a connection needs from its pool."""

    def is_free(self, connection: "Connection") -> None:
        """Take it back: the next request may be sent on it."""

    def is_gone(self, connection: "Connection") -> None:
        """Forget it: it is closed."""

    def again(self, call: Call) -> None:
        """Send on a new connection what this one, which had been idle, lost before it was answered at all."""

    def authorization(self) -> str:
        """Return the header that says who asks, with the key in it; "" for none."""

    def keyed_again(self, call: Call, problem: StokerError) -> bool:
        """Return whether the key that the server refused is looked at again, and the call sent once more or failed."""


class Connection(asyncio.Protocol):
    """See the module. `call` is what runs on it; None while it is idle, or reads what is left of an answer."""

    __slots__ = (
        "_bare_bytes", "_body", "_has_answered", "_has_head", "_headers", "_is_complete", "_is_extra", "_is_heard",
        "_is_judged", "_is_kept", "_is_paused", "_kept", "_owner", "_parser", "_rest_bytes", "_status",
        "_transport", "_until_eof", "call", "is_open", "since_s",
    )  # fmt: skip
    __deletable__ = ("_parser",)  # compiled, too (docs/decisions/compiled-hot-path.md)

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._has_answered = False  # at least once
        self.call: Call | None = None
        self.is_open = False
        self.since_s = 0.0  # when it became idle, or had told all that is wanted of an answer
        self._is_paused = False
        self._begin()

    def _begin(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._status = 0
        self._body: list[bytes] = []  # what one read brought of it
        self._kept: bytearray | None = None  # what is understood only whole, if more than one read brought it
        self._rest_bytes = self._bare_bytes = 0
        self._is_heard = self._is_judged = self._has_head = self._until_eof = False
        self._is_complete = self._is_kept = self._is_extra = False

    # ---- what the pool calls

    def start(self, call: Call, request: bytes) -> None:
        """Send `request`; its answer is taken by `call`."""
        self._begin()
        self.call = call
        call.connection = self
        self._transport.write(request)

    def cut(self) -> None:
        """Close it now: whoever was asked learns that nobody waits."""
        self.call = None
        self._transport.abort()

    def resume(self) -> None:
        """Read on: there is room again."""
        if self._is_paused and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()

    # ---- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self.call is None and (self._is_complete or not self._is_heard):
            self._transport.abort()  # nobody asked
            return
        self._is_heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(EngineFailed("the upstream server changed the protocol, which nobody asked for"))
            return
        except httptools.HttpParserError as broken:
            if not self._is_complete:  # else it is what follows a good answer
                self._fail(EngineFailed(f"the upstream server does not speak HTTP/1.1: {broken}"))
                return
            self._is_extra = True
        if self._body:
            self._bare_bytes = 0
            self._take()
        elif not self._is_complete:
            self._bare_bytes += len(data)
            if self._bare_bytes > HEAD_BYTES_MAX:
                self._fail(EngineFailed(f"the upstream server's answer has a head of over {HEAD_BYTES_MAX} bytes"))
        if self._is_complete:
            self._complete()

    def eof_received(self) -> bool:
        """See asyncio.Protocol: close our side too."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.is_open = False
        del self._parser  # it knows this connection, and would keep it until the collector looks through everything
        self._owner.is_gone(self)
        call = self.call
        if call is None:
            return
        if self._until_eof and exc is None:
            self._complete()
        elif not self._is_heard and self._has_answered and call.may_be_sent_again():
            self.call = None
            self._owner.again(call)
        else:
            self._fail(EngineFailed(f"the connection to the upstream server broke: {_reason(exc)}"))

    # ---- what the parser calls

    def on_message_begin(self) -> None:
        """See httptools. One more answer than was asked for cannot be trusted, nor what follows it."""
        self._is_extra = self._is_complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        name = name.lower()
        if name in _WANTED:
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._status = self._parser.get_status_code()
        if self._is_extra or 100 <= self._status < 200:
            return
        self._has_head = True
        headers = self._headers
        self._until_eof = b"content-length" not in headers and b"transfer-encoding" not in headers

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        if not self._is_extra:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        if self._has_head:  # else it was one of 1xx, and the answer is still to come
            self._is_complete = True
            self._is_kept = self._parser.should_keep_alive()  # the parser knows it only now
        else:
            self._headers = {}

    # ---- answers

    def _take(self) -> None:
        """Pass on the body that one read brought."""
        call, body = self.call, self._body
        if call is None:
            self._rest_bytes += sum(map(len, body))
            body.clear()
            if self._rest_bytes > REST_BYTES_MAX:
                self._transport.abort()
        elif self._status != 200 or not call.asked.is_stream:
            self._keep(call)
        elif self._is_judged or self._is_right(call):
            self._body = []
            call.feed(body[0] if len(body) == 1 else b"".join(body))
            if call.is_over:
                self._let_go(call)
            elif call.is_full and not self._is_paused:
                self._is_paused = True
                self._transport.pause_reading()

    def _keep(self, call: Call) -> None:
        """Keep what is only understood whole, within bounds."""
        if self._is_complete and self._kept is None:
            return  # one read brought all of it
        kept = self._kept
        if kept is None:
            kept = self._kept = bytearray()
        for piece in self._body:
            kept += piece
        self._body = []
        if self._status != 200:
            if len(kept) >= ERROR_BYTES_MAX:
                self._refused(call)
        elif len(kept) > call.answer_bytes_max:
            self._fail(EngineFailed(f"the upstream server's answer is over {call.answer_bytes_max} bytes"))

    def _whole(self) -> bytes:
        """Return the body that was kept."""
        if self._kept is not None:
            return bytes(self._kept)
        return self._body[0] if len(self._body) == 1 else b"".join(self._body)

    def _complete(self) -> None:
        """The answer is here, to its last byte."""
        call = self.call
        if call is not None:
            if self._status != 200:
                self._refused(call)
            elif self._is_right(call):
                call.end(self._whole())
                self._let_go(call)
        self._kept, self._body = None, []
        if not self.is_open:
            return
        is_sent = self._transport.get_write_buffer_size() == 0  # an answer may come before its request was sent whole
        if self._is_extra or not is_sent or not self._is_kept or self._transport.is_closing():
            self._transport.abort()
            return
        self._has_answered = True
        self._owner.is_free(self)

    def _is_right(self, call: Call) -> bool:
        """Return whether a good answer has the form that was asked for; fail the call if not. Judged once an answer."""
        if self._is_judged:
            return True
        self._is_judged = True
        headers = self._headers
        coding = headers.get(b"content-encoding")
        if coding is not None and coding.strip().lower() != b"identity":
            self._fail(EngineFailed(f"the upstream server sent an answer in {_text(coding)}, which nobody asked for"))
            return False
        if not call.asked.is_stream:
            return True  # it is read whole, and judged by what it says
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"text/event-stream":
            self._fail(EngineFailed(f"the upstream server did not stream: it answered with {_text(kind)}"))
            return False
        return True

    def _refused(self, call: Call) -> None:
        """An answer that is no success."""
        after = self._headers.get(b"retry-after")
        problem = status_error(
            self._status,
            self._whole()[:ERROR_BYTES_MAX],
            _text(after) if after is not None else None,
            sent=self._owner.authorization(),
        )
        if self._is_complete:
            self.call = None
            if self._status != 401 or not self._owner.keyed_again(call, problem):
                call.fail(problem)
            self.since_s = call.ended_s or time.monotonic()
        else:
            self._fail(problem)

    def _let_go(self, call: Call) -> None:
        """The call has all it wants. What is left of the answer is read and dropped, for the connection's next use."""
        self.call = None
        self._rest_bytes = 0
        self.since_s = call.ended_s
        if call.problem is not None:
            self._transport.abort()
        elif self._is_paused:
            self.resume()

    def _fail(self, problem: StokerError) -> None:
        """End the call with `problem`, and the connection: nobody knows what it would bring next."""
        call, self.call = self.call, None
        if self.is_open:
            self._transport.abort()
        if call is not None:
            call.fail(problem)


def _reason(exc: Exception | None) -> str:
    if exc is None:
        return "it was closed before the answer was complete"
    return str(exc.reason or exc) if isinstance(exc, ssl.SSLError) else str(exc) or type(exc).__name__


def _text(value: bytes) -> str:
    return value[:100].decode("latin-1") or "no content type"
