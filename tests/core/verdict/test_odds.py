"""What makes the bet on bad events fair: its mean is at most 1 while the canary is no worse, whatever the shares."""

from math import comb, exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.verdict.odds import Odds, Tally

COUNTS = st.integers(1, 40)


def one_look(bad: int, of_bad: int, canary: int, baseline: int, tolerated: float = 1.0) -> float:
    """Return the e-value after a look in which `bad` of `of_bad` bad events were in the canary."""
    return exp(Odds().seen(Tally(bad, canary), Tally(of_bad - bad, baseline), tolerated).log_e)


@given(canary=COUNTS, baseline=COUNTS, data=st.data())
def test_of_alike_arms_the_mean_e_value_is_at_most_one_whatever_falls_where(
    canary: int, baseline: int, data: st.DataObject
) -> None:
    of_bad = data.draw(st.integers(0, canary + baseline))
    mean = sum(
        comb(canary, bad) * comb(baseline, of_bad - bad) * one_look(bad, of_bad, canary, baseline)
        for bad in range(max(of_bad - baseline, 0), min(of_bad, canary) + 1)
    ) / comb(canary + baseline, of_bad)
    assert mean <= 1.0 + 1e-9


@given(
    canary=st.integers(1, 12),
    baseline=st.integers(1, 12),
    rate=st.floats(0.01, 0.6),
    tolerated=st.floats(1.0, 3.0),
    part=st.floats(0.0, 1.0),
)
def test_of_a_canary_within_what_is_tolerated_the_mean_e_value_is_at_most_one(
    canary: int, baseline: int, rate: float, tolerated: float, part: float
) -> None:
    odds = rate / (1 - rate) * (1.0 + (tolerated - 1.0) * part)
    worse = odds / (1 + odds)

    def chance(bad: int, count: int, at: float) -> float:
        return comb(count, bad) * at**bad * (1 - at) ** (count - bad)

    mean = sum(
        chance(bad, canary, worse)
        * chance(other, baseline, rate)
        * one_look(bad, bad + other, canary, baseline, tolerated)
        for bad in range(canary + 1)
        for other in range(baseline + 1)
    )
    assert mean <= 1.0 + 1e-9


@given(looks=st.lists(st.tuples(COUNTS, COUNTS, st.integers(0, 3), st.integers(0, 3)), max_size=8), data=st.data())
def test_the_order_of_the_looks_does_not_matter(looks: list[tuple[int, int, int, int]], data: st.DataObject) -> None:
    def after(some: list[tuple[int, int, int, int]]) -> float:
        odds = Odds()
        for canary, baseline, bad, other in some:
            odds = odds.seen(Tally(min(bad, canary), canary), Tally(min(other, baseline), baseline))
        return odds.log_e

    assert after(looks) == pytest.approx(after(data.draw(st.permutations(looks))))


@given(canary=COUNTS, baseline=COUNTS, data=st.data())
def test_one_more_bad_event_in_the_canary_instead_of_the_baseline_is_more_evidence(
    canary: int, baseline: int, data: st.DataObject
) -> None:
    bad = data.draw(st.integers(0, canary - 1))
    other = data.draw(st.integers(1, baseline))
    more = one_look(bad + 1, bad + other, canary, baseline)
    assert more > one_look(bad, bad + other, canary, baseline)


def test_a_look_without_two_arms_says_nothing() -> None:
    assert Odds().seen(Tally(5, 5), Tally(0, 0)) == Odds()
    assert Odds().seen(Tally(0, 0), Tally(5, 5)) == Odds()
    assert Odds().seen(Tally(0, 5), Tally(0, 5)) == Odds()
    assert Odds().log_e == pytest.approx(0.0)


def test_a_canary_that_fails_where_the_baseline_never_did_is_found_in_four_requests() -> None:
    odds = Odds()
    for _ in range(4):
        odds = odds.seen(Tally(1, 1), Tally(0, 9))
    assert odds.log_e > log(100)


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.3])
def test_looked_at_every_fifty_requests_alike_arms_are_called_worse_as_seldom_as_promised(rate: float) -> None:
    rng = np.random.default_rng(7)
    runs, wrong = 400, 0
    for _ in range(runs):
        odds, highest = Odds(), 0.0
        for share in rng.choice([0.02, 0.1, 0.5], 60):  # a share that changes with each look
            canary = int(rng.binomial(50, share))
            bad, other = int(rng.binomial(canary, rate)), int(rng.binomial(50 - canary, rate))
            odds = odds.seen(Tally(bad, canary), Tally(other, 50 - canary))
            highest = max(highest, odds.log_e)
        wrong += highest >= log(1 / 0.05)
    assert wrong <= 0.05 * runs
