"""Amounts over time add up, and a sum is split without losing any of it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.cost.money import HOUR_MS, between, split

TIMES = st.integers(0, 2**43)


@given(st.integers(0, 10**12), st.lists(TIMES, min_size=2, max_size=20))
def test_the_parts_of_a_time_cost_what_the_whole_costs(rate: int, cuts: list[int]) -> None:
    cuts.sort()
    parts = [between(rate, start, end) for start, end in pairwise(cuts)]
    assert sum(parts) == between(rate, cuts[0], cuts[-1])
    assert all(part >= 0 for part in parts)


@given(st.integers(0, 10**12), TIMES)
def test_an_hour_costs_its_rate(rate: int, start: int) -> None:
    assert between(rate, start, start + HOUR_MS) == rate


@given(st.integers(0, 10**15), st.lists(st.integers(0, 10**15), min_size=1, max_size=30).filter(any))
def test_a_split_loses_nothing_and_is_never_one_off_the_true_share(total: int, weights: list[int]) -> None:
    parts = split(total, weights)
    assert sum(parts) == total
    whole = sum(weights)
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part * whole - total * weight) < whole


def test_equal_weights_give_the_rest_to_the_first() -> None:
    assert split(5, [1, 1, 1]) == [2, 2, 1]


@pytest.mark.parametrize("weights", [[0, 0], [], [3, -1]])
def test_nothing_is_split_by_nothing(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="nothing to split"):
        split(1, weights)
    if not any(weights):
        assert split(0, weights) == [0] * len(weights)
