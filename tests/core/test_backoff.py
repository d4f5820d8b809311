"""When a process that died starts again."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from stoker.core.backoff import ACCIDENT_S, DELAY_MAX_S, JITTER_SHARE, SETTLED_S, after_death
from stoker.core.conditions import crash_message
from stoker.types.process import ProcessStatus

jitters = some.floats(0, 1)
lives = some.floats(0, 10_000)
counts = some.integers(0, 10_000)


def delays(lives_s: list[float], jitter: float = 0.0) -> list[float]:
    found, count = [], 0
    for ready_s in lives_s:
        restart = after_death(count, ready_s=ready_s, jitter=jitter)
        count = restart.crashes_in_row
        found.append(restart.delay_s)
    return found


def test_a_process_that_never_becomes_ready_waits_twice_as_long_each_time_up_to_a_minute() -> None:
    assert delays([0.0] * 9) == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_first_death_after_a_working_life_costs_no_wait() -> None:
    assert delays([ACCIDENT_S + 1]) == [0]
    assert delays([ACCIDENT_S - 1]) == [1]


def test_a_process_that_keeps_dying_after_a_few_seconds_of_work_backs_off() -> None:
    assert delays([20.0] * 5) == [0, 2, 4, 8, 16]


def test_a_settled_life_forgets_the_crashes_before_it() -> None:
    assert delays([0.0, 0.0, 0.0, SETTLED_S, 0.0]) == [1, 2, 4, 0, 2]


@given(counts, lives, jitters)
def test_the_wait_is_never_negative_and_never_over_the_maximum(count: int, ready_s: float, jitter: float) -> None:
    restart = after_death(count, ready_s=ready_s, jitter=jitter)
    assert 0 <= restart.delay_s <= DELAY_MAX_S
    assert 1 <= restart.crashes_in_row <= count + 1


@given(counts, some.floats(0, SETTLED_S - 1), jitters)
def test_another_crash_never_shortens_the_wait_but_for_the_jitter(count: int, ready_s: float, jitter: float) -> None:
    now = after_death(count, ready_s=ready_s, jitter=jitter)
    later = after_death(now.crashes_in_row, ready_s=ready_s, jitter=0.0)
    assert later.delay_s * (1 + JITTER_SHARE) >= now.delay_s
    assert later.crashes_in_row == now.crashes_in_row + 1


@given(some.lists(some.floats(0, 9), min_size=1, max_size=50), jitters)
def test_a_crash_loop_never_starts_more_often_than_the_doubling_allows(lives_s: list[float], jitter: float) -> None:
    waited_s = sum(delays(lives_s, jitter))
    assert waited_s >= sum(min(DELAY_MAX_S, 2.0**turn) for turn in range(len(lives_s)))


@given(counts, jitters)
def test_what_everything_needs_never_waits_longer_than_its_own_maximum(count: int, jitter: float) -> None:
    assert after_death(count, ready_s=0.0, jitter=jitter, delay_max_s=5.0).delay_s <= 5.0


def test_deaths_of_a_process_that_had_been_ready_are_told_from_those_while_it_loads() -> None:
    restart = after_death(0, ready_s=0.0, jitter=0.0)
    found = [(restart.crashes_in_row, restart.ready_crashes)]
    for ready_s in (5.0, 0.0, SETTLED_S, 0.0):
        restart = after_death(restart.crashes_in_row, restart.ready_crashes, ready_s=ready_s, jitter=0.0)
        found.append((restart.crashes_in_row, restart.ready_crashes))
    assert found == [(1, 0), (2, 1), (3, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize(
    ("crashes", "ready", "words"),
    [
        (3, 0, "replica crashed 3 times loading: bad weights"),
        (1, 1, "replica crashed 1 time after it was ready: bad weights"),
        (3, 3, "replica crashed 3 times after it was ready: bad weights"),
        (3, 1, "replica crashed 3 times, 1 of them after it was ready: bad weights"),
    ],
)
def test_a_crash_is_said_to_be_while_loading_only_where_it_was(crashes: int, ready: int, words: str) -> None:
    process = ProcessStatus("a", "replica", "backoff", crashes_in_row=crashes, ready_crashes=ready)
    assert crash_message(msgspec.structs.replace(process, last_error="bad weights")) == words
