"""The quantile of what a sample was drawn from lies between the values that are said, and no narrower ones would do."""

import math
import random
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from stoker.core.ranks import interval, ranks

SHARES = (0.05, 0.5, 0.9, 0.95, 0.99)


def under(count: int, most: int, share: float) -> Fraction:
    """Return the chance that at most `most` of `count` draws are under the quantile at `share`, exactly."""
    p = Fraction(share)
    return sum((math.comb(count, at) * p**at * (1 - p) ** (count - at) for at in range(most + 1)), Fraction(0))


@given(count=st.integers(1, 120), share=st.sampled_from(SHARES))
def test_each_side_fails_once_in_forty_at_the_most_and_the_next_rank_would_more_often(count: int, share: float) -> None:
    low, high = ranks(count, share)
    assert 0 <= low < high <= count + 1
    assert under(count, low - 1, share) <= Fraction(1, 40) < under(count, low, share) + Fraction(1, 10**9)
    assert 1 - under(count, high - 1, share) <= Fraction(1, 40) + Fraction(1, 10**9)
    assert high == 1 or 1 - under(count, high - 2, share) > Fraction(1, 40) - Fraction(1, 10**9)


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=200), st.sampled_from(SHARES))
def test_what_is_seen_lies_in_it_and_the_unit_does_not_matter(values: list[float], share: float) -> None:
    low, high = interval(values, share)
    seen = sorted(values)[max(math.ceil(share * len(values)), 1) - 1]
    assert low <= seen <= high
    assert interval([1024.0 * each for each in reversed(values)], share) == (1024.0 * low, 1024.0 * high)


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=200), st.sampled_from(SHARES))
def test_who_is_surer_says_more(values: list[float], share: float) -> None:
    low, high = interval(values, share)
    lower, higher = interval(values, share, 0.99)
    assert lower <= low <= high <= higher


def test_too_few_are_open_above() -> None:
    seconds = [float(each) for each in range(44)]
    assert interval(seconds, 0.95) == (38.0, math.inf), "none of 44 is surely over P95"
    assert ranks(73, 0.95) == (65, 73), "of 73 the largest is"
    assert ranks(100, 0.5) == (40, 61), "as tables have it"
    assert interval([], 0.5) == (0.0, math.inf)


def test_the_truth_lies_in_it_nineteen_times_of_twenty() -> None:
    draws = random.Random(5)
    tries = 2000
    for count, share in ((44, 0.95), (44, 0.5), (200, 0.95)):
        true = -math.log(1.0 - share)  # of an exponential with mean 1
        samples = ([draws.expovariate(1.0) for _ in range(count)] for _ in range(tries))
        inside = sum(low <= true <= high for low, high in (interval(each, share) for each in samples))
        assert inside / tries >= 0.94
