"""Batching: what an operator would ask, then what must hold for any queue and any engine."""

import math
import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import batch
from stoker.core.batch import NEVER, Line, bound_s, expected_s, learned, plan, runs_inline


@dataclass
class Waiting:
    rows: int = 1
    key: object = ()
    deadline_s: float = NEVER
    alone: bool = False


def line_of(base_s: float, row_s: float, *, calls: int = 60, noise_s: float = 0.0, now_s: float = 0.0) -> Line:
    draw = random.Random(7)
    line = Line()
    for number in range(calls):
        rows = 1 + number % 32
        line = learned(line, rows, base_s + row_s * rows + draw.uniform(-noise_s, noise_s), now_s)
    return line


MS = 0.001
TEN_PLUS_ONE = line_of(10 * MS, 1 * MS)  # 10 ms and 1 ms a row, seen at time 0


@pytest.mark.parametrize(
    ("queue", "take", "drop", "because"),
    [
        ([], (), (), "queue"),
        ([Waiting()], (0,), (), "queue"),
        ([Waiting(), Waiting(), Waiting()], (0, 1, 2), (), "queue"),
        ([Waiting(rows=3), Waiting(rows=4), Waiting(rows=2)], (0, 1), (), "max_rows"),
        ([Waiting(rows=8), Waiting()], (0,), (), "max_rows"),
        ([Waiting(rows=20), Waiting()], (0,), (), "max_rows"),  # larger than a batch: still served, by itself
        ([Waiting(key="a"), Waiting(key="b"), Waiting(key="a")], (0, 2), (), "queue"),
        ([Waiting(alone=True), Waiting()], (0,), (), "alone"),
        ([Waiting(), Waiting(alone=True), Waiting()], (0, 2), (), "queue"),
        ([Waiting(deadline_s=-1.0), Waiting()], (1,), (0,), "queue"),  # passed
        ([Waiting(deadline_s=10 * MS), Waiting()], (1,), (0,), "queue"),  # cannot finish even alone
        ([Waiting(deadline_s=13.5 * MS), *[Waiting()] * 5], (0, 1, 2), (), "deadline"),
        ([Waiting(), Waiting(deadline_s=11.5 * MS)], (0,), (), "deadline"),
        ([Waiting(deadline_s=1 * MS), Waiting(deadline_s=2 * MS)], (), (0, 1), "queue"),
    ],
)
def test_the_batch_is_what_waits_within_rows_keys_and_deadlines(
    queue: list[Waiting], take: tuple[int, ...], drop: tuple[int, ...], because: str
) -> None:
    planned = plan(queue, TEN_PLUS_ONE, max_rows=8, now_s=0.0)
    assert (planned.take, planned.drop, planned.because) == (take, drop, because)
    assert planned.rows == sum(queue[at].rows for at in take)


def test_the_line_finds_what_an_engine_costs() -> None:
    line = line_of(4 * MS, 0.5 * MS, noise_s=0.2 * MS)
    assert line.base_s == pytest.approx(4 * MS, rel=0.1)
    assert line.row_s == pytest.approx(0.5 * MS, rel=0.1)
    assert bound_s(line, 16) < 13 * MS


def test_the_line_follows_an_engine_that_became_slower() -> None:
    line = line_of(1 * MS, 0.1 * MS)
    for number in range(300):
        rows = 1 + number % 32
        line = learned(line, rows, 20 * MS + 2 * MS * rows, 0.0)
    assert expected_s(line, 10) == pytest.approx(40 * MS, rel=0.15)


def test_one_stall_does_not_make_the_line_refuse_everyone() -> None:
    line = learned(line_of(1 * MS, 0.01 * MS), 1, 30.0, 0.0)
    assert plan([Waiting(deadline_s=50 * MS)], line, max_rows=8, now_s=0.0).take == (0,)


def test_a_line_that_was_not_confirmed_for_a_second_refuses_nobody_whose_deadline_is_ahead() -> None:
    slow = line_of(5.0, 0.0)
    late = [Waiting(deadline_s=3.0)]
    assert plan(late, slow, max_rows=8, now_s=0.5).drop == (0,)
    assert plan(late, slow, max_rows=8, now_s=1.5).take == (0,)


def test_nothing_is_refused_before_the_engine_was_seen_a_few_times() -> None:
    line = line_of(5.0, 0.0, calls=batch.LEARNED_CALLS - 1)
    assert plan([Waiting(deadline_s=0.1)], line, max_rows=8, now_s=0.0).take == (0,)


def test_the_margin_stays_above_about_nineteen_of_twenty_calls() -> None:
    draw = random.Random(11)
    line, late, calls = Line(), 0, 4000
    for number in range(calls):
        rows = draw.randint(1, 32)
        took_s = 2 * MS + 0.1 * MS * rows + draw.expovariate(1 / (0.3 * MS))
        if number > 200:
            late += took_s > bound_s(line, rows)
        line = learned(line, rows, took_s, 0.0)
    assert 0.02 < late / calls < 0.09


def test_the_place_of_short_calls_is_the_loop_and_noise_does_not_move_it() -> None:
    between_s = (batch.INLINE_BELOW_S + batch.INLINE_ABOVE_S) / 2
    assert runs_inline(line_of(0.1 * MS, 0.0), 1, was_inline=False)
    assert not runs_inline(line_of(5 * MS, 0.0), 1, was_inline=True)
    assert runs_inline(line_of(between_s, 0.0), 1, was_inline=True)
    assert not runs_inline(line_of(between_s, 0.0), 1, was_inline=False)
    assert not runs_inline(Line(), 1, was_inline=True)  # unknown code never runs in the loop


def test_an_engine_that_became_slow_leaves_the_loop_within_a_few_calls_and_comes_back() -> None:
    line = line_of(0.1 * MS, 0.0)
    for _ in range(2):
        line = learned(line, 1, 4 * MS, 0.0)
    assert not runs_inline(line, 1, was_inline=True)
    calls = 0
    while not runs_inline(line, 1, was_inline=False):
        line = learned(line, 1, 0.1 * MS, 0.0)
        calls += 1
    assert calls < 100


waiting = st.builds(
    Waiting,
    rows=st.integers(1, 40),
    key=st.sampled_from(["a", "b"]),
    deadline_s=st.one_of(st.just(NEVER), st.floats(-1, 1)),
    alone=st.booleans(),
)
calls = st.lists(st.tuples(st.integers(1, 64), st.floats(0, 10)), max_size=30)


@given(queue=st.lists(waiting, max_size=30), seen=calls, max_rows=st.integers(1, 64))
def test_whatever_waits_the_plan_is_sound(queue: list[Waiting], seen: list[tuple[int, float]], max_rows: int) -> None:
    line = Line()
    for rows, took_s in seen:
        line = learned(line, rows, took_s, 0.0)
    planned = plan(queue, line, max_rows=max_rows, now_s=0.0)
    taken = [queue[at] for at in planned.take]
    assert not set(planned.take) & set(planned.drop)
    assert list(planned.take) == sorted(planned.take)
    assert planned.rows == sum(item.rows for item in taken)
    assert len({item.key for item in taken}) <= 1
    assert planned.rows <= max_rows or len(taken) == 1
    assert len(taken) == 1 or not any(item.alone for item in taken)
    # Work-conserving: the engine stays free only when nobody can be served.
    assert taken or len(planned.drop) == len(queue)
    # The oldest that can be served is: nobody is overtaken for ever.
    served = [at for at in range(len(queue)) if at not in planned.drop]
    assert not served or planned.take[0] == served[0]
    # Nobody without a deadline, or with a line that knows nothing and a deadline ahead, is ever dropped.
    for at in planned.drop:
        assert queue[at].deadline_s < NEVER
        assert queue[at].deadline_s <= bound_s(line, queue[at].rows)
    for item in taken:
        assert bound_s(line, item.rows) < item.deadline_s or item.deadline_s == NEVER
        assert bound_s(line, planned.rows) < item.deadline_s or len(taken) == 1


@given(seen=calls)
def test_whatever_was_seen_the_line_is_finite_and_never_promises_less_for_more(seen: list[tuple[int, float]]) -> None:
    line = Line()
    for rows, took_s in seen:
        line = learned(line, rows, took_s, 0.0)
    numbers = [line.base_s, line.row_s, line.margin_s, bound_s(line, 1), bound_s(line, 64)]
    assert all(math.isfinite(number) and number >= 0 for number in numbers)
    assert bound_s(line, 64) >= bound_s(line, 1)
