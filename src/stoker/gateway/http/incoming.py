"""What a client's bytes mean: HTTP/1.0 and 1.1 requests, each judged as early as it can be.

httptools (llhttp in its strict mode) parses, and refuses framing that two readers could understand differently. The
limits it does not have are here: size of the head, number of headers, size of the body, headers that come twice.
"""

import re
import time
from collections.abc import Set as AbstractSet
from typing import Final, Protocol

import httptools

from stoker.gateway.http.headers import LISTS, WANTED
from stoker.gateway.http.known import MISSES_MAX, Known, remember
from stoker.types.errors import InvalidInput, StokerError, TooLarge, Unavailable

HEAD_MAX_BYTES: Final = 32 << 10
HEADERS_MAX: Final = 128
SMALL_BODY_BYTES: Final = 16 << 10  # comes with its head; judged with the request, not before it
# Of chunk sizes, extensions and trailers in a row, without a byte of body between: the parser holds trailers, and a
# trailer that never ends would else take memory as fast as the network brings it.
FRAMING_MAX_BYTES: Final = 32 << 10
_HOST: Final = re.compile(
    rb"(?:[\w.~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?"
)  # RFC 9110, 7.2; may be empty


class Phase:
    """What is expected from the client next. No enum, for the reason of frames.Kind: each request asks ten times."""

    IDLE: Final = 0
    HEAD: Final = 1
    BODY: Final = 2
    DEAF: Final = 3  # nothing; what comes is ignored until the connection ends


class HttpRequest:
    """One request, its body complete. `headers` holds those that are read, names in lower case."""

    __slots__ = (
        "address",
        "body",
        "headers",
        "is_1_0",
        "keep_alive",
        "method",
        "path",
        "query",
        "reserved",
        "started_s",
    )

    def __init__(self, method: bytes, target: bytes, headers: dict[bytes, bytes], started_s: float) -> None:
        self.method = method
        self.path, _, self.query = target.partition(b"?")
        self.headers = headers
        self.address = ""  # of the client, where the connection told
        self.body = b""
        self.keep_alive = True
        self.is_1_0 = False
        self.reserved = 0  # bytes of the process' allowance for bodies that this request holds
        self.started_s = started_s


class Owner(Protocol):
    """The connection that the bytes come from."""

    def take(self, request: HttpRequest) -> None:
        """Take a complete request."""

    def refuse(self, problem: StokerError) -> None:
        """Stop reading and tell `problem`."""

    def say_continue(self) -> None:
        """Tell the client to send its body."""

    def body_limit(self, request: HttpRequest) -> int:
        """Return how many body bytes `request` may have; raises StokerError to refuse it before its body."""

    def reserve(self, count: int) -> bool:
        """Take `count` bytes of the process' allowance for bodies; False when it is used up."""

    def now_s(self) -> float:
        """Return the time of the last sweep."""


class _Nobody:
    """The owner of what is closed: parser, reader and connection know each other, and would else outlive their end
    until the collector next looks through everything (3.9 KB each; it does so when there is a quarter more)."""

    def take(self, request: HttpRequest) -> None:
        """See Owner."""

    def refuse(self, problem: StokerError) -> None:
        """See Owner."""

    def say_continue(self) -> None:
        """See Owner."""

    def body_limit(self, request: HttpRequest) -> int:
        """See Owner."""
        return 0

    def reserve(self, count: int) -> bool:
        """See Owner."""
        return False

    def now_s(self) -> float:
        """See Owner."""
        return 0.0


_NOBODY: Final = _Nobody()


class Incoming:
    """The state of reading. Never holds more than one head, one body within its limit, and what one read brought."""

    __slots__ = (
        "_begun", "_body", "_first_piece", "_framing_bytes", "_head_bytes", "_headers", "_headers_count", "_host",
        "_known", "_limit", "_misses", "_more", "_owner", "_parser", "_raw_left", "_target", "phase", "phase_s",
        "received", "request",
    )  # fmt: skip
    __deletable__ = ("_parser",)  # compiled, too (docs/decisions/compiled-hot-path.md)

    def __init__(self, owner: Owner, more: AbstractSet[bytes] = frozenset()) -> None:
        self._owner = owner
        self._more = more  # headers that a rollout reads besides the WANTED ones
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._headers_count = 0
        self._head_bytes = 0
        self._begun = 0  # heads, within one read
        self._host = b""  # the last one that was well-formed: most clients name the same with each request
        self._first_piece = b""
        self._body: bytearray | None = None
        self._framing_bytes = 0
        self._limit = 0
        self._raw_left = -1  # body bytes that are not for the parser: behind a known head, or an offer to upgrade
        self._known: Known | None = None  # the last head, if it may be known again
        self._misses = 0  # heads in a row that were another than the last
        self.phase = Phase.IDLE
        self.phase_s = owner.now_s()  # since when
        self.received = 0  # body bytes of the request on its way
        self.request: HttpRequest | None = None  # its head is here, its body on the way

    def feed(self, data: bytes) -> None:
        """Read `data`, which calls the owner with every request that it completes."""
        while data and self.phase != Phase.DEAF:
            if self._raw_left > 0:
                data = self._take_raw(data)
            elif (
                self._known is None
                or self.phase != Phase.IDLE
                or (found := self._known.match(data, self._more)) is None
            ):
                data = self._parse(data)
            else:
                data = self._begin_known(self._known, found[1], data[found[0] :])

    def deafen(self) -> None:
        """Expect nothing more."""
        self.phase = Phase.DEAF
        self.phase_s = self._owner.now_s()

    def close(self) -> None:
        """Expect nothing more, and let go of the connection: it has ended. Nothing may be fed after this."""
        self.deafen()
        self._owner = _NOBODY
        del self._parser

    def on_message_begin(self) -> None:
        """Start a request (a pipelined one may follow in the same read)."""
        self._begun += 1
        if self.phase != Phase.DEAF:
            self._begin_head()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header, or a trailer, which is counted and ignored."""
        self._headers_count += 1
        self._head_bytes += len(name) + len(value)
        if self._headers_count > HEADERS_MAX or self._head_bytes > HEAD_MAX_BYTES:
            self._owner.refuse(TooLarge(f"over {HEADERS_MAX} headers or {HEAD_MAX_BYTES} bytes of them"))
        elif self.phase == Phase.HEAD:
            name = name.lower()
            if name in WANTED:
                if name in self._headers and name != b"connection":
                    value = self._again(name, value)
                self._headers[name] = value
            elif name in self._more:
                self._headers[name] = value

    def on_headers_complete(self) -> None:
        """Judge what the head alone tells: its form, and whether the body may come."""
        if self.phase == Phase.DEAF:
            return
        headers = self._headers
        request = HttpRequest(self._parser.get_method(), self._target, headers, time.monotonic())
        self.phase = Phase.BODY
        self.phase_s = self._owner.now_s()
        self.request = request
        self.received = 0
        self._limit = SMALL_BODY_BYTES
        request.keep_alive = self._parser.should_keep_alive()
        host = headers.get(b"host")
        # A request of HTTP/1.1 stays alive unless it says otherwise: only the others are asked for their version.
        if not request.keep_alive or b"connection" in headers or host is None or host != self._host:
            problem = self._judge_head(request, host)
            if problem is not None:
                self._owner.refuse(problem)
                return
        length = int(headers.get(b"content-length", b"0"))
        if b"upgrade" in headers or request.method == b"CONNECT":
            self._judge_upgrade(request, length)
        if length > SMALL_BODY_BYTES or b"transfer-encoding" in headers or b"expect" in headers:
            self._judge_body(request, length)

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        request = self.request
        if request is None or self.phase == Phase.DEAF:
            return
        if self.received == 0:
            self._first_piece = data
        else:
            if self._body is None:
                self._body = bytearray(self._first_piece)
            self._body += data  # one buffer: a body sent in one-byte chunks must not become a million objects
        self.received += len(data)
        if b"transfer-encoding" in request.headers:
            if self.received > self._limit:
                self._owner.refuse(TooLarge(f"the body is over {self._limit} bytes", field="body"))
            elif self._owner.reserve(len(data)):
                request.reserved += len(data)
            else:
                self._owner.refuse(Unavailable("the gateway holds as many bodies as it can", retry_after_s=1.0))

    def on_message_complete(self) -> None:
        """Hand the request over."""
        request = self.request
        if request is None or self.phase == Phase.DEAF or self._raw_left > 0:
            return
        self.request = None
        self._raw_left = -1
        request.body = self._first_piece if self._body is None else bytes(self._body)
        self._first_piece, self._body = b"", None
        if request.keep_alive:
            self.phase = Phase.IDLE
            self.phase_s = self._owner.now_s()
        else:
            self.deafen()
        self._owner.take(request)

    def _again(self, name: bytes, value: bytes) -> bytes:
        """Return the value of a header that came before: joined for a list (RFC 9110, 5.3), else it is refused.

        Nobody is refused for what he says of his trace; two of them are none.
        """
        if name in LISTS:
            return self._headers[name] + b", " + value
        if name != b"traceparent":
            self._owner.refuse(InvalidInput(f"the header {name.decode()} is there twice", field=name.decode()))
        return b""

    def _begin_head(self) -> None:
        self.phase = Phase.HEAD
        self.phase_s = self._owner.now_s()
        self._target = b""
        self._headers = {}
        self._headers_count = 0
        self._head_bytes = 0

    def _begin_known(self, known: Known, length: int, rest: bytes) -> bytes:
        """Begin a request with a head that was judged before. The parser does not see it, nor its body."""
        self.request = HttpRequest(known.method, known.target, known.headers, time.monotonic())
        self.phase = Phase.BODY
        self.phase_s = self._owner.now_s()
        self.received = self._misses = 0
        self._raw_left = length
        if length == 0:
            self.on_message_complete()
        return rest

    def _remember(self, data: bytes) -> None:
        """Keep the head that `data` began with, unless this client says another one each time."""
        self._known = None
        is_kept = self.phase == Phase.IDLE or (self.request is not None and self.request.keep_alive)
        if self._misses < MISSES_MAX and is_kept and self._parser.get_http_version() == "1.1":
            self._misses += 1
            self._known = remember(data, self._parser.get_method(), self._target, self._headers, self._more)

    def _parse(self, data: bytes) -> bytes:
        is_first = self.phase == Phase.IDLE
        self._begun = -1 if is_first else 0  # one that begins with the read is all of it
        if is_first:
            self._begin_head()
        request, received = self.request, self.received
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parser = httptools.HttpRequestParser(self)  # for the request that follows it, and its body
            return data[upgrade.args[0] :]
        except httptools.HttpParserError as broken:
            if self.phase != Phase.DEAF:  # after a last request, or a refusal, nothing that follows matters
                self._owner.refuse(InvalidInput(_words(str(broken))))
            return b""
        if is_first and self._begun == 0 and self.phase in (Phase.IDLE, Phase.BODY):
            self._remember(data)
        if self.phase == Phase.HEAD:  # the parser holds what has no end yet, so the bytes count, not the headers
            # Of a head that began behind other requests in this read, it is not known how much is its own.
            self._head_bytes += len(data) if self._begun <= 0 else 0
            if self._head_bytes > HEAD_MAX_BYTES:
                self._owner.refuse(TooLarge(f"the request head is over {HEAD_MAX_BYTES} bytes"))
        elif request is not None and self.request is request and self.received == received:
            self._framing_bytes += len(data)
            if self._framing_bytes > FRAMING_MAX_BYTES:
                self._owner.refuse(
                    TooLarge(f"over {FRAMING_MAX_BYTES} bytes of chunk framing or trailers", field="body")
                )
        else:
            self._framing_bytes = 0
        return b""

    def _take_raw(self, data: bytes) -> bytes:
        """Take the body of a request whose body the parser does not see; return what follows it."""
        mine, rest = data[: self._raw_left], data[self._raw_left :]
        self.on_body(mine)
        self._raw_left -= len(mine)
        if self._raw_left == 0:
            self.on_message_complete()
        return rest

    def _judge_head(self, request: HttpRequest, host: bytes | None) -> StokerError | None:
        """Return what is wrong with the version or the host."""
        version = self._parser.get_http_version()
        request.is_1_0 = version == "1.0"
        if version not in ("1.0", "1.1"):
            return InvalidInput(f"HTTP/{version} is not spoken here; use HTTP/1.1")
        if host is None:
            return None if request.is_1_0 else InvalidInput("HTTP/1.1 needs a Host header", field="host")
        if host != self._host and _HOST.fullmatch(host) is None:
            return InvalidInput(f"{host[:64].decode('latin-1')!r} is no host", field="host")
        self._host = host
        return None

    def _judge_upgrade(self, request: HttpRequest, length: int) -> None:
        """Decline an offer of HTTP/2 or WebSocket (Java's client makes one with every request) by ignoring it."""
        if b"transfer-encoding" in request.headers or request.method == b"CONNECT":
            self._owner.refuse(InvalidInput("this request cannot be upgraded", field="upgrade"))
        elif self._parser.should_upgrade():
            self._raw_left = length

    def _judge_body(self, request: HttpRequest, length: int) -> None:
        coding = request.headers.get(b"transfer-encoding")
        # What is coded otherwise besides would be handed on as if it were not; a reader of HTTP/1.0 sees no chunks.
        if coding is not None and (request.is_1_0 or coding.strip(b" \t").lower() != b"chunked"):
            said = InvalidInput("a body may be chunked, in HTTP/1.1, and nothing else", field="transfer-encoding")
            self._owner.refuse(said)
            return
        try:
            self._limit = self._owner.body_limit(request)
            if length > self._limit:
                raise TooLarge(f"a body of {length} bytes; at most {self._limit} are allowed", field="body")
            if length > SMALL_BODY_BYTES:
                if not self._owner.reserve(length):
                    raise Unavailable("the gateway holds as many bodies as it can; retry", retry_after_s=1.0)
                request.reserved = length
            expectation = request.headers.get(b"expect")
            if expectation is not None and expectation.lower() != b"100-continue":
                raise InvalidInput(f"unknown expectation {expectation[:40]!r}", field="expect")
        except StokerError as problem:
            self._owner.refuse(problem)
            return
        if expectation is not None:
            self._owner.say_continue()


def _words(broken: str) -> str:
    """Return the parser's words, with a hint where it meets another protocol."""
    if "PRI/Upgrade" in broken:
        return "HTTP/2 is not spoken here; use HTTP/1.1"
    return f"not a valid HTTP request: {broken}"
