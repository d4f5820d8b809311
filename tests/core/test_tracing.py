"""Which requests leave a trace."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.core import tracing
from stoker.core.tracing import SLOW_SEEN_MIN, Cap, Pace, is_sampled, tail, threshold

PLAIN = {
    "status": 200,
    "code": "",
    "has_moved": False,
    "is_migrated": False,
    "is_hedged": False,
    "tries": 1,
    "is_slow": False,
}


@pytest.mark.parametrize(
    ("what", "because"),
    [
        ({}, ""),
        ({"status": 429, "code": "rate_limit_exceeded"}, ""),
        ({"status": 429, "code": "queue_full", "tries": 0}, "refused"),
        ({"status": 429, "code": "shed", "tries": 0}, "refused"),
        ({"status": 429, "code": "out_of_time", "tries": 0}, "refused"),
        ({"status": 429, "code": "busy", "tries": 3}, "retried"),
        ({"status": 499, "tries": 0, "is_slow": True}, "slow"),
        ({"status": 404}, ""),
        ({"status": 499, "tries": 0}, ""),
        ({"status": 503, "tries": 0}, "error"),
        ({"status": 500, "is_migrated": True, "tries": 3}, "error"),
        ({"is_migrated": True, "tries": 2}, "migrated"),
        ({"has_moved": True, "tries": 2}, "fallback"),
        ({"tries": 2, "is_slow": True}, "retried"),
        ({"is_hedged": True}, "hedged"),
        ({"is_slow": True}, "slow"),
    ],
)
def test_what_went_wrong_leaves_a_trace_for_its_gravest_reason(what: dict[str, object], because: str) -> None:
    assert tail(**{**PLAIN, **what}) == because  # type: ignore[arg-type]


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**128 - 1))
def test_whoever_samples_less_samples_a_part_of_what_others_do(one: float, other: float, trace: int) -> None:
    low, high = sorted((one, other))
    assert not is_sampled(trace, threshold(low)) or is_sampled(trace, threshold(high))
    assert is_sampled(trace, threshold(1.0))
    assert not is_sampled(trace, threshold(0.0))


@given(st.integers(0, 2**64 - 1))
def test_ids_made_by_counting_are_sampled_as_evenly_as_random_ones(first: int) -> None:
    at_least = threshold(0.01)
    kept = sum(is_sampled((first + number * 0x9E3779B97F4A7C15) % 2**64, at_least) for number in range(10_000))
    assert 95 <= kept <= 105


@settings(max_examples=50)
@given(st.integers(0, 2**32))
def test_about_one_good_answer_in_a_hundred_is_slow(seed: int) -> None:
    dice, pace = random.Random(seed), Pace()
    for _ in range(2_000):
        pace.observe(dice.lognormvariate(-3, 1))
    slow = sum(pace.observe(dice.lognormvariate(-3, 1)) for _ in range(10_000))
    assert 50 <= slow <= 200


def test_nothing_is_slow_before_enough_is_known() -> None:
    pace = Pace()
    assert not any(pace.observe(0.01 * 2**number) for number in range(SLOW_SEEN_MIN))
    assert pace.observe(1e200)


def test_a_client_that_left_waited_too_long_by_the_pace_or_before_it_is_known_by_any_measure() -> None:
    pace = Pace()
    assert [pace.is_over(seconds) for seconds in (0.1, 9.9, 10.1)] == [False, False, True]
    for _ in range(2 * SLOW_SEEN_MIN):
        pace.observe(0.1)
    line_s = pace.line_s
    assert [pace.is_over(seconds) for seconds in (0.05, 1.0)] == [False, True]
    assert pace.line_s == line_s, "it was no answer"


@given(st.lists(st.floats(0, 5), max_size=200), st.floats(1, 30))
def test_no_second_has_more_than_twice_the_cap(gaps: list[float], per_s: float) -> None:
    cap, now_s, taken = Cap(per_s, 0.0), 0.0, []
    for gap in gaps:
        now_s += gap
        if cap.take(now_s):
            taken.append(now_s)
    for begin in taken:
        assert sum(begin <= at < begin + 1.0 for at in taken) <= 2 * per_s
    assert all(earlier <= later for earlier, later in pairwise(taken))


def test_a_cap_gives_what_time_brings_back_and_no_more() -> None:
    cap = Cap(2.0, 0.0)
    assert [cap.take(0.0) for _ in range(3)] == [True, True, False]
    assert [cap.take(0.5), cap.take(0.5)] == [True, False]
    assert cap.has(1.0)
    assert cap.has(1.0), "asking takes nothing"
    assert cap.take(0.9), "a clock that goes back gives nothing and breaks nothing"
    assert sum(cap.take(1e9) for _ in range(10)) == 2
    assert tracing.TAIL_PER_S > 0
