"""What a gap between two latency distributions is sure of."""

from collections import Counter
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.verdict.spread import BASELINE_MIN, LATER_THAN, Spread, gap, radius
from stoker.telemetry.histogram import bucket_index

BUCKETS = st.dictionaries(st.integers(-160, 161), st.integers(1, 1000), min_size=1, max_size=12)


@given(count=st.integers(1, 10**7), alpha=st.floats(1e-6, 0.1))
def test_more_values_are_surer_and_a_smaller_chance_is_less_so(count: int, alpha: float) -> None:
    assert radius(2 * count, alpha) < radius(count, alpha)
    assert radius(count, alpha / 2) > radius(count, alpha)
    assert radius(0, alpha) == inf


@given(arm=BUCKETS, times=st.integers(1, 50))
def test_equal_distributions_have_no_gap_however_many_values_each_has(arm: dict[int, int], times: int) -> None:
    found = gap({bucket: count * times for bucket, count in arm.items()}, arm, 0.01)
    assert found.ratio == pytest.approx(0.0, abs=1e-9)
    assert found.surely < 0


@given(one=BUCKETS, other=BUCKETS)
def test_a_gap_is_a_share_and_of_two_directions_the_one_that_is_later(
    one: dict[int, int], other: dict[int, int]
) -> None:
    later, sooner = gap(one, other, 0.01), gap(other, one, 0.01)
    assert 0 <= later.ratio <= 1
    assert later.surely <= later.ratio
    true = max((_done(other, at) - _done(one, at) for at in range(-160, 162)), default=0.0)
    assert later.ratio == pytest.approx(max(true, 0.0))
    assert sooner.ratio == pytest.approx(max((_done(one, at) - _done(other, at) for at in range(-160, 162)), default=0))


def test_an_arm_without_requests_says_nothing() -> None:
    assert gap({}, {3: 10}, 0.01).surely == -inf
    assert gap({3: 10}, {}, 0.01).surely == -inf


def test_looked_at_often_the_true_gap_is_never_overstated() -> None:
    rng = np.random.default_rng(3)
    for _ in range(60):
        canary: Counter[int] = Counter()
        baseline: Counter[int] = Counter()
        for _ in range(40):
            canary.update(np.ceil(8 * np.log2(rng.lognormal(-4.0, 0.5, 10))).astype(int).tolist())
            baseline.update(np.ceil(8 * np.log2(rng.lognormal(-4.0, 0.5, 90))).astype(int).tolist())
            assert gap(canary, baseline, 0.01).surely <= 0


def test_what_is_late_is_told_by_what_was_before_the_look() -> None:
    nothing = Spread().seen({5: 10}, {1: BASELINE_MIN - 1}, 0.0)
    assert nothing.odds == Spread().odds
    assert nothing.seen({5: 10}, {1: 10}, 0.0).odds == Spread().odds
    known = nothing.seen({}, {1: 1}, 0.0)
    assert all(each.log_e > 2 for each in known.seen({5: 10}, {1: 90}, 0.0).odds)


def test_looked_at_often_alike_arms_are_called_late_as_seldom_as_promised() -> None:
    rng, runs = np.random.default_rng(11), 300
    wrong = np.zeros(len(LATER_THAN))
    for _ in range(runs):
        spread, highest = Spread(), np.zeros(len(LATER_THAN))
        for _ in range(30):
            canary, baseline = (
                Counter(np.ceil(8 * np.log2(rng.lognormal(-4.0, 0.5, count))).astype(int).tolist())
                for count in (10, 90)
            )
            spread = spread.seen(canary, baseline, 0.0)
            highest = np.maximum(highest, [each.log_e for each in spread.odds])
        wrong += highest >= np.log(1 / 0.05)
    assert max(wrong) <= 0.05 * runs


def _done(arm: dict[int, int], at: int) -> float:
    return sum(count for bucket, count in arm.items() if bucket <= at) / sum(arm.values())


@pytest.mark.parametrize(
    ("usual_s", "canary_s", "is_worse"),
    [(0.0005, 0.0009, False), (0.0005, 0.004, True), (0.1, 0.106, False), (0.1, 0.15, True)],
)
def test_a_little_longer_is_none_the_worse(usual_s: float, canary_s: float, is_worse: bool) -> None:
    seen = Spread()
    for _ in range(40):
        seen = seen.seen({bucket_index(canary_s): 50}, {bucket_index(usual_s): 450}, 0.05)
    assert any(each.log_e > 5.0 for each in seen.odds) is is_worse
