"""Overload on virtual time: what a replica serves in time when more is asked of it than it can do.

A call of n rows takes 4 + 0.5 n ms, at most 32 rows go together: 1,600 rows a second are the most that is possible.
"""

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from stoker.core import batch
from stoker.core.latency import Lines, Shapes
from tests.core.lines import MS, Waiting

BASE_S, ROW_S, MAX_ROWS = 4 * MS, 0.5 * MS, 32
CAPACITY = MAX_ROWS / (BASE_S + ROW_S * MAX_ROWS)  # a second


@dataclass
class Arrival(Waiting):
    arrived_s: float = 0.0
    limit_s: float = 0.0


@dataclass
class Outcome:
    seconds: float
    good: int = 0
    late: int = 0
    waits_s: list[float] = field(default_factory=list)
    dropped: Counter[float] = field(default_factory=Counter)
    offered: Counter[float] = field(default_factory=Counter)

    @property
    def goodput(self) -> float:
        return self.good / self.seconds

    def wait_s(self, quantile: float) -> float:
        return sorted(self.waits_s)[int(len(self.waits_s) * quantile)]


def arrivals(rate: float, limits_s: tuple[float, ...], shapes: tuple[Shapes, ...], seconds: float) -> list[Arrival]:
    draw = random.Random(f"{rate} {limits_s}")
    now_s, found = 0.0, []
    while (now_s := now_s + draw.expovariate(rate)) < seconds:
        limit_s = draw.choice(limits_s)
        found.append(Arrival(deadline_s=now_s + limit_s, arrived_s=now_s, limit_s=limit_s, shapes=draw.choice(shapes)))
    return found


def serve(
    rate: float,
    limits_s: tuple[float, ...],
    *,
    noise: float = 0.1,
    costs: dict[Shapes, float] | None = None,
    seconds: float = 6.0,
) -> Outcome:
    """Serve what arrives at `rate` a second; calls take up to `noise` more or less than they should."""
    costs = costs or {(): 1.0}
    coming = arrivals(rate, limits_s, tuple(costs), seconds)
    outcome = Outcome(seconds, offered=Counter(each.limit_s for each in coming))
    draw, lines = random.Random(1), Lines()
    queue: list[Arrival] = []
    now_s, at = 0.0, 0
    while at < len(coming) or queue:
        if not queue:
            now_s = max(now_s, coming[at].arrived_s)
        while at < len(coming) and coming[at].arrived_s <= now_s:
            queue.append(coming[at])
            at += 1
        planned = batch.plan(queue, lines, max_rows=MAX_ROWS, max_bytes=1 << 40, now_s=now_s)
        taken = [queue[place] for place in planned.take]
        outcome.dropped.update(queue[place].limit_s for place in planned.drop)
        gone = {*planned.take, *planned.drop}
        queue = [each for place, each in enumerate(queue) if place not in gone]
        if not taken:
            continue
        shapes = taken[0].shapes
        took_s = (BASE_S + ROW_S * planned.rows) * costs[shapes] * (1 + draw.uniform(-noise, noise))
        outcome.waits_s += [now_s - each.arrived_s for each in taken]
        now_s += took_s
        lines.learn(shapes, planned.rows, took_s, now_s)
        outcome.good += sum(each.deadline_s >= now_s for each in taken)
        outcome.late += sum(each.deadline_s < now_s for each in taken)
    return outcome


@pytest.mark.parametrize("rate", [1900, 3200, 4800])
@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_at_two_and_three_times_the_capacity_nearly_all_of_it_serves_requests_in_time(
    rate: float, noise: float
) -> None:
    outcome = serve(rate, (50 * MS,), noise=noise)
    assert outcome.goodput >= 0.95 * CAPACITY, outcome
    assert outcome.late <= 0.1 * outcome.good
    assert outcome.good + outcome.late + outcome.dropped.total() == outcome.offered.total()


@pytest.mark.parametrize("limits_s", [(25 * MS, 50 * MS, 200 * MS), (50 * MS, 1.0), (30 * MS, 40 * MS, 50 * MS)])
@pytest.mark.parametrize("rate", [1900, 3200, 4800])
def test_with_mixed_deadlines_overload_costs_no_more_than_a_tenth_of_the_capacity(
    rate: float, limits_s: tuple[float, ...]
) -> None:
    outcome = serve(rate, limits_s)
    assert outcome.goodput >= 0.9 * CAPACITY, outcome


def test_below_capacity_next_to_nothing_is_given_up() -> None:
    assert serve(1400, (50 * MS,)).dropped.total() <= 0.005 * 1400 * 6
    assert serve(1000, (50 * MS, 200 * MS)).dropped.total() == 0


@pytest.mark.parametrize("rate", [20, 60])
def test_at_low_load_a_request_waits_for_nothing_but_a_call_that_runs(rate: float) -> None:
    outcome = serve(rate, (50 * MS,), noise=0.0)
    assert outcome.wait_s(0.5) == 0.0
    assert max(outcome.waits_s) <= BASE_S + 4 * ROW_S
    assert outcome.good == outcome.offered.total()


def test_with_two_shapes_of_different_cost_each_keeps_its_deadlines() -> None:
    cheap, dear = ((8,),), ((64,),)
    # Half of the requests cost four times as much: 640 a second are possible in full batches of either.
    outcome = serve(1300, (100 * MS, 200 * MS), costs={cheap: 1.0, dear: 4.0})
    assert outcome.goodput >= 0.8 * 640, outcome
    assert outcome.late <= 0.1 * outcome.good
