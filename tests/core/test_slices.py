"""Time in slices: each is judged once, whenever somebody looks, and counts like every other."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import slices, slo
from stoker.core.slices import CAUGHT_UP_MAX
from stoker.core.slo import BAD_MIN, Counts, SloMemory
from stoker.types.slos import Objective, Slices

START_S = 1_800_000_000.0
LENGTHS = st.sampled_from([60.0, 300.0, 420.0, 3600.0])


@given(LENGTHS, st.lists(st.integers(0, 4000).map(lambda ticks: 5.0 * ticks), min_size=1, max_size=30))
def test_however_often_one_looks_each_slice_is_judged_once_and_none_that_was_not_seen_whole(
    length_s: float, waits_s: list[float]
) -> None:
    since_s = now_s = START_S + 5.0 * len(waits_s)
    judged: list[float] = []
    for wait_s in waits_s:
        now_s += wait_s
        found = slices.ends(since_s, now_s, length_s)
        judged += found
        since_s = found[-1] if found else since_s
    assert all(second > first for first, second in pairwise(judged))
    assert all(end_s % length_s == 0 and end_s <= now_s for end_s in judged)
    assert not judged or judged[0] - length_s >= START_S + 5.0 * len(waits_s)
    if max(waits_s) <= CAUGHT_UP_MAX * length_s:  # none is left out
        assert all(second - first == length_s for first, second in pairwise(judged))
        assert now_s - (judged[-1] if judged else START_S) < 2 * length_s + 5.0 * len(waits_s)


def test_after_a_long_sleep_only_the_newest_slices_are_told() -> None:
    found = slices.ends(START_S, START_S + 86_400.0, 60.0)
    assert len(found) == CAUGHT_UP_MAX
    assert found[-1] == START_S + 86_400.0


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0.01, 1.0))
def test_a_slice_with_a_target_is_good_or_bad_and_one_without_is_as_good_as_its_events(
    bad: int, good: int, target: float
) -> None:
    counts = Counts(bad, bad + good)
    share = good / (bad + good) if bad + good else 1.0
    assert slices.goodness(counts, Slices()) == pytest.approx(share)
    whole = slices.goodness(counts, Slices(target=target))
    assert whole in (0.0, 1.0)
    if abs(share - target) > 1e-6:
        assert whole == (share > target)


@pytest.mark.parametrize(("bad", "total"), [(1, 20), (3, 10), (1, 3), (7, 100)])
def test_exactly_the_target_is_good(bad: int, total: int) -> None:
    counts = Counts(bad, total)
    assert slices.goodness(counts, Slices(target=(total - bad) / total)) == 1.0
    assert slices.goodness(counts, Slices(target=(total - bad) / total + 1e-6)) == 0.0


@given(LENGTHS, st.sampled_from([86_400.0, 7 * 86_400.0, 30 * 86_400.0, 90 * 86_400.0]))
def test_every_rule_over_slices_sees_enough_of_them_to_fire(length_s: float, window_s: float) -> None:
    found = slo.rules(window_s, length_s)
    assert {rule.name for rule in found} == {"fast", "steady", "slow", "leak"}
    for rule in found:
        assert rule.long_s >= 2 * BAD_MIN * length_s
        assert rule.short_s >= 2 * length_s


def test_an_outage_pages_at_its_fifth_bad_slice_and_says_slices() -> None:
    objective = Objective(name="minutes", target=0.999, slices=Slices(target=0.95))

    def decided(bad: int) -> slo.SloDecision:
        counts = {each: Counts(min(bad, each / 60), each / 60) for each in slo.windows(objective)}
        return slo.decide(objective, counts, SloMemory(), 0.0)

    assert decided(4).severity == "none"
    assert decided(5).severity == "page"
    assert "slices of 1m were bad" in decided(5).because
