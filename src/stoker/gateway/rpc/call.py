"""One gRPC request as the layers see it: headers out of metadata, and an answer that is waited for."""

import asyncio
import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Any, Final, NamedTuple

import grpc

from stoker.gateway.exchange import Exchange, error_headers
from stoker.gateway.http.headers import WANTED
from stoker.gateway.http.incoming import HttpRequest
from stoker.gateway.router import Route
from stoker.protocol import grpc_status, oip, protobuf
from stoker.types.errors import DeadlineExceeded, InvalidInput, StokerError

DETAILS_MAX: Final = 1000  # characters; clients take 8 KiB of trailers, in which some characters become three
CLOCKS_S: Final = 0.05  # the way of a call to a busy gateway
_NAMES: Final = {name.decode(): name for name in WANTED if not name.startswith((b"content", b"transfer", b"inference"))}
_OF_BODIES: Final = ("content-", "inference-header-", "x-should-retry")  # what says nothing over gRPC
_CODES: Final[dict[int, Any]] = {code.value[0]: code for code in grpc.StatusCode}


class Answer(NamedTuple):
    """What the layers answered, as HTTP would have it; errors as RpcShapes writes them."""

    status: int
    headers: bytes
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a header."""
        found = (b"\r\n" + self.headers).find(b"\r\n%b: " % name)
        if found < 0:
            return None
        begin = found + len(name) + 2
        return self.headers[begin : self.headers.index(b"\r", begin)]

    def trailers(self) -> list[tuple[str, str]]:
        """Return what the layers say beside the answer (request id, limits, when to come back) as metadata."""
        lines = (line.partition(": ") for line in self.headers.decode("latin-1").split("\r\n") if line)
        return [(name.lower(), value) for name, _, value in lines if not name.lower().startswith(_OF_BODIES)]


class RpcShapes:
    """Errors until they become a status: its number and the error's code, a line end, the sentence."""

    def error_body(self, problem: StokerError) -> bytes:
        """See Shapes."""
        return b"%d %b\n%b" % (
            grpc_status.status_of(type(problem)),
            problem.code.encode(),
            oip.error_text(problem).encode(),
        )

    def error_event(self, problem: StokerError) -> bytes:
        """See Shapes; an infer request is answered whole."""
        return b""


class Call:
    """Where one request's answer goes (exchange.Client). `is_raw`: its tensors came as raw contents."""

    __slots__ = ("answer", "id", "is_raw", "is_stalled", "on_writable")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answer: asyncio.Future[Answer] = loop.create_future()
        self.id = ""  # as the client calls the request
        self.is_raw = True
        self.is_stalled = False  # gRPC holds what a client does not read, and that is one answer
        self.on_writable: Callable[[], None] | None = None

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        """See exchange.Client."""
        self.on_writable = None  # it holds the relay, and that this: bodies would stay until the collector runs
        if not self.answer.done():
            self.answer.set_result(Answer(status, headers, body))

    def start_stream(self, headers: bytes, first: bytes) -> None:
        """See exchange.Client; nothing that is asked here is answered in pieces."""
        raise AssertionError("an answer over gRPC is whole")

    def send_piece(self, data: bytes) -> None:
        """See exchange.Client."""
        raise AssertionError("an answer over gRPC is whole")

    def comment(self, data: bytes, headers: bytes = b"") -> None:
        """See exchange.Client."""
        raise AssertionError("an answer over gRPC is whole")

    def end_stream(self, last: bytes) -> None:
        """See exchange.Client."""
        raise AssertionError("an answer over gRPC is whole")

    def hold(self, count: int) -> None:
        """See exchange.Client; no content coding is read out of metadata."""
        raise AssertionError("a message over gRPC is decompressed before it is counted")

    def abort(self) -> None:
        """See exchange.Client."""
        self.on_writable = None
        self.answer.cancel()


def read_head(
    method: str, metadata: Iterable[tuple[str, str | bytes]], started_s: float, more: AbstractSet[bytes]
) -> HttpRequest:
    """Return the head of a request: the metadata that anybody here reads, and what is in `more`."""
    headers: dict[bytes, bytes] = {}
    for name, value in metadata:
        known = _NAMES.get(name)
        if known is not None:
            headers[known] = value.encode() if isinstance(value, str) else value
        elif more and name.encode() in more:
            headers[name.encode()] = value.encode() if isinstance(value, str) else value
    return HttpRequest(b"POST", method.encode(), headers, started_s)


def hold_deadline(head: HttpRequest, remaining_s: float | None) -> None:
    """Let the deadline of the call be the request's, unless `x-request-timeout-ms` names an earlier one."""
    if remaining_s is None:
        return
    own_ms = max(int(remaining_s * 1000), 1) + int((time.monotonic() - head.started_s) * 1000)
    wanted = head.headers.get(b"x-request-timeout-ms")
    if wanted is None or (wanted.isdigit() and len(wanted) <= 12 and int(wanted) > own_ms):
        head.headers[b"x-request-timeout-ms"] = b"%d" % own_ms


def is_late(remaining_s: float | None) -> bool:
    """Return whether a call that its client ended with so much left ended by its deadline; None: it has none.

    The client's clock began before the call was here, so its deadline comes before ours by what the way took.
    """
    return remaining_s is not None and remaining_s <= CLOCKS_S


def give_up(exchange: Exchange, remaining_s: float | None) -> None:
    """End what nobody waits for any more: the client went away, or its deadline passed."""
    if is_late(remaining_s):
        exchange.interrupt(DeadlineExceeded("the deadline of the call passed"))
    elif exchange.task is not None:
        exchange.task.cancel()


async def ask(route: Route, head: HttpRequest, names: tuple[str, str], context: Any) -> Answer:
    """Send one request through the layers; return its answer once it is there."""
    loop = asyncio.get_running_loop()
    call = Call(loop)
    exchange = Exchange(call, head, route, *names)
    exchange.task = loop.create_task(route.handle(exchange))
    try:
        return await call.answer
    except asyncio.CancelledError:
        give_up(exchange, context.time_remaining())
        raise


async def refuse(context: Any, answer: Answer) -> None:
    """End the call with the error in `answer`. Does not return."""
    first, _, text = answer.body.partition(b"\n")
    number, _, code = first.partition(b" ")
    trailers = [("x-stoker-code", code.decode()), *answer.trailers()]
    retry_after = answer.header(b"retry-after")
    if retry_after is not None:
        trailers.append(("grpc-retry-pushback-ms", f"{int(retry_after) * 1000}"))  # what gRPC's own retries obey
    await context.abort(_CODES[int(number)], text.decode()[:DETAILS_MAX], tuple(trailers))


async def refuse_with(context: Any, problem: StokerError, request_id: str) -> None:
    """End the call with `problem`, which no layer told. Does not return."""
    headers = b"%bx-request-id: %b\r\n" % (error_headers(problem), request_id.encode())
    await refuse(context, Answer(problem.status, headers, RpcShapes().error_body(problem)))


def decode(kind: Any, message: bytes) -> Any:
    """Return the protobuf message. Raises InvalidInput."""
    try:
        return kind.FromString(message)
    except protobuf.DecodeError as broken:
        raise InvalidInput(f"the message is no {kind.DESCRIPTOR.name}: {broken}") from broken
