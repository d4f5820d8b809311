"""One endpoint on virtual time holds what queueing theory and bookkeeping say."""

from itertools import pairwise
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.sim import arrivals
from stoker.sim.endpoint import Terms, simulate
from stoker.sim.policies import POLICIES
from stoker.sim.policy import Fixed, Observation
from stoker.sim.run import Run, summary
from stoker.sim.service import Drawn, seconds


class Planned:
    """Wants what a plan says, and keeps what it saw."""

    name = "planned"
    every_s = 1.0

    def __init__(self, plan: list[tuple[float, int]]) -> None:
        self._plan = plan
        self.seen: list[Observation] = []

    def tick(self, seen: Observation) -> int:
        self.seen.append(seen)
        return [count for since_s, count in self._plan if since_s <= seen.now_s][-1]


def run(policy: str, seed: int, load: str = "spike", duration_s: float = 900.0) -> Run:
    terms = Terms()
    came = arrivals.make(load, seed, duration_s)
    took = seconds(Drawn(), came, seed)
    return simulate(came.at_s.tolist(), took.tolist(), POLICIES[policy](terms), terms, duration_s)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_run(policy: str) -> None:
    one, same, other = run(policy, 1), run(policy, 1), run(policy, 2)
    assert np.array_equal(one.wait_s, same.wait_s)
    assert one.timeline == same.timeline
    assert summary(one, 1.0) == summary(same, 1.0) != summary(other, 1.0)


def erlang_c(places: int, load: float) -> float:
    """Return the probability of having to wait, M/M/c."""
    last = load**places / factorial(places) * places / (places - load)
    return last / (sum(load**k / factorial(k) for k in range(places)) + last)


@pytest.mark.parametrize(("replicas", "per_s"), [(1, 7.0), (2, 16.0), (5, 42.0)])
def test_waiting_is_erlangs(replicas: int, per_s: float) -> None:
    places = 4 * replicas
    chance = erlang_c(places, per_s * 0.4)
    expected_s = chance * 0.4 / (places - per_s * 0.4)
    means_s, shares = [], []
    duration_s = 10_000 / per_s
    for seed in range(8):
        came = arrivals.poisson(lambda at_s: np.full_like(at_s, per_s), per_s, duration_s, np.random.default_rng(seed))
        took = seconds(Drawn(0.4), came, seed)
        found = simulate(
            came.at_s.tolist(), took.tolist(), Fixed(replicas), Terms(initial=replicas, least=replicas), duration_s
        )
        means_s.append(np.mean(found.wait_s))
        shares.append(np.mean(found.wait_s > 0.0))
    # 4.8 standard errors of eight runs: a right simulation is outside once in five hundred.
    for values, expected in ((means_s, expected_s), (shares, chance)):
        assert abs(np.mean(values) - expected) < 4.8 * np.std(values, ddof=1) / len(values) ** 0.5 + 0.01 * expected


@given(
    gaps_s=st.lists(st.floats(0.0, 3.0), min_size=1, max_size=60),
    took_s=st.lists(st.floats(0.01, 8.0), min_size=60, max_size=60),
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=12),
    places=st.integers(1, 3),
    cold_start_s=st.floats(0.0, 20.0),
)
@settings(max_examples=60, deadline=None)
def test_every_request_ends_once_and_littles_law_holds(
    gaps_s: list[float], took_s: list[float], counts: list[int], places: int, cold_start_s: float
) -> None:
    at_s = np.cumsum(gaps_s).tolist()
    took_s = took_s[: len(at_s)]
    policy = Planned([(at * 7.0, count) for at, count in enumerate(counts)])
    duration_s = at_s[-1] + 1.0
    found = simulate(at_s, took_s, policy, Terms(places, cold_start_s, most=6), duration_s)
    assert found.finished == len(at_s) == len(found.wait_s)
    assert np.all(found.wait_s >= 0.0)
    last = policy.seen[-1]
    for one, after in pairwise(policy.seen):
        assert one.arrived <= after.arrived
        assert one.finished <= after.finished
        assert one.running + one.waiting == one.arrived - one.finished
        assert one.presence_s <= after.presence_s + 1e-6
    if last.finished == len(at_s):
        # L = lambda W: the integral of those present is the sum of what each was here.
        assert last.presence_s == pytest.approx(float(np.sum(found.wait_s)) + sum(took_s), abs=1e-5)
        assert last.service_s == pytest.approx(sum(took_s))


def test_a_request_that_needs_a_new_replica_waits_exactly_its_start() -> None:
    policy = Planned([(0.0, 1), (10.0, 2)])
    found = simulate([1.0, 2.0], [500.0, 1.0], policy, Terms(places=1, cold_start_s=40.0), 100.0)
    assert found.wait_s.tolist() == [0.0, 48.0]  # asked for at 10, ready at 50
    assert found.changes == 1
    assert policy.seen[49].starting == 1
    assert policy.seen[51].ready == 2
    assert policy.seen[51].cold_start_s == 40.0


def test_a_replica_is_paid_from_its_order_until_its_last_request_ended() -> None:
    policy = Planned([(0.0, 1), (10.0, 2), (60.0, 1), (61.0, 0)])
    found = simulate([1.0, 2.0], [500.0, 20.0], policy, Terms(places=1, cold_start_s=40.0, least=0, initial=1), 200.0)
    assert found.wait_s.tolist() == [0.0, 48.0]
    # The first drains to the end of what counts (200), the second from its order at 10 until its request ends at 70.
    assert found.replica_hours * 3600 == pytest.approx(200.0 + 60.0)


def test_a_replica_that_is_not_wanted_any_more_never_becomes_ready() -> None:
    policy = Planned([(0.0, 1), (10.0, 3), (20.0, 1)])
    found = simulate([90.0], [1.0], policy, Terms(cold_start_s=40.0), 100.0)
    assert max(seen.ready for seen in policy.seen) == 1
    assert found.replica_hours * 3600 == pytest.approx(100.0 + 2 * 10.0)
    assert found.changes == 2


def test_who_is_never_served_is_counted_as_unfinished_and_waiting() -> None:
    found = simulate([1.0, 2.0], [1.0, 1.0], Fixed(0), Terms(least=0), 10.0)
    assert summary(found, 1.0).unfinished == 2
    assert found.late_ratio(1.0) == 1.0
