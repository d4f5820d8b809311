"""The benchmark's arithmetic: medians hide no errors, ratios are taken inside a round, a miss is called a miss."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import Figure, Sample, over_rounds, percentile, ratio_over_rounds, table, turn

values = st.lists(st.floats(0, 1e6), min_size=1, max_size=100)


@given(values, st.floats(0, 1))
def test_a_percentile_is_one_of_the_values_and_enough_lie_at_or_under_it(numbers: list[float], share: float) -> None:
    found = percentile(numbers, share)
    assert found in numbers
    assert sum(number <= found for number in numbers) >= share * len(numbers)
    assert sum(number < found for number in numbers) <= max(share * len(numbers), 0)


def test_no_values_have_the_percentile_zero() -> None:
    assert percentile([], 0.99) == 0.0


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 2), (0.51, 3), (0.99, 4), (1.0, 4)])
def test_percentiles_of_four_values(share: float, expected: float) -> None:
    assert percentile([4, 1, 3, 2], share) == expected


def sample(requests: int = 100, errors: int = 0, seconds: float = 1.0, cpu_s: float = 0.0) -> Sample:
    return Sample(requests, errors, seconds, p50_s=0.001, p99_s=0.002, cpu_s=cpu_s)


def test_errors_are_no_answers_and_none_hides_in_a_median() -> None:
    rounds = [sample(), sample(errors=40), sample()]
    assert rounds[1].rate == 60
    assert over_rounds(rounds).errors == 40
    assert table({"stoker": rounds})[1] == ["stoker", "100", "1.000", "2.000", "0", "40"]


def test_processor_time_counts_for_each_request() -> None:
    assert sample(requests=1000, cpu_s=0.1).cpu_us == pytest.approx(100)
    assert sample(requests=0).cpu_us == 0
    assert sample(seconds=0).rate == 0


def test_a_slow_round_of_both_does_not_change_the_ratio() -> None:
    assert ratio_over_rounds([200, 20, 210], [100, 10, 100]) == 2.0
    assert ratio_over_rounds([1.0], [0.0]) == 0.0


@given(st.lists(st.text(max_size=3), unique=True, min_size=1, max_size=5), st.integers(0, 20))
def test_every_contender_has_its_turn_and_each_begins_once_in_a_cycle(names: list[str], number: int) -> None:
    assert sorted(turn(names, number)) == sorted(names)
    assert {turn(names, start)[0] for start in range(len(names))} == set(names)


@pytest.mark.parametrize(
    ("value", "hold", "keep", "verdict"),
    [
        (2.0, 2.0, "at least", "pass"),
        (1.99, 2.0, "at least", "MISSED"),
        (150.0, 150.0, "at most", "pass"),
        (150.1, 150.0, "at most", "MISSED"),
        (9.0, None, "", ""),
    ],
)
def test_a_figure_says_whether_it_holds(value: float, hold: float | None, keep: str, verdict: str) -> None:
    assert Figure("x", value, "", hold, keep).verdict == verdict  # type: ignore[arg-type]
