"""The quiet tenant and its neighbour on virtual time, with two gateways over which they are spread unevenly.

Clients keep their connections, and many take the one that came back last: so each gateway has another mix of tenants.
What each tells the other 20 times a second is as in gateway/elsewhere.py.
"""

import random
from collections import Counter
from collections.abc import Iterator
from functools import cache
from heapq import heapify, heappop, heappush
from itertools import count

import pytest

from stoker.core import concurrency
from stoker.core.fairness import Line
from stoker.core.occupants import PAST_MAX, Occupant, Occupants
from stoker.core.turns import AHEAD
from stoker.gateway.elsewhere import Elsewhere, Standing, tenants
from stoker.gateway.queue import AHEAD_REQUESTS, LEARN
from stoker.gateway.telling import TELL_S
from tests.core.lines import MS
from tests.core.test_neighbours import (
    BASE_S,
    CAPACITY,
    FULL_S,
    MAX_ROWS,
    PLACES,
    ROW_S,
    SHARE,
    Outcome,
    Replica,
    Request,
    plain,
    poisson,
    quiet,
)  # fmt: skip

SECONDS = 8.0
PONG_S = 0.25
Arrivals = Iterator[tuple[float, int]]


class Gateway:
    """One of two: its line, and what it knows of the other."""

    def __init__(self, queue_max: int) -> None:
        self.line: Line[Request] = Line()
        self.occupants, self.elsewhere = Occupants(), Elsewhere()
        self.held: dict[Request, tuple[Occupant, float]] = {}  # and the units that were charged
        self.given: dict[str, float] = {}
        self.queue_max, self.units, self.others = queue_max, 1.0, 0

    @property
    def places(self) -> int:
        waiting = self.elsewhere.waiting
        return concurrency.places(
            slots=PLACES, others=self.others, in_flight=0, kv_used_ratio=0.0, gateways=2, most=256, waiting=waiting
        )

    @property
    def shared(self) -> int:
        return PLACES if self.elsewhere.is_heard else self.places

    def came(self, request: Request) -> list[Request]:
        """Return who is sent now."""
        if not self.line.count and len(self.held) < self.places:
            return [self.hold(request, 0.0)]
        victims = self.line.victims(request, self.queue_max, 1)
        if victims is not None:
            for each in victims:
                self.line.withdraw(each)
            self.line.put(request)
        return self.serve()

    def ended(self, request: Request) -> list[Request]:
        occupant, units = self.held.pop(request)
        self.given[request.tenant] = self.given.get(request.tenant, 0.0) + request.rows
        self.line.charge(request.tenant, request.rows - units, 1.0)
        self.occupants.left(occupant)
        return self.serve()

    def serve(self) -> list[Request]:
        sent = []
        while len(self.held) < PAST_MAX * self.places:
            is_full = len(self.held) >= self.places
            ahead_units = AHEAD_REQUESTS * self.units
            found = self.line.owed(self.is_owed, (), ahead_units) if is_full else self.line.head()
            if found is None:
                break
            self.line.go(found)
            if is_full:
                found.turn = AHEAD
            sent.append(self.hold(found, self.units))
            self.line.charge(found.tenant, self.units, 1.0)
            self.units += LEARN * (found.rows - self.units)
        return sent

    def hold(self, request: Request, units: float) -> Request:
        if self.elsewhere.waiting and self.is_owed(request):
            request.turn = AHEAD
        self.held[request] = self.occupants.took(request.tenant, 1.0), units
        return request

    def is_owed(self, request: Request) -> bool:
        return self.occupants.is_below(request.tenant, 1.0, self.shared)

    def tell(self, other: "Gateway", now_s: float) -> None:
        told = Standing("", "", len(self.line), tenants(self.occupants, self.given))
        other.line.hear(other.elsewhere.hear("other", told, now_s))
        other.occupants.hear(other.elsewhere.held())


class World:
    """Events in their order: what came, a call that ended, what the gateways hear of it, of the replica, of each other.

    here: the part of each tenant's requests that comes to the first gateway.
    """

    def __init__(self, here: tuple[float, ...], *, tells: bool, queue_max: int) -> None:
        self.gateways, self.replica, self.outcome = (Gateway(queue_max), Gateway(queue_max)), Replica(), Outcome()
        self.here, self.tells = here, tells
        self.events: list[tuple[float, int, str, list[Request]]] = []
        self.number, self.is_busy = count(), False
        self.owner: dict[Request, Gateway] = {}
        self.rows: Counter[str] = Counter()  # served while requests still came

    def run(self, arrivals: list[Arrivals], rows: tuple[int, ...]) -> Outcome:
        draw = random.Random(5)
        for who, each in enumerate(arrivals):
            for came_s, turn in each:
                if came_s < SECONDS:
                    request = Request(str(who), came_s, turn, rows[who])
                    self.owner[request] = self.gateways[draw.random() >= self.here[who]]
                    self.events.append((came_s, next(self.number), "came", [request]))
        for what, every_s in (("tell", TELL_S), ("pong", PONG_S)):
            times = [every_s * number for number in range(int(SECONDS / every_s))]
            self.events += [(at_s, next(self.number), what, []) for at_s in times]
        heapify(self.events)
        while self.events:
            now_s, _, what, requests = heappop(self.events)
            self.happens(what, requests, now_s)
        self.outcome.rows_a_call = self.replica.rows / self.replica.calls
        return self.outcome

    def happens(self, what: str, requests: list[Request], now_s: float) -> None:
        replica, (first, second) = self.replica, self.gateways
        if what == "ended":
            self.is_busy = False
            for each in requests:
                self.outcome.waits_s.setdefault(each.tenant, []).append(now_s - each.came_s)
                self.rows[each.tenant] += each.rows if now_s < SECONDS else 0
            if replica.queue:  # the next call begins before a gateway has heard of this one
                heappush(self.events, (now_s, -next(self.number), "begin", []))
            heappush(self.events, (now_s, next(self.number), "heard", requests))
            return
        if what == "tell" and self.tells and (first.line.count or second.line.count):
            first.tell(second, now_s)
            second.tell(first, now_s)
        elif what == "pong":
            first.others, second.others = len(second.held), len(first.held)
            replica.queue += first.serve() + second.serve()
        for each in requests:
            gateway = self.owner[each]
            replica.queue += gateway.came(each) if what == "came" else gateway.ended(each)
        if replica.queue and not self.is_busy:
            if what != "begin":
                heappush(self.events, (now_s, next(self.number), "begin", []))
                return
            taken = replica.call(now_s)
            self.is_busy = True
            took_s = BASE_S + ROW_S * sum(each.rows for each in taken)
            heappush(self.events, (now_s + took_s, next(self.number), "ended", taken))


def run(*arrivals: Arrivals, here: tuple[float, ...], tells: bool = True) -> Outcome:
    return World(here, tells=tells, queue_max=512).run([*arrivals], (1, 1))


def free() -> Arrivals:
    return plain(poisson(20 * SHARE, 2))


@cache
def beside_a_free_one(here: tuple[float, float], *, tells: bool = True) -> Outcome:
    return run(quiet(), free(), here=here, tells=tells)


@pytest.mark.parametrize("here", [(0.5, 0.5), (0.8, 0.8), (1.0, 0.5), (1.0, 0.0)])
def test_wherever_its_requests_come_nobody_waits_for_more_than_a_full_call_and_its_own(
    here: tuple[float, float],
) -> None:
    """As with one gateway (test_neighbours.py)."""
    assert beside_a_free_one(here).p99_s("0") <= 2 * FULL_S + 4 * MS


def test_of_gateways_that_do_not_talk_the_one_with_most_of_its_requests_keeps_them_waiting() -> None:
    """What telling is for: half of a half of the places, and served the most of all, as far as that one knows."""
    assert beside_a_free_one((1.0, 0.5), tells=False).p99_s("0") > 4 * FULL_S
    assert beside_a_free_one((1.0, 0.0), tells=False).p99_s("0") > 2.5 * FULL_S


def test_that_costs_no_throughput() -> None:
    assert beside_a_free_one((1.0, 0.5)).rows_a_call >= MAX_ROWS - 0.1


def test_a_tenant_that_asks_one_gateway_alone_gets_all_it_asks_for_up_to_its_half() -> None:
    def served(*, tells: bool) -> int:
        outcome = run(plain(poisson(0.45 * CAPACITY, 1)), free(), here=(1.0, 0.5), tells=tells)
        return sum(wait_s < 0.5 for wait_s in outcome.waits_s["0"])

    asked = sum(came_s < SECONDS for came_s in poisson(0.45 * CAPACITY, 1))
    assert served(tells=True) == asked
    assert served(tells=False) < asked / 4


def test_two_that_ask_for_more_than_there_is_have_their_half_and_wait_as_long_wherever_they_ask() -> None:
    outcome = run(plain(poisson(CAPACITY, 1)), plain(poisson(CAPACITY, 2)), here=(0.9, 0.1))
    mine, theirs = len(outcome.waits_s["0"]), len(outcome.waits_s["1"])
    assert abs(mine - theirs) <= 0.05 * (mine + theirs)
    assert max(outcome.p99_s("0"), outcome.p99_s("1")) <= 2 * 512 / CAPACITY * 1.5, "nobody of either starves"


@pytest.mark.parametrize("rows", [4, 16])
def test_large_requests_get_no_more_than_their_half_with_two_gateways_too(rows: int) -> None:
    arrivals = [plain(poisson(2 * CAPACITY, 1)), plain(poisson(2 * CAPACITY / rows, 2))]
    world = World((0.5, 0.5), tells=True, queue_max=64)
    world.run(arrivals, (1, rows))
    small, large = world.rows["0"], world.rows["1"]
    assert abs(small - large) <= 0.1 * (small + large), (small, large)
