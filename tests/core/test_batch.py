"""Batching: what an operator would ask, then what must hold for any queue and any engine."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.core import latency
from stoker.core.batch import drain_s, plan
from stoker.core.latency import NEVER, Lines, Shapes, bound_s
from tests.core.lines import MS, Waiting, teach

A, B = ((1,),), ((2,),)
TEN_PLUS_ONE = teach(Lines(), (), 10 * MS, 1 * MS)  # 10 ms and 1 ms a row, seen at time 0
LARGE = 1 << 40


@pytest.mark.parametrize(
    ("queue", "take", "drop", "because"),
    [
        ([], (), (), "queue"),
        ([Waiting()], (0,), (), "queue"),
        ([Waiting(), Waiting(), Waiting()], (0, 1, 2), (), "queue"),
        ([Waiting(rows=3), Waiting(rows=4), Waiting(rows=2)], (0, 1), (), "max_rows"),
        ([Waiting(rows=8), Waiting()], (0,), (), "max_rows"),
        ([Waiting(rows=20), Waiting()], (0,), (), "max_rows"),  # larger than a batch: still served, by itself
        ([Waiting(shapes=A), Waiting(shapes=B), Waiting(shapes=A)], (0, 2), (), "queue"),
        ([Waiting(alone=True), Waiting()], (0,), (), "alone"),
        ([Waiting(), Waiting(alone=True), Waiting()], (0, 2), (), "queue"),
        ([Waiting(deadline_s=-1.0), Waiting()], (1,), (0,), "queue"),  # passed
        ([Waiting(deadline_s=10 * MS), Waiting()], (1,), (0,), "queue"),  # cannot finish even alone
        ([Waiting(deadline_s=13.5 * MS), *[Waiting()] * 5], (0, 1, 2), (), "deadline"),
        ([Waiting(), Waiting(size_bytes=800), Waiting(size_bytes=200)], (0, 1), (), "max_bytes"),
        ([Waiting(size_bytes=5000), Waiting()], (0,), (), "max_bytes"),  # larger than a call: still served, by itself
        ([Waiting(), Waiting(deadline_s=11.5 * MS)], (0,), (), "deadline"),
        ([Waiting(deadline_s=1 * MS), Waiting(deadline_s=2 * MS)], (), (0, 1), "queue"),
    ],
)
def test_the_batch_is_what_waits_within_rows_bytes_shapes_and_deadlines(
    queue: list[Waiting], take: tuple[int, ...], drop: tuple[int, ...], because: str
) -> None:
    planned = plan(queue, TEN_PLUS_ONE, max_rows=8, max_bytes=1000, now_s=0.0)
    assert (planned.take, planned.drop, planned.because) == (take, drop, because)
    assert planned.rows == sum(queue[at].rows for at in take)


SOON, LATER, LAST = Waiting(deadline_s=11.5 * MS), Waiting(deadline_s=16 * MS), Waiting(deadline_s=60 * MS)


@pytest.mark.parametrize(
    ("queue", "take", "drop", "because"),
    [
        # Alone in 11 ms, then the others by 11 + 10 + 5 = 26 ms: everybody is served.
        ([SOON, *[LAST] * 5], (0,), (), "deadline"),
        # The others would be late behind it: five of them are worth more than it.
        ([SOON, *[LATER] * 5], (1, 2, 3, 4, 5), (0,), "shed"),
        # Those who have time wait; the one who would be late behind this call is told so now.
        ([SOON, *[LATER] * 5, LAST], (1, 2, 3, 4, 5), (0,), "shed"),
        # Who is lost already is no reason to give up anybody.
        ([SOON, *[LAST] * 5, Waiting(deadline_s=5 * MS)], (0,), (), "deadline"),
        # Nothing is gained by giving up one for one.
        ([SOON, Waiting(deadline_s=11.6 * MS)], (0,), (), "deadline"),
        # Another shape has its own calls: it is neither joined nor judged here.
        ([SOON, Waiting(shapes=A, deadline_s=11.5 * MS), *[LATER] * 5], (2, 3, 4, 5, 6), (0,), "shed"),
        ([SOON, Waiting(alone=True, deadline_s=12 * MS), *[LATER] * 5], (2, 3, 4, 5, 6), (0,), "shed"),
    ],
)
def test_an_old_request_that_would_cost_several_others_their_deadline_is_given_up(
    queue: list[Waiting], take: tuple[int, ...], drop: tuple[int, ...], because: str
) -> None:
    planned = plan(queue, TEN_PLUS_ONE, max_rows=8, max_bytes=LARGE, now_s=0.0)
    assert (planned.take, planned.drop, planned.because) == (take, drop, because)


def test_one_stall_does_not_make_the_line_refuse_everyone() -> None:
    lines = teach(Lines(), (), 1 * MS, 0.01 * MS)
    lines.learn((), 1, 30.0, 0.0)
    assert plan([Waiting(deadline_s=50 * MS)], lines, max_rows=8, max_bytes=LARGE, now_s=0.0).take == (0,)


def test_a_line_that_was_not_confirmed_for_a_second_refuses_nobody_whose_deadline_is_ahead() -> None:
    slow = teach(Lines(), (), 5.0, 0.0)
    late = [Waiting(deadline_s=3.0)]
    assert plan(late, slow, max_rows=8, max_bytes=LARGE, now_s=0.5).drop == (0,)
    assert plan(late, slow, max_rows=8, max_bytes=LARGE, now_s=1.5).take == (0,)


def test_nothing_is_refused_before_the_engine_was_seen_a_few_times() -> None:
    lines = teach(Lines(), (), 5.0, 0.0, calls=latency.LEARNED_CALLS - 1)
    assert plan([Waiting(deadline_s=0.1)], lines, max_rows=8, max_bytes=LARGE, now_s=0.0).take == (0,)


def test_each_request_is_judged_by_the_line_of_its_own_shapes() -> None:
    lines = teach(teach(Lines(), A, 1 * MS, 0.1 * MS), B, 50 * MS, 5 * MS)
    queue = [Waiting(shapes=B, deadline_s=40 * MS), Waiting(shapes=A, deadline_s=40 * MS)]
    planned = plan(queue, lines, max_rows=8, max_bytes=LARGE, now_s=0.0)
    assert (planned.take, planned.drop) == ((1,), (0,))


def test_a_guess_caps_a_batch_but_refuses_nobody() -> None:
    lines = teach(teach(Lines(), ((100,),), 10 * MS, 1 * MS), ((200,),), 10 * MS, 2 * MS)
    assert lines.of(((150,),)).is_guess
    hopeless = [Waiting(shapes=((150,),), deadline_s=1 * MS)] * 3
    planned = plan(hopeless, lines, max_rows=8, max_bytes=LARGE, now_s=0.0)
    assert (planned.take, planned.drop, planned.because) == ((0,), (), "deadline")
    assert plan(hopeless, lines, max_rows=8, max_bytes=LARGE, now_s=2 * MS).drop == (0, 1, 2)


def test_when_to_come_back_is_about_when_the_queue_has_drained() -> None:
    assert drain_s([Waiting()] * 20, TEN_PLUS_ONE, max_rows=8) == pytest.approx(50 * MS, rel=0.05)
    assert drain_s([], TEN_PLUS_ONE, max_rows=8) == 0
    assert drain_s([Waiting()], Lines(), max_rows=8) == 0


waiting = st.builds(
    Waiting,
    rows=st.integers(1, 40),
    shapes=st.sampled_from([A, B]),
    deadline_s=st.one_of(st.just(NEVER), st.floats(-1, 1)),
    alone=st.booleans(),
    size_bytes=st.integers(0, 100),
)
calls = st.lists(st.tuples(st.sampled_from([A, B]), st.integers(1, 64), st.floats(0, 1)), max_size=30)


@given(queue=st.lists(waiting, max_size=30), seen=calls, max_rows=st.integers(1, 64), max_bytes=st.integers(0, 1000))
@settings(max_examples=100)
def test_whatever_waits_the_plan_is_sound(
    queue: list[Waiting], seen: list[tuple[Shapes, int, float]], max_rows: int, max_bytes: int
) -> None:
    lines = Lines()
    for shapes, rows, took_s in seen:
        lines.learn(shapes, rows, took_s, 0.0)
    planned = plan(queue, lines, max_rows=max_rows, max_bytes=max_bytes, now_s=0.0)
    taken = [queue[at] for at in planned.take]
    assert not set(planned.take) & set(planned.drop)
    assert list(planned.take) == sorted(planned.take)
    assert list(planned.drop) == sorted(planned.drop)
    assert planned.rows == sum(item.rows for item in taken)
    assert len({item.shapes for item in taken}) <= 1
    assert planned.rows <= max_rows or len(taken) == 1
    assert sum(item.size_bytes for item in taken) <= max_bytes or len(taken) == 1
    assert len(taken) == 1 or not any(item.alone for item in taken)
    # Work-conserving: the engine stays free only when nobody can be served.
    assert taken or len(planned.drop) == len(queue)
    # The oldest that can be served is, but for a larger batch: nobody is overtaken for ever.
    served = [at for at in range(len(queue)) if at not in planned.drop]
    assert not served or planned.because == "shed" or planned.take[0] == served[0]
    for item in taken:
        line = lines.of(item.shapes)
        assert item.deadline_s > 0
        assert line.is_guess or bound_s(line, item.rows) < item.deadline_s
        assert bound_s(line, planned.rows) < item.deadline_s or len(taken) == 1
    # Whoever is dropped has a deadline that is past, that a call of its own would miss, or that it would miss behind
    # the call that is made without it.
    for at in planned.drop:
        line, deadline_s = lines.of(queue[at].shapes), queue[at].deadline_s
        behind_s = bound_s(line, planned.rows) if planned.because == "shed" else 0.0
        assert deadline_s < NEVER
        assert deadline_s <= 0 or (not line.is_guess and deadline_s <= behind_s + bound_s(line, queue[at].rows) + 1e-9)
