"""One request on its way through the stack: what the layers learn of it, and how it is answered."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol

from stoker.core.occupants import Occupant
from stoker.gateway.http import replies
from stoker.gateway.http.incoming import HttpRequest
from stoker.protocol.openai_resume import Transcript
from stoker.protocol.tracecontext import Parent
from stoker.telemetry.histogram import Histogram
from stoker.types.errors import BudgetExceeded, MethodNotAllowed, QuotaExceeded, StokerError
from stoker.types.replica import Usage
from stoker.types.routes import KeyRoute
from stoker.types.traces import Try

if TYPE_CHECKING:
    from stoker.gateway.fleet.replica import Replica
    from stoker.gateway.lane import Lane
    from stoker.gateway.protocols.prefix import Wish
    from stoker.gateway.relay import Relay
    from stoker.gateway.router import Route
    from stoker.gateway.usage.record import Bill

RETRY_AFTER_MAX_S: Final = 120  # SDKs do not wait longer; some then do not retry at all
BUDGET_HEADER: Final = b"x-stoker-budget"
RESET_MAX_S: Final = 31 * 86_400  # of a quota: when its period begins anew, for callers that look
GONE: Final = 499  # the client went away before its answer; only in metrics

Work = Coroutine[Any, Any, None]
Handler = Callable[["Exchange"], Work]


class TryFailed(Exception):
    """One try at one replica failed in a way that another may not. `was_death`: the replica's process went away."""

    def __init__(self, problem: StokerError, replica: "Replica", *, was_death: bool) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.replica = replica
        self.was_death = was_death


class Shapes(Protocol):
    """What differs between the protocols when something goes wrong."""

    def error_body(self, problem: StokerError) -> bytes:
        """Return the body that tells `problem`."""

    def error_event(self, problem: StokerError) -> bytes:
        """Return the piece that tells `problem` inside a stream."""


class Client(Protocol):
    """Where the answer goes: an HTTP connection, a gRPC call, or something that listens to what these are told."""

    on_writable: Callable[[], None] | None

    @property
    def is_stalled(self) -> bool:
        """Return whether it reads slower than we write; fetch no more for it."""

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        """Answer whole."""

    def start_stream(self, headers: bytes, first: bytes) -> None:
        """Answer 200 with a stream."""

    def send_piece(self, data: bytes) -> None:
        """Write one piece of the stream."""

    def comment(self, data: bytes, headers: bytes = b"") -> None:
        """Write what is no part of the answer into the stream; with `headers` it begins so."""

    def end_stream(self, last: bytes) -> None:
        """Write the last piece, which may be empty, and the end."""

    def hold(self, count: int) -> None:
        """Count `count` more bytes for the request's body, which came compressed. Raises Unavailable."""

    def abort(self) -> None:
        """Give the client up, without an answer."""


# Of an exchange. By name, because a compiled class does not tell its slots.
FIELDS: Final = (
    "admitted_s", "arm", "arrived_s", "avoid", "band", "began_s", "between", "bill", "body", "cache_key", "caller",
    "can_move", "can_spill", "cause", "code", "connection", "cut", "deadline_s", "extra", "first_byte_s",
    "header_bytes", "id", "identity", "is_answered", "is_copied", "is_opened", "is_proven", "is_repeatable",
    "is_sampled", "is_started", "key", "known_s", "lane", "max_tokens", "method", "name", "occupant", "on_start",
    "on_trial", "piece_s", "project", "relay", "replica", "request", "resume", "revision", "route", "routed_s", "sends",
    "sent_s", "served_by", "shape", "share", "span", "status", "stream", "task", "took_s", "trace", "trail",
    "transcript", "tries", "turn", "units", "usage", "user", "version", "waited_s", "wish",
)  # fmt: skip


class Exchange:
    """One request. Layers fill it from top to bottom; `send`, `start`, … answer it, once."""

    __slots__ = FIELDS

    def __init__(self, connection: Client, request: HttpRequest, route: "Route", name: str, version: str) -> None:
        self.connection = connection
        self.request = request
        self.route = route
        self.name = name  # of the model, from the URL or the body
        self.version = version  # "" unless the URL says one
        self.id = self.user = self.cache_key = ""  # the last two as the body says, noted while a rollout runs
        # Of the trace it is part of, "" of what is no inference; and of the error that was told.
        self.trace = self.code = ""
        # Its own span in the trace; its tries at replicas, all of them and those that failed at the endpoint of now.
        self.span = self.sends = self.tries = 0
        self.caller: Parent | None = None  # where the caller stands in the trace, if it is his
        self.is_sampled = self.is_copied = False  # into a trace, from its beginning on (see tracer.py); to a shadow
        self.trail: list[Try] | None = None  # the tries that ended, where there is more than one (trail.py)
        self.key: KeyRoute | None = None
        self.project = ""  # where names are looked up
        self.band = 1  # of priority; 0 is the most urgent (core/admit.py)
        self.extra = b""  # header lines that layers add to the answer, whatever it is
        self.lane: Lane | None = None
        self.bill: Bill | None = None  # what its usage record will say; None: nobody writes one (any more)
        self.method = route.method  # as in RequestHead
        self.body = request.body
        self.began_s = request.started_s  # of what is metered now: the request, or its part at another endpoint
        # For phases.py: the whole request is here; it is known who asks for what.
        self.arrived_s = self.known_s = time.monotonic()
        # It may have a place in a replica; the try that runs now began to look for one; and waited so long. 0: not yet.
        self.admitted_s = self.routed_s = self.waited_s = 0.0
        self.served_by = ""  # the endpoint that answers, where it may be another than the one asked
        self.on_start: Callable[[], None] | None = None  # called before a stream's first piece is written
        # To another endpoint, rather than wait for replicas of this one to come back; for a server that is full.
        self.can_move = self.can_spill = False
        self.header_bytes = -1
        self.stream = False
        self.max_tokens = self.turn = 0  # that it allows for its answer, 0: unsaid; its turn, as in RequestHead
        self.deadline_s = self.sent_s = 0.0  # by when it is to end; when the try that runs now was sent to its replica
        self.replica: Replica | None = None  # holds a place in it
        self.occupant: Occupant | None = None  # and for whom
        self.relay: Relay | None = None  # the try that runs now
        # That answered, or was to answer; and the one the next try goes to, if that is not to be drawn (arms.py).
        self.revision = self.arm = ""
        self.wish: Wish | None = None  # where it would like to go; None: anywhere
        self.share = 1.0  # of a usual request's work
        self.avoid: Replica | None = None  # the last try failed there
        self.on_trial = self.is_proven = False  # it runs alone because a replica died with it; it needs no such trial
        # Digests, computed only when something died, and only where answers are kept or shared.
        self.shape = self.identity = b""
        self.is_repeatable = True  # the same request again would be answered the same, as far as the request says
        self.status = 0
        self.usage = Usage()
        self.units = 0.0  # of service that its tenant was charged before it was known what it costs
        # The first and the newest piece of a stream, and how long all took as it was metered. 0: not yet.
        self.first_byte_s = self.piece_s = self.took_s = 0.0
        self.between: Histogram | None = None  # takes the time between two pieces
        self.transcript: Transcript | None = None  # what a stream's client was sent, where it could go on elsewhere
        self.cut: StokerError | None = None  # what ended the first part of a stream
        self.resume = b""  # what the next try is told of it
        # Bytes of the answer are on their way, so no other is possible; all of it is; so far only comments are.
        self.is_started = self.is_answered = self.is_opened = False
        self.cause: StokerError | None = None
        self.task: asyncio.Task[None] | None = None

    def standing_in(self, connection: Client) -> "Exchange":
        """Return this exchange as the layers have left it, for another client and in no task yet."""
        made = Exchange(connection, self.request, self.route, self.name, self.version)
        for name in FIELDS:
            if name not in ("bill", "connection", "task"):
                setattr(made, name, getattr(self, name))
        return made

    def names(self) -> dict[str, str]:
        """Return what a log line about this request carries, as `extra`."""
        key = self.key
        found = {"request": self.id, "trace": self.trace, "tenant": "" if key is None else key.limits.tenant or key.key}
        return {name: value for name, value in found.items() if value}

    def interrupt(self, cause: StokerError) -> None:
        """End the exchange with `cause`, whatever it waits for."""
        if self.task is not None and self.cause is None and not self.is_answered:
            self.cause = cause
            self.task.cancel()

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        """Answer whole. `headers` are complete lines; the request id is added."""
        if not self.is_answered:
            self.is_started = self.is_answered = True
            self.status = status
            if self.bill is not None:
                self.bill.bytes_out = len(body)
                cost = self.record()
                if cost:
                    headers += b"x-stoker-cost: %b\r\n" % cost
            self.connection.send(status, headers + self._own_lines(), body)

    def start(self, first: bytes) -> None:
        """Answer 200 with a stream whose first piece is `first`."""
        if self.on_start is not None:
            self.on_start()
        self.is_started = True
        self.status = 200
        if self.bill is not None:
            self.bill.bytes_out = len(first)
        if self.is_opened:
            self.connection.send_piece(first)
        else:
            self.connection.start_stream(replies.EVENT_STREAM + self._own_lines(), first)

    def comment(self, words: str) -> None:
        """Tell a client that waits for its stream something beside it; the first time the stream's head goes before.

        From then on its status is 200, and who serves it is told in no header.
        """
        said = b": %b\n\n" % words.encode()
        headers = b"" if self.is_opened else replies.EVENT_STREAM + self._own_lines(is_known=False)
        self.is_opened = True
        self.connection.comment(said, headers)

    def end(self, last: bytes) -> None:
        """End the stream; `last` may be empty. What it cost is told in a comment before."""
        if not self.is_answered:
            self.is_answered = True
            if self.bill is not None:
                self.bill.bytes_out += len(last)
            cost = self.record()
            if cost and last:
                self.connection.comment(b": x-stoker-cost %b\n\n" % cost)
            self.connection.end_stream(last)

    def record(self) -> bytes:
        """Have its usage written down, once; return what it cost in dollars, b"" where that is told to nobody."""
        bill, self.bill = self.bill, None
        return b"" if bill is None else bill.record(self)

    def fail(self, problem: StokerError) -> None:
        """Tell `problem`: as the answer, or as the last event of a stream that has begun."""
        if self.is_answered:
            return
        self.code = problem.code
        if self.is_started or self.is_opened:
            self.status = problem.status
            self.end(self.route.protocol.error_event(problem))
        else:
            self.send(problem.status, error_headers(problem), self.route.protocol.error_body(problem))

    def _own_lines(self, *, is_known: bool = True) -> bytes:
        """Return header lines that every answer has; is_known: who serves."""
        own = b"%bx-request-id: %b\r\n" % (self.extra, self.id.encode())
        if self.served_by and is_known:
            own += b"x-stoker-served-by: %b\r\n" % self.served_by.encode()
        return own


def error_headers(problem: StokerError) -> bytes:
    """Return the header lines of an error: when to come back, and whether it helps."""
    headers = replies.JSON
    if problem.retry_after_s is not None:
        most_s = RESET_MAX_S if isinstance(problem, QuotaExceeded) else RETRY_AFTER_MAX_S
        headers += b"retry-after: %d\r\n" % min(max(-(-problem.retry_after_s // 1), 1), most_s)
    if isinstance(problem, BudgetExceeded) and problem.told:
        headers += b"%b: %b\r\n" % (BUDGET_HEADER, problem.told.encode())
    if problem.status >= 400 and not problem.retryable and problem.status in _SDKS_RETRY:
        headers += b"x-should-retry: false\r\n"
    if problem.status == 401:
        headers += b"www-authenticate: Bearer\r\n"
    if isinstance(problem, MethodNotAllowed):
        headers += b"allow: %b\r\n" % problem.allow.encode()
    return headers


# What OpenAI's SDKs try again unless told otherwise, though it would be the same again.
_SDKS_RETRY: Final = frozenset((409, 429, 500, 501))
