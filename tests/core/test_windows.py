"""Counts of any window from sums that thin out with age."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.window import LEVELS, Window


@settings(max_examples=24)
@given(st.sampled_from([5.0, 10.0, 60.0, 300.0, 3600.0, 21_600.0, 86_400.0, 259_200.0]), st.integers(0, 1000))
def test_a_window_is_right_to_within_a_hundredth_of_its_length(length_s: float, seed: int) -> None:
    window = Window()
    days = 4
    steps = [60.0] * (days * 1440 - 15 + seed % 7) + [5.0] * (180 + seed % 11)
    at_s = 0.0
    for step_s in steps:
        at_s += step_s
        window.add(step_s / 2, step_s, at_s)  # a request a second, every second one bad
    seen = window.counts(length_s)
    assert abs(seen.total - length_s) <= max(0.01 * length_s, 5.0)
    assert seen.bad == seen.total / 2
    assert seen.covered_s == seen.total


def test_a_window_that_is_older_than_the_watch_says_how_much_of_it_was_seen() -> None:
    window = Window()
    assert window.counts(60).covered_s == 0
    window.add(99, 99, 1000.0)  # what was before the watch began
    assert window.counts(60).total == 0
    window.add(1, 2, 1005.0)
    seen = window.counts(86_400)
    assert (seen.bad, seen.total, seen.covered_s) == (1, 2, 5)


def test_looks_that_come_a_little_early_or_late_find_the_right_window() -> None:
    window = Window()
    at_s = 0.0
    for number in range(100):
        at_s += 5.0 + (0.4 if number % 2 else -0.4)
        window.add(0, 1, at_s)
        if number > 2:
            assert window.counts(5.0).total == 1
            assert window.counts(10.0).total == 2


def test_a_year_takes_no_more_memory_than_a_quarter() -> None:
    window = Window()
    for number in range(400 * 24):
        window.add(0, 1, number * 3600.0)
    held = [len(sums) for sums in window._levels]
    assert all(count <= kept for count, (_, kept) in zip(held, LEVELS, strict=True))
    assert window.counts(30 * 86_400).total == 720


def test_a_clock_that_goes_back_is_ignored() -> None:
    window = Window()
    window.add(0, 0, 10.0)
    window.add(0, 1, 15.0)
    window.add(0, 5, 12.0)
    assert window.counts(60).total == 1
