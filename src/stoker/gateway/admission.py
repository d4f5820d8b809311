"""Who waits for a place in one endpoint, who is refused one, and why: the edge of core/admit.py and core/fairness.py.

Whoever finds every place taken waits in the queue's order until its deadline. What has no chance is refused at once,
with when to come back.
"""

import asyncio
import random
import time
from typing import Final, Protocol

from stoker.core import admit, fairness, loading, retry
from stoker.gateway.exchange import Exchange
from stoker.gateway.fleet.replica import Replica
from stoker.gateway.meters import Meters
from stoker.gateway.queue import Queue, Waiting
from stoker.protocol.frames import EndHead
from stoker.types.errors import Busy, DeadlineExceeded, OutOfTime, QueueFull, Shed, StillLoading, StokerError
from stoker.types.loading import Loading
from stoker.types.routes import EndpointRoute

SERVICE_SAMPLES: Final = 20  # the mean service time is of about so many requests
# A stream that waits for a load is told how far it is only after this: until then an error has a status of its own.
TELL_AFTER_S: Final = 1.0
EXPECTED_RATIO: Final = 2.0  # who was told to come back is expected for so many times what it was told, and at least …
EXPECTED_MIN_S: Final = 10.0  # … for so long: a look of scaling must see it
UNTOLD: Final = b"none"  # what a client sends as x-stoker-progress that wants no comments in its stream


class Places(Protocol):
    """The places that are waited for: a lane."""

    route: EndpointRoute
    task: str
    meters: Meters
    exchanges: set[Exchange]  # those that hold one

    @property
    def ready_count(self) -> int:
        """How many replicas take requests."""

    def has_place(self) -> bool:
        """Return whether any is free."""

    def take(self, exchange: Exchange) -> Replica | None:
        """Take one for `exchange` if there is one for it."""

    def may_pass(self) -> bool:
        """Return whether anybody may go where no place is free."""

    def is_owed(self, ticket: fairness.Ticket) -> bool:
        """Return whether its tenant holds less than its part."""

    def take_past(self, exchange: Exchange) -> Replica | None:
        """Take one for `exchange` where none is free."""

    def release(self, exchange: Exchange) -> None:
        """Give the one of `exchange` to the next who waits."""

    def pause_s(self, version: str, now_s: float) -> float:
        """Return for how long there will be none, because who would serve says so."""

    def is_down(self, now_s: float) -> bool:
        """Return whether there will be none."""

    def unavailable(self) -> StokerError:
        """Return why there will be none."""

    def loading(self, now_s: float) -> Loading | None:
        """Return how far what is waited for is; None while any replica is ready."""

    def cold(self) -> None:
        """Somebody comes while nobody takes requests."""

    def waits(self) -> None:
        """Somebody begins to wait."""


class Admission:
    """The queue in front of `places`, and what is known of how long it takes."""

    def __init__(self, places: Places, *, tells: bool = False) -> None:
        self.service_s = 0.0
        # For scaling (gateway/loads.py): requests at their first try that were refused at once, and that wait or went
        # without a place; who was answered, and how long places were held for them, in tries that came to nothing too.
        self.turned_away = self.unplaced = self.served = self.tokens = 0
        self.served_s = 0.0
        self.expected_until_s = 0.0  # who was told to come back when a replica is loaded is expected until then
        self._places = places
        self._samples = 0
        self.is_asked = False  # somebody waits in another gateway, which is told what tenants are given here
        self._queue = Queue(tells=tells)  # route.queue_max and queue_max_bytes bound it
        self._movable: set[Waiting] = set()  # of the queue: those that another endpoint may serve

    def __len__(self) -> int:
        return len(self._queue)

    def __bool__(self) -> bool:
        return bool(self._queue)

    @property
    def size_bytes(self) -> int:
        """Bodies that wait."""
        return self._queue.size_bytes

    def check(self, exchange: Exchange, now_s: float) -> None:
        """Raise what a request gets that would have to wait, if it may not."""
        refusal = self._refusal(exchange, now_s)
        if refusal is not None:
            self.turned_away += not exchange.tries
            raise refusal

    def _refusal(self, exchange: Exchange, now_s: float) -> StokerError | None:
        assert exchange.key is not None
        limits = exchange.key.limits
        tenant = limits.tenant or exchange.key.key
        ticket = fairness.Ticket(
            exchange.band, tenant, limits.weight, exchange.deadline_s, len(exchange.body), exchange.version
        )
        places, name = self._places, self._places.route.endpoint
        wait_s = admit.wait_s(self._queue.ahead(ticket), len(places.exchanges), self.service_s)
        left_s = exchange.deadline_s - now_s
        answer = admit.decide(wait_s=wait_s, service_s=self._one_s, left_s=left_s, is_down=places.is_down(now_s))
        if answer == "down":
            return places.unavailable()
        pause_s = places.pause_s(exchange.version, now_s)
        if pause_s and not _waits(exchange, pause_s, now_s):
            return self._paused(pause_s)
        if answer == "late":
            return OutOfTime(
                f"{name} could answer in {wait_s + self._one_s:.2f} s; the deadline is in {left_s:.2f}",
                retry_after_s=self._again_s(),
            )
        if (load := places.loading(now_s)) is not None and (
            problem := self._unloaded(load, ticket, left_s)
        ) is not None:
            places.cold()  # who does not wait comes back: it is to be there then
            return problem
        return self._full() if self._victims(ticket) is None else None

    def _unloaded(self, load: Loading, ticket: fairness.Ticket, left_s: float) -> StokerError | None:
        """Return what a request gets that cannot wait until a replica is loaded; None when it can."""
        name, words = self._places.route.endpoint, loading.words(load)
        if not loading.fits(load, left_s - self._one_s):
            why = f"{name} is {words}; the deadline is in {left_s:.1f} s"
        elif self._victims(ticket) is None:
            why = f"{name} is {words}; {len(self._queue)} requests wait for it already"
        else:
            return None
        again_s = loading.retry_after_s(load, random.random())
        expected_s = max(EXPECTED_RATIO * (again_s or 0.0), EXPECTED_MIN_S)
        self.expected_until_s = max(self.expected_until_s, time.monotonic() + expected_s)
        return StillLoading(f"{why}; come back then", retry_after_s=again_s)

    async def wait(self, exchange: Exchange, *, in_front: bool = False) -> Replica:
        """Wait for a place and return its replica. Raises StokerError when there will be none."""
        waiting = Waiting(exchange, asyncio.get_running_loop().create_future())
        if not in_front:
            self._make_room(waiting)
        self._queue.put(waiting, in_front=in_front)
        if exchange.can_move:
            self._movable.add(waiting)
        if not self._places.ready_count:
            self._places.cold()
        self._places.waits()
        self.serve()  # others may wait for what this one does not: another version's place
        began_s = time.monotonic()
        self.unplaced += not exchange.tries
        try:
            place = await waiting.place
            self.unplaced -= not exchange.tries
            return place
        except asyncio.CancelledError:
            self._queue.withdraw(waiting)
            if waiting.place.done() and not waiting.place.cancelled() and waiting.place.exception() is None:
                self._places.release(exchange)  # the place came in the same moment as the end
            raise
        finally:
            self._movable.discard(waiting)
            exchange.waited_s = time.monotonic() - began_s
            self._places.meters.waited(waiting.tenant, exchange.waited_s)

    def tell(self, load: Loading | None, now_s: float) -> None:
        """Tell streams that wait how far what they wait for is. Called about once a second."""
        if load is None:
            return
        words = loading.words(load)
        for waiting in self._queue:
            exchange = waiting.exchange
            is_due = exchange.stream and now_s - exchange.routed_s >= TELL_AFTER_S
            if not is_due or exchange.is_started or exchange.can_move or exchange.connection.is_stalled:
                continue
            if exchange.request.headers.get(b"x-stoker-progress") != UNTOLD:
                exchange.comment(words)

    def serve(self) -> None:
        """Give free places to those who wait."""
        if self._queue:
            places = self._places
            past = places.take_past if places.may_pass() else None
            self._queue.serve(places.has_place, places.take, self._lost, past, places.is_owed)

    def finished(self, exchange: Exchange, end: EndHead, took_s: float) -> None:
        """Learn from an answer: how long a request is served, and what its tenant had of it."""
        self.served += 1
        self.served_s += took_s
        self.tokens += end.usage.input_tokens + end.usage.output_tokens
        if self._samples < SERVICE_SAMPLES:
            self._samples += 1
        self.service_s += (took_s - self.service_s) / self._samples
        if self._queue or self.is_asked:
            self._queue.served(exchange, _units(end))

    @property
    def given(self) -> dict[str, float]:
        """What other gateways are told: see Queue."""
        return self._queue.given

    def hear(self, elsewhere: dict[str, float]) -> None:
        """Count what other gateways gave to tenants, by weight."""
        self._queue.hear(elsewhere)

    def sweep(self) -> None:
        """Forget what was given, if nobody asks. Called about once a second."""
        if not self._queue and not self.is_asked:
            self._queue.given.clear()

    def lost(self, held_s: float) -> None:
        """Count the time that a try held its place whose request is answered by another one."""
        self.served_s += held_s

    def move_on(self) -> None:
        """Send away those who wait and whom another endpoint may serve: no replica here takes requests."""
        for waiting in list(self._movable):
            self._queue.withdraw(waiting)
            waiting.refuse(self._places.unavailable())

    def wasted(self, exchange: Exchange, end: EndHead, share: float) -> None:
        """Charge the tenant of `exchange` for a try that nobody needed: `share` of what the one that answered took."""
        self._queue.charge(exchange, _units(end) * share)

    def give_up(self, pause_s: float) -> None:
        """Send away those who do not wait until there are places again, in `pause_s`."""
        now_s = time.monotonic()
        for waiting in [each for each in self._queue if not _waits(each.exchange, pause_s, now_s)]:
            self._queue.withdraw(waiting)
            waiting.refuse(self._paused(pause_s))

    def refuse_all(self, problem: StokerError) -> None:
        """Tell everybody that there will be no place."""
        self._queue.refuse_all(problem)

    def _victims(self, ticket: fairness.Ticket) -> list[Waiting] | None:
        route = self._places.route
        return self._queue.victims(ticket, route.queue_max, route.queue_max_bytes)

    def _make_room(self, waiting: Waiting) -> None:
        """Push out who must go for `waiting`. Raises QueueFull when that is itself."""
        victims = self._victims(waiting)
        if victims is None:
            raise self._full()
        name = self._places.route.endpoint
        for victim in victims:
            self._queue.withdraw(victim)
            victim.refuse(
                Shed(
                    f"{name} is full, and a more urgent request or a tenant with fewer waiting came",
                    retry_after_s=self._again_s(),
                )
            )

    def _paused(self, pause_s: float) -> StokerError:
        name = self._places.route.endpoint
        return Busy(f"what serves {name} is full and takes nothing for {pause_s:.1f} s", retry_after_s=pause_s)

    def _full(self) -> StokerError:
        return QueueFull(
            f"{len(self._queue)} requests wait for {self._places.route.endpoint} already; retry later",
            retry_after_s=self._again_s(),
        )

    def _again_s(self) -> float:
        return admit.retry_after_s(len(self._queue), len(self._places.exchanges), self.service_s)

    @property
    def _one_s(self) -> float:
        """Return what the next request takes in a replica; 0 for chat, where short and long answers have no mean."""
        return 0.0 if self._places.task == "chat" else self.service_s

    def _lost(self, exchange: Exchange) -> StokerError | None:
        """Return why a request that is next is not worth a place; None when it is."""
        service_s = self._one_s
        left_s = exchange.deadline_s - time.monotonic()
        if not admit.is_lost(left_s=left_s, service_s=service_s, is_served=bool(self._places.exchanges)):
            return None
        name = self._places.route.endpoint
        return DeadlineExceeded(f"{left_s * 1000:.0f} ms are left and {name} needs about {service_s * 1000:.0f} ms")


def _waits(exchange: Exchange, pause_s: float, now_s: float) -> bool:
    return not exchange.can_spill and retry.is_worth_waiting(pause_s, exchange.deadline_s - now_s)


def _units(end: EndHead) -> float:
    """Return the service that an answer took: tokens as core/fairness.py weighs them, or its part of engine time."""
    usage, timings = end.usage, end.timings
    if usage.output_tokens:
        return fairness.token_units(usage.input_tokens, usage.cached_tokens, usage.output_tokens)
    rows = max(usage.rows, 1)
    return timings.compute_s * 1000.0 * rows / max(timings.batch_rows, rows)
