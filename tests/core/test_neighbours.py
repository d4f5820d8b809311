"""A quiet tenant beside one that asks for 20 times its share, on virtual time: the gateway's line and places, the
replica's calls.

A call of n rows takes 8 + n ms, at most 16 go together: 667 rows a second. Either tenant has a quarter of them.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from heapq import heapify, heappop, heappush
from itertools import count

import pytest

from stoker.core import batch, concurrency, turns
from stoker.core.fairness import Line, Ticket
from stoker.core.latency import NEVER, Lines
from stoker.core.occupants import PAST_MAX, Occupants
from stoker.core.quota import Rate
from stoker.core.turns import AHEAD, BEHIND, PASSES
from stoker.gateway.queue import AHEAD_REQUESTS, LEARN
from tests.core.lines import MS

BASE_S, ROW_S, MAX_ROWS = 8 * MS, 1 * MS, 16
FULL_S = BASE_S + ROW_S * MAX_ROWS
CAPACITY = MAX_ROWS / FULL_S
SHARE = CAPACITY / 4
PLACES = concurrency.holdable(BASE_S, ROW_S, MAX_ROWS)
SECONDS = 20.0


class Request(Ticket):
    def __init__(self, tenant: str, came_s: float, turn: int, rows: int) -> None:
        super().__init__(1, tenant, 1.0, NEVER, 0)
        self.came_s = came_s
        self.turn = turn
        self.rows, self.passed, self.shapes, self.alone = rows, 0, (), False


def poisson(rate: float, seed: int) -> Iterator[float]:
    draw, now_s = random.Random(seed), 0.0
    while (now_s := now_s + draw.expovariate(rate)) < SECONDS:
        yield now_s


def limited(arrivals: Iterator[float], rate: float, burst: float) -> Iterator[tuple[float, int]]:
    """Yield which of `arrivals` a key's limit lets in, and their turn."""
    held, refused_s = Rate(rate, burst), -NEVER
    for now_s in arrivals:
        if held.wait_s(1.0, now_s):
            refused_s = now_s
            continue
        held.take(1.0, now_s)
        yield now_s, BEHIND if now_s < refused_s + turns.PRESSES_S else 0


class Gateway:
    """The line of one endpoint, its places, and those who go past them."""

    def __init__(self, queue_max: int) -> None:
        self.line: Line[Request] = Line()
        self.occupants = Occupants()
        self.held: dict[Request, object] = {}
        self.queue_max = queue_max
        self.units = 1.0  # of a request, on average
        self.most = 0

    def came(self, request: Request) -> list[Request]:
        """Return who is sent now."""
        victims = self.line.victims(request, self.queue_max, 1)
        if victims is not None:
            for each in victims:
                self.line.withdraw(each)
            self.line.put(request)
        return self.serve()

    def ended(self, request: Request) -> list[Request]:
        self.occupants.left(self.held.pop(request))  # type: ignore[arg-type]
        return self.serve()

    def serve(self) -> list[Request]:
        sent = []
        while len(self.held) < PAST_MAX * PLACES:
            is_full = len(self.held) >= PLACES
            found = self.line.owed(self.is_owed, (), AHEAD_REQUESTS * self.units) if is_full else self.line.head()
            if found is None:
                break
            self.line.go(found)
            self.line.charge(found.tenant, found.rows, 1.0)
            self.units += LEARN * (found.rows - self.units)
            if is_full:
                found.turn = AHEAD
            self.held[found] = self.occupants.took(found.tenant, 1.0)
            sent.append(found)
        self.most = max(self.most, len(self.held))
        return sent

    def is_owed(self, ticket: Ticket) -> bool:
        return self.occupants.is_below(ticket.tenant, ticket.weight, PLACES)


class Replica:
    """The batcher's order of calls."""

    def __init__(self) -> None:
        self.queue: list[Request] = []
        self.lines = Lines()
        self.rows_mean = 0.0
        self.calls = self.rows = 0

    def call(self, now_s: float) -> list[Request]:
        queue = self.queue
        order = turns.line_up(queue, self.rows_mean)
        positions = list(range(len(queue))) if order is None else order
        planned = batch.plan(
            [queue[at] for at in positions], self.lines, max_rows=MAX_ROWS, max_bytes=1 << 40, now_s=now_s
        )
        take = {positions[at] for at in planned.take}
        if order is not None:
            for at in turns.passed_over(len(queue), set(order), take):
                queue[at].passed += 1
        self.queue = [each for at, each in enumerate(queue) if at not in take]
        self.rows_mean += (planned.rows - self.rows_mean) * (0.05 if self.rows_mean else 1.0)
        self.calls += 1
        self.rows += planned.rows
        return [queue[at] for at in sorted(take)]


@dataclass
class Outcome:
    waits_s: dict[str, list[float]] = field(default_factory=dict)
    rows_a_call: float = 0.0
    per_s: float = 0.0
    most: int = 0
    passed_most: int = 0

    def p99_s(self, tenant: str) -> float:
        found = sorted(self.waits_s[tenant])
        return found[int(len(found) * 0.99)]


def run(*tenants: Iterator[tuple[float, int]], rows: tuple[int, ...] = (1, 1), queue_max: int = 512) -> Outcome:
    """Serve what arrives, of tenants named by their number; `rows`: of a request of each."""
    number = count()
    events: list[tuple[float, int, str, list[Request]]] = [
        (came_s, next(number), "came", [Request(str(who), came_s, turn, rows[who])])
        for who, each in enumerate(tenants)
        for came_s, turn in each
    ]
    heapify(events)
    gateway, replica, outcome = Gateway(queue_max), Replica(), Outcome()
    is_busy, now_s = False, 0.0
    while events:
        now_s, _, what, requests = heappop(events)
        if what == "ended":
            is_busy = False
            if replica.queue:  # the next call begins before the gateway has heard of this one
                heappush(events, (now_s, -next(number), "begin", []))
            for each in requests:
                outcome.waits_s.setdefault(each.tenant, []).append(now_s - each.came_s)
                outcome.passed_most = max(outcome.passed_most, each.passed)
            heappush(events, (now_s, next(number), "heard", requests))
            continue
        for each in requests:
            replica.queue += gateway.came(each) if what == "came" else gateway.ended(each)
        if replica.queue and not is_busy:
            if what != "begin":
                heappush(events, (now_s, next(number), "begin", []))
                continue
            taken = replica.call(now_s)
            is_busy = True
            heappush(events, (now_s + BASE_S + ROW_S * sum(each.rows for each in taken), next(number), "ended", taken))
    outcome.rows_a_call = replica.rows / replica.calls
    outcome.per_s = replica.rows / now_s
    outcome.most = gateway.most
    return outcome


def plain(arrivals: Iterator[float]) -> Iterator[tuple[float, int]]:
    return ((came_s, 0) for came_s in arrivals)


def quiet() -> Iterator[tuple[float, int]]:
    return plain(poisson(SHARE, 1))


@cache
def alone() -> Outcome:
    return run(quiet())


@cache
def beside_a_limited_one() -> Outcome:
    return run(quiet(), limited(poisson(20 * SHARE, 2), SHARE, 10))


@cache
def beside_a_free_one() -> Outcome:
    return run(quiet(), plain(poisson(20 * SHARE, 2)))


def test_beside_a_neighbour_that_is_held_by_its_limit_the_slowest_are_nearly_as_fast_as_alone() -> None:
    assert beside_a_limited_one().p99_s("0") <= 1.18 * alone().p99_s("0")


def test_in_order_of_arrival_they_are_not() -> None:
    """What the rule is for; without a mark, all is as it was."""
    unmarked = ((came_s, 0) for came_s, _ in limited(poisson(20 * SHARE, 2), SHARE, 10))
    assert run(quiet(), unmarked).p99_s("0") > 1.2 * alone().p99_s("0")


def test_the_limited_neighbour_has_all_that_its_limit_allows_and_waits_a_call_longer() -> None:
    outcome = beside_a_limited_one()
    assert len(outcome.waits_s["1"]) >= SHARE * SECONDS
    assert outcome.p99_s("1") <= 3 * FULL_S
    assert outcome.passed_most <= 2 * PASSES


def test_beside_a_neighbour_without_a_limit_nobody_waits_for_more_than_a_full_call_and_its_own() -> None:
    assert len(beside_a_free_one().waits_s["0"]) == len(alone().waits_s["0"]), "nobody was refused"
    assert beside_a_free_one().p99_s("0") <= 2 * FULL_S + 1 * MS


def test_that_costs_no_throughput_and_no_more_than_twice_the_places() -> None:
    outcome = beside_a_free_one()
    assert outcome.rows_a_call >= MAX_ROWS - 0.1
    assert outcome.per_s >= CAPACITY * 0.999
    assert PLACES < outcome.most <= PAST_MAX * PLACES


def test_a_neighbour_whose_rows_fill_up_calls_gets_all_the_load_needs() -> None:
    """The quiet one takes half of the capacity, the limited one four tenths: calls have to be long, and become so."""
    limit = 0.4 * CAPACITY
    outcome = run(plain(poisson(CAPACITY / 2, 1)), limited(poisson(20 * limit, 2), limit, 10))
    assert len(outcome.waits_s["1"]) >= limit * SECONDS
    assert outcome.p99_s("1") <= 6 * FULL_S


@pytest.mark.parametrize("rows", [4, 16])
def test_large_requests_hold_few_places_and_get_no_more_than_their_half_for_it(rows: int) -> None:
    """Both ask for more than there is: half of the rows are everybody's, whatever went past."""
    outcome = run(plain(poisson(2 * CAPACITY, 1)), plain(poisson(2 * CAPACITY / rows, 2)), rows=(1, rows), queue_max=64)
    small, large = len(outcome.waits_s["0"]), len(outcome.waits_s["1"]) * rows
    assert abs(small - large) <= 0.1 * (small + large), (small, large)
