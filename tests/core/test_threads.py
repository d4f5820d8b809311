"""Thread counts: the fewest that are nearly as fast as the fastest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.threads import NEARLY, candidates, choose


@pytest.mark.parametrize(("cores", "counts"), [(1, (1,)), (2, (2, 1)), (6, (6, 4, 2, 1)), (8, (8, 4, 2, 1))])
def test_all_cores_and_the_powers_of_two_below_are_tried(cores: int, counts: tuple[int, ...]) -> None:
    assert candidates(cores) == counts


@pytest.mark.parametrize(
    ("seconds", "threads"),
    [
        ({1: (1.0, 8.0), 2: (1.0, 4.2), 4: (1.0, 2.2)}, 4),
        ({1: (1.0, 8.0), 2: (1.0, 7.5), 4: (1.0, 7.4)}, 1),  # 4 % faster is not worth three cores
        ({1: (1.0, 8.0), 2: (0.6, 4.1), 4: (0.6, 4.0)}, 2),
        ({1: (1.0, 8.0), 2: (3.0, 5.0)}, 1),  # large calls gain less than small ones lose
    ],
)
def test_a_thread_that_brings_little_is_not_taken(seconds: dict[int, tuple[float, ...]], threads: int) -> None:
    assert choose(seconds) == threads


@given(seconds=st.dictionaries(st.integers(1, 64), st.tuples(st.floats(1e-6, 10), st.floats(1e-6, 10)), min_size=1))
def test_the_choice_is_nearly_the_fastest_and_no_smaller_one_is(seconds: dict[int, tuple[float, float]]) -> None:
    chosen = choose(seconds)
    product = {threads: one * many for threads, (one, many) in seconds.items()}
    limit = min(product.values()) * NEARLY**2 * (1 + 1e-9)
    assert product[chosen] <= limit
    assert all(product[threads] > min(product.values()) for threads in seconds if threads < chosen)
