"""What a replica costs, and two gateways that choose without knowing what the other does."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import route, sizes
from stoker.core.route import Cost

samples = st.lists(st.tuples(st.floats(1e-5, 100), st.floats(0, 5)), min_size=1, max_size=60)


@given(samples)
def test_a_cost_stays_within_what_was_seen_and_rises_at_most_twofold_at_once(steps: list[tuple[float, float]]) -> None:
    cost, now_s, seen = Cost(), 0.0, [steps[0][0]]
    for sample_s, passed_s in steps:
        now_s += passed_s
        before_s = cost.value_s
        cost.observe(sample_s, now_s)
        assert min(*seen, sample_s) * 0.999 <= cost.value_s <= max(*seen, sample_s)
        if before_s:
            assert cost.value_s <= 2 * max(before_s, seen[-1])
        seen.append(sample_s)


def test_one_late_answer_doubles_a_cost_and_two_are_believed() -> None:
    cost = Cost()
    for number in range(10):
        cost.observe(0.005, number / 100)
    cost.observe(1.0, 0.1)
    assert cost.value_s == 0.01
    cost.observe(1.0, 0.11)
    assert cost.value_s == 1.0


def test_a_peak_is_forgotten_over_quick_answers_or_over_time() -> None:
    cost = Cost()
    for sample_s in (0.005, 1.0, 1.0, 1.0):
        cost.observe(sample_s, 0.0)
    for number in range(100):
        cost.observe(0.005, number / 1000)
    assert cost.value_s < 0.02
    cost.observe(1.0, 1.0)
    cost.observe(1.0, 1.0)
    cost.observe(0.005, 11.0)
    assert cost.value_s < 0.6


def test_a_replica_that_nothing_is_asked_of_becomes_cheap_but_stays_measured() -> None:
    cost = Cost()
    cost.observe(10.0, 0.0)
    for second in range(1, 10_000):
        cost.fade(float(second))
    assert 0 < cost.value_s < 0.001
    cost.reset()
    assert cost.value_s == 0


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), min_size=1, max_size=60))
def test_a_penalty_makes_a_replica_dearer_within_bounds(steps: list[tuple[bool, float]]) -> None:
    cost = Cost()
    for number, (is_penalty, took_s) in enumerate(steps):
        before_s = cost.value_s
        if is_penalty:
            cost.penalize(number)
            assert before_s < cost.value_s or cost.value_s >= route.PENALTY_MAX_S
            assert cost.value_s <= max(before_s, route.PENALTY_MAX_S)
        else:
            cost.observe(took_s, number)


@given(st.floats(1e-5, 100), st.floats(0, 1000), st.floats(0, 1000))
def test_more_load_costs_more(cost_s: float, load: float, other: float) -> None:
    low, high = sorted((load, other))
    assert route.price_s(cost_s, low) <= route.price_s(cost_s, high)


def test_a_replica_never_measured_gets_one_request_and_no_second() -> None:
    assert route.price_s(0.0, 0) == 0
    assert route.price_s(0.0, 1) > route.price_s(100.0, 1000)


def test_a_replica_ten_times_slower_gets_about_a_tenth() -> None:
    taken = _closed_loop([0.01, 0.01, 0.01, 0.1], clients=32, seconds=20.0)
    share = taken[3] / (sum(taken[:3]) / 3)
    assert 0.05 < share < 0.15, taken


def test_a_replica_that_was_slow_comes_back() -> None:
    pace_s = [0.01, 0.01, 0.01, 0.1]
    taken = _closed_loop(pace_s, clients=32, seconds=20.0, change=lambda now_s: 0.1 if now_s < 5 else 0.01)
    assert taken[3] > 0.5 * sum(taken[:3]) / 3, taken


def _closed_loop(
    pace_s: list[float], *, clients: int, seconds: float, change: Callable[[float], float] | None = None
) -> list[int]:
    """Return how many requests each replica took; each serves one after the other, in its pace."""
    rng = random.Random(7)
    costs = [Cost() for _ in pace_s]
    load = [0] * len(pace_s)
    taken = [0] * len(pace_s)
    free_s = [0.0] * len(pace_s)
    ends: list[tuple[float, int, float]] = [(rng.random() / 100, -1, 0.0) for _ in range(clients)]
    while ends:
        ends.sort(reverse=True)
        now_s, index, began_s = ends.pop()
        if index >= 0:
            load[index] -= 1
            costs[index].observe(now_s - began_s, now_s)
        if now_s > seconds:
            continue
        one, other = route.pair(len(load), rng.random(), rng.random())
        index = min((one, other), key=lambda at: route.price_s(costs[at].value_s, load[at]))
        load[index] += 1
        taken[index] += 1
        took_s = change(now_s) if change is not None and index == 3 else pace_s[index]
        free_s[index] = max(free_s[index], now_s) + took_s * rng.uniform(0.8, 1.2)
        ends.append((free_s[index], index, now_s))
    return taken


@pytest.mark.parametrize("seed", range(5))
def test_two_gateways_that_know_of_each_other_late_do_not_herd(seed: int) -> None:
    """A sudden load: the fullest replica stays near the mean, where the least loaded by what is reported does not."""
    ours = _Gateways(seed, _cheaper_of_two, counts_own=True, hears_answers=True).worst_excess()
    naive = _Gateways(seed, _least_loaded, counts_own=False, hears_answers=False).worst_excess()
    assert ours < 12 < 0.3 * naive, (ours, naive)


@pytest.mark.parametrize("seed", range(5))
def test_what_one_gateway_piles_up_the_other_avoids_with_its_next_answer(seed: int) -> None:
    """One gateway's sessions put 60 long requests into one replica; how many does the other add in half a second?"""
    heard = _Gateways(seed, _cheaper_of_two, counts_own=True, hears_answers=True).added_to_a_pile()
    asked = _Gateways(seed, _cheaper_of_two, counts_own=True, hears_answers=False).added_to_a_pile()
    assert heard < 0.4 * asked, (heard, asked)


Choose = Callable[[list[int], random.Random], int]


def _cheaper_of_two(loads: list[int], rng: random.Random) -> int:
    one, other = route.pair(len(loads), rng.random(), rng.random())
    return min((one, other), key=lambda at: route.price_s(0.02, loads[at]))


def _least_loaded(loads: list[int], rng: random.Random) -> int:
    return loads.index(min(loads))


class _Gateways:
    """Two gateways before eight replicas, in steps of a millisecond; requests take 20 ms.

    counts_own: a gateway counts its own at once, else as of the last report. hears_answers: an answer brings what its
    replica holds of the other gateway; reports come once a second.
    """

    def __init__(self, seed: int, choose: Choose, *, counts_own: bool, hears_answers: bool) -> None:
        self.rng = random.Random(seed)
        self.choose = choose
        self.counts_own = counts_own
        self.hears_answers = hears_answers
        self.own = [[0] * 8, [0] * 8]
        self.seen = [[0] * 8, [0] * 8]  # the own, as last reported
        self.others = [[0] * 8, [0] * 8]  # the other's, as last reported
        self.ends: list[tuple[float, int, int]] = []
        self.now_s = 0.0
        self.taken = [[0] * 8, [0] * 8]

    def send(self, gateway: int, index: int, took_s: float) -> None:
        self.own[gateway][index] += 1
        self.taken[gateway][index] += 1
        self.ends.append((self.now_s + took_s, gateway, index))

    def step(self, arrivals: tuple[int, int]) -> None:
        self.now_s += 0.001
        self.ends.sort()
        while self.ends and self.ends[0][0] <= self.now_s:
            _, gateway, index = self.ends.pop(0)
            self.own[gateway][index] -= 1
            if self.hears_answers:
                self.others[gateway][index] = self.own[1 - gateway][index]
        if round(self.now_s * 1000) % 1000 == 100:
            self.seen = [list(self.own[0]), list(self.own[1])]
            self.others = [list(self.own[1]), list(self.own[0])]
        for gateway, count in enumerate(arrivals):
            for _ in range(count):
                mine = self.own[gateway] if self.counts_own else self.seen[gateway]
                loads = [one + two for one, two in zip(mine, self.others[gateway], strict=True)]
                self.send(gateway, self.choose(loads, self.rng), self.rng.expovariate(1 / 0.02))

    def worst_excess(self) -> float:
        """Return by how much the fullest replica exceeds the mean at the worst moment of two seconds."""
        worst = 0.0
        for _ in range(2000):
            self.step((3, 1))
            held = [one + two for one, two in zip(*self.own, strict=True)]
            worst = max(worst, max(held) - sum(held) / 8)
        return worst

    def added_to_a_pile(self) -> int:
        """Return how many requests the first gateway sends where the second has just put 60 that take long."""
        for _ in range(300):
            self.step((3, 0))
        for _ in range(60):
            self.send(1, 5, 60.0)
        before = self.taken[0][5]
        for _ in range(500):
            self.step((3, 0))
        return self.taken[0][5] - before


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_share_of_work_is_bounded(prompt: int, known: int, tokens_max: int) -> None:
    usual = sizes.Sizes()
    for _ in range(3):
        assert sizes.SHARE_MIN <= usual.share(prompt, known, tokens_max) <= sizes.SHARE_MAX


def test_a_long_prompt_is_more_work_than_a_short_one_and_a_known_one_is_less() -> None:
    usual = sizes.Sizes()
    for _ in range(100):
        usual.share(400, 0, 0)
    assert usual.share(400, 0, 0) == pytest.approx(1.0, rel=0.05)
    assert usual.share(40_000, 0, 0) > 3
    assert usual.share(40_000, 40_000, 10) < 0.5
    for _ in range(200):
        usual.ended(10)
    assert usual.share(400, 0, 4096) < 0.5
