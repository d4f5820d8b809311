"""Equal requests that are in flight at once share one call, where the endpoint says so.

Inside of deadline: each request that shares keeps its own. Outside of admit, retry and route: the call is admitted,
tried again and placed once. The call belongs to nobody who waits for it: it runs in a task of its own, on behalf of
all, and ends early only when the last of them has left.

What the call ends with is for everybody: the answer, the request's own fault, and the platform's failure, which the
retry layer had its turn at. Only a deadline is the caller's own: who has time left when the call's is over goes on.
A suspect (suspicion.py) is never shared: its death must be its own.
"""

import asyncio
import copy
import logging
import time
from collections.abc import Callable
from typing import Final

from stoker.gateway.exchange import Exchange, Handler, Work
from stoker.gateway.fleet import suspicion
from stoker.gateway.http import replies
from stoker.gateway.lane import Lane
from stoker.gateway.layers.deadline import late
from stoker.gateway.protocols import sameness
from stoker.gateway.relay import Relay
from stoker.types.errors import DeadlineExceeded, EngineFailed, StokerError
from stoker.types.routes import EndpointRoute

WAITING_MAX: Final = 4096  # who share one call; the next begins another
# Of the call, which whoever counts it tells as his own.
_STAMPS: Final = ("admitted_s", "routed_s", "sends", "sent_s", "trail", "tries", "waited_s")
METHODS: Final = frozenset(("infer", "embeddings"))

_log = logging.getLogger(__name__)


class Flight:
    """One call and who waits for it. It is the client of the call's exchange (exchange.Client)."""

    def __init__(self, first: Exchange) -> None:
        assert first.lane is not None
        self.route: EndpointRoute = first.lane.route
        self.leader = first
        self.waiting: dict[Exchange, asyncio.Future[None]] = {}
        self.task: asyncio.Task[None] | None = None
        self.is_left = False  # by everybody; it ends and takes nobody more
        self.headers = self.body = b""
        self.problem: StokerError | None = None
        self.relay: Relay | None = None  # of the try that ended it; whoever is told first takes it to be counted
        self.is_stalled = False
        self.on_writable: Callable[[], None] | None = None
        self.exchange = first.standing_in(self)

    def takes(self, lane: Lane) -> bool:
        """Return whether one more may share it. What began before the newest route table is no longer shared: an
        answer of the revision before must not follow one of the revision after."""
        return self.route is lane.route and not self.is_left and len(self.waiting) < WAITING_MAX

    def board(self, exchange: Exchange) -> asyncio.Future[None]:
        """Let `exchange` wait; the future is over when the call is."""
        place = self.waiting[exchange] = asyncio.get_running_loop().create_future()
        self.exchange.deadline_s = max(self.exchange.deadline_s, exchange.deadline_s)
        self.exchange.band = min(self.exchange.band, exchange.band)
        return place

    def leave(self, exchange: Exchange) -> None:
        """Wait no more; the last one ends the call."""
        self.waiting.pop(exchange, None)
        if not self.waiting and self.task is not None:
            self.is_left = True
            self.task.cancel()

    def land(self, problem: StokerError | None) -> None:
        """Tell everybody that the call is over."""
        self.problem = problem
        self.relay, self.exchange.relay = self.exchange.relay, None  # they know each other: see rescue
        if self.relay is not None and self.relay.end is not None:
            self.headers = replies.of_answer(self.relay.end)
        for place in self.waiting.values():
            if not place.done():
                place.set_result(None)
        self.waiting.clear()

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        """See Client."""
        self.body = body

    def start_stream(self, headers: bytes, first: bytes) -> None:
        """See Client; what is shared has no streams."""

    def send_piece(self, data: bytes) -> None:
        """See Client."""

    def comment(self, data: bytes, headers: bytes = b"") -> None:
        """See Client."""

    def end_stream(self, last: bytes) -> None:
        """See Client."""

    def hold(self, count: int) -> None:
        """See Client; the bodies of those who wait are counted, and this is one of them."""

    def abort(self) -> None:
        """See Client."""


class Flights:
    """The calls that are shared now. At most one a connection, because each has somebody who waits."""

    def __init__(self) -> None:
        self._flights: dict[tuple[Lane, bytes], Flight] = {}

    async def ride(self, exchange: Exchange, inner: Handler) -> None:
        """Answer `exchange` with the call that equal ones share. Raises what the call ended with."""
        lane = exchange.lane
        assert lane is not None
        key = (lane, await sameness.identity(exchange))
        while True:
            flight = self._flights.get(key)
            if flight is None or not flight.takes(lane):
                flight = self._flights[key] = Flight(exchange)
                place = flight.board(exchange)
                flight.task = asyncio.get_running_loop().create_task(self._fly(key, flight, inner))
                flight.exchange.task = flight.task
            else:
                place = flight.board(exchange)
                lane.meters.coalesced()
            try:
                await place
            except asyncio.CancelledError:
                if exchange.cause is not None and flight.exchange.relay is not None:
                    exchange.relay = flight.exchange.relay
                    exchange.cause = late(exchange)  # a replica had it, which this exchange did not know
                flight.leave(exchange)
                raise
            if flight.problem is None:
                _give(flight, exchange)
                return
            is_mine = flight.leader is exchange or not isinstance(flight.problem, DeadlineExceeded)
            if is_mine or exchange.deadline_s <= time.monotonic():
                exchange.relay = flight.relay
                raise copy.copy(flight.problem)

    async def _fly(self, key: tuple[Lane, bytes], flight: Flight, inner: Handler) -> None:
        problem: StokerError | None = None
        try:
            await inner(flight.exchange)
        except StokerError as told:
            problem = told
            problem.__traceback__ = problem.__context__ = problem.__cause__ = None  # see rescue
        except asyncio.CancelledError:
            problem = flight.exchange.cause
            if problem is None:  # nobody waits any more, or the process ends
                for place in flight.waiting.values():
                    place.cancel()
        except Exception as bug:  # the boundary of the process: one call's bug is its own
            _log.exception("a shared call failed", extra=flight.exchange.names())
            problem = EngineFailed(f"internal error: {type(bug).__name__}; the log has it under {flight.exchange.id}")
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
            flight.land(problem)


def coalesce(flights: Flights, inner: Handler) -> Handler:
    """Let equal requests share one call of `inner`."""

    def handle(exchange: Exchange) -> Work:
        lane = exchange.lane
        assert lane is not None
        if not lane.route.coalesce or exchange.method not in METHODS or not _may_share(lane, exchange):
            return inner(exchange)
        return flights.ride(exchange, inner)

    return handle


def _may_share(lane: Lane, exchange: Exchange) -> bool:
    if b"cache-control" in exchange.request.headers:
        return False  # whatever it says, the caller wants something of his own
    if lane.arms is not None and lane.arms.rollout.sticky:
        return False  # who asks the same may be of another arm
    return not lane.book or lane.book.standing(suspicion.shape(exchange), time.monotonic()) == "clear"


def _give(flight: Flight, exchange: Exchange) -> None:
    """Answer `exchange` with what the call brought. The first one counts what it cost, the others what they saved."""
    call, lane = flight.exchange, exchange.lane
    assert lane is not None
    exchange.revision = call.revision
    relay, flight.relay = flight.relay, None
    if relay is not None:
        exchange.relay = relay
        exchange.usage = call.usage
        for stamp in _STAMPS:
            setattr(exchange, stamp, getattr(call, stamp))
    else:
        lane.meters.revision(call.revision, exchange.method).save(call.usage)
    exchange.send(200, flight.headers, flight.body)
