import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.trend import is_trend, slope

numbers = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20)


@pytest.mark.parametrize("seed", range(20))
def test_a_leak_under_noise_is_a_trend(seed: int) -> None:
    draw = random.Random(seed)
    values = [100.0 + 2 * at + draw.gauss(0, 3) for at in range(12)]
    assert is_trend(values, 0.01)
    assert 1.0 < slope(values) < 3.0


def test_noise_alone_is_seldom_a_trend() -> None:
    draw = random.Random(1)
    false_alarms = sum(is_trend([draw.gauss(0, 1) for _ in range(12)], 0.01) for _ in range(2000))
    assert false_alarms <= 2000 * 0.01 * 1.5


def test_what_stays_as_it_is_has_no_trend() -> None:
    assert not is_trend([5.0] * 12, 0.01)
    assert slope([5.0] * 12) == 0.0


@given(numbers)
def test_one_wild_reading_cannot_make_a_slope_of_a_line(values: list[float]) -> None:
    line = [float(at) for at in range(9)]
    line[len(values) % 9] = values[0]
    assert 0.5 <= slope(line) <= 1.5


@given(numbers)
def test_a_trend_read_backwards_goes_the_other_way(values: list[float]) -> None:
    assert slope(values[::-1]) == pytest.approx(-slope(values))
    assert is_trend(values[::-1], 0.05) == is_trend(values, 0.05)
