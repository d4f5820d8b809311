"""Which shapes a new replica is warmed up with: those whose first call was seen to hold somebody up, and few."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.shapes import (
    AWAITED_S_MAX,
    CALLS_MIN,
    HALF_LIFE_S,
    KEPT_MAX,
    WARM_S_MAX,
    WARMED_MAX,
    WATCHED_MAX,
    Tally,
    is_cold,
    remember,
    sizes_for,
    to_warm,
    uses,
)
from stoker.types.shapes import Shape, ShapeCost

SECONDS = st.floats(0.0, 20.0)
SHAPES = st.builds(Shape, st.integers(1, 64), st.sampled_from([(), ((3, 224, 224),), ((8,), (8,))]))
COSTS = st.builds(ShapeCost, SHAPES, st.floats(0.0, 1e6), SECONDS, SECONDS)


@pytest.mark.parametrize(
    ("calls", "first_s", "later_s", "cold"),
    [
        (1000, 0.300, 0.0003, True),  # an engine that compiles for each shape
        (1000, 0.144, 0.110, True),  # buffers that grow
        (1000, 0.128, 0.126, False),  # most engines
        (1000, 0.004, 0.001, False),  # nobody notices 3 ms
        (1000, 0.0, 0.001, False),  # no first call was timed
        (2, 0.300, 0.0003, False),  # chance
        (1000, 0.300, 0.0, False),  # nothing to compare with
    ],
)
def test_a_shape_is_cold_when_its_first_call_takes_noticeably_longer(
    calls: float, first_s: float, later_s: float, cold: bool
) -> None:
    assert is_cold(ShapeCost(Shape(8), calls, first_s, later_s)) is cold


def test_the_most_called_go_first_and_one_that_takes_too_long_makes_room_for_the_next() -> None:
    costs = [
        ShapeCost(Shape(1), 10, 0.4, 0.001),
        ShapeCost(Shape(2), 1000, 6.0, 0.001),
        ShapeCost(Shape(3), 100, 6.0, 0.001),
    ]
    assert to_warm(costs) == (Shape(2), Shape(1))
    assert to_warm(costs, is_awaited=True) == (Shape(1),)
    assert [(each.shape.rows, each.is_warmed) for each in uses(costs)] == [(1, True), (2, True), (3, False)]


@given(st.lists(COSTS, max_size=40, unique_by=lambda each: each.shape), st.booleans())
def test_a_start_is_held_up_by_few_calls_and_not_for_long(costs: list[ShapeCost], is_awaited: bool) -> None:
    found = to_warm(costs, is_awaited=is_awaited)
    by_shape = {each.shape: each for each in costs}
    assert len(found) == len(set(found)) <= WARMED_MAX
    assert sum(by_shape[each].first_s for each in found) <= (AWAITED_S_MAX if is_awaited else WARM_S_MAX)
    assert all(is_cold(by_shape[each]) and by_shape[each].calls >= CALLS_MIN for each in found)


def test_a_first_call_is_timed_apart_from_those_after_it_and_told_once() -> None:
    tally = Tally()
    for seconds in (0.9, 0.1, 0.3):
        tally.called(8, ((3,),), seconds)
    (told,) = tally.take()
    assert (told.shape, told.calls, told.first_s) == (Shape(8, ((3,),)), 3, 0.9)
    assert told.later_s == pytest.approx(0.2)
    assert tally.take() == ()
    tally.called(8, ((3,),), 0.5)
    assert tally.take() == (ShapeCost(Shape(8, ((3,),)), 1, 0.0, 0.5),)


def test_a_call_of_the_warm_up_is_the_first_of_its_shape_and_tells_only_when_somebody_asks() -> None:
    tally = Tally()
    tally.warmed(8, (), 0.9)
    tally.warmed(1, ())
    assert tally.take() == ()
    tally.called(8, (), 0.1)
    tally.called(1, (), 0.1)
    assert tally.take() == (ShapeCost(Shape(8), 1, 0.9, 0.1), ShapeCost(Shape(1), 1, 0.0, 0.1))
    assert tally.knows(8, ())
    assert not tally.knows(9, ())


def test_once_shapes_were_forgotten_no_call_is_taken_for_a_first_one() -> None:
    tally = Tally()
    for rows in range(WATCHED_MAX + 1):
        tally.called(rows, (), 1.0)
    assert len(tally.take()) == WATCHED_MAX
    tally.called(0, (), 1.0)
    assert len(tally.take()) == 1, "nobody asked for the others any more"
    tally.called(WATCHED_MAX, (), 1.0)
    assert tally.take() == (ShapeCost(Shape(WATCHED_MAX), 1, 0.0, 0.0),)


@given(st.lists(st.tuples(st.integers(0, 200), st.booleans(), st.booleans()), max_size=400))
def test_a_tally_is_bounded_and_a_first_call_is_told_at_most_once(events: list[tuple[int, bool, bool]]) -> None:
    tally, firsts = Tally(), []
    for rows, is_call, is_asked in events:
        if is_call:
            tally.called(rows, (), 1.0)
        elif not tally.knows(rows, ()):
            tally.warmed(rows, (), 1.0)
        if is_asked:
            told = tally.take()
            assert len(told) <= WATCHED_MAX
            firsts += [each.shape for each in told if each.first_s]
    assert len(firsts) == len(set(firsts))


def test_what_replicas_tell_adds_up_and_the_past_fades() -> None:
    before = [ShapeCost(Shape(1), 100, 0.4, 0.2), ShapeCost(Shape(2), 30)]
    told = [ShapeCost(Shape(1), 50, 0.6, 0.4), ShapeCost(Shape(1), 50), ShapeCost(Shape(3), 20, 0.1)]
    one, three, two = remember(before, told, HALF_LIFE_S)
    assert (one.shape, one.calls, one.first_s) == (Shape(1), 150, 0.5)
    assert one.later_s == pytest.approx(0.3)
    assert (three, two) == (ShapeCost(Shape(3), 20, 0.1), ShapeCost(Shape(2), 15))


@given(st.lists(COSTS, max_size=40), st.lists(COSTS, max_size=40), st.floats(-1e3, 1e7))
def test_what_is_known_is_bounded_and_within_what_was_seen(
    before: list[ShapeCost], told: list[ShapeCost], passed_s: float
) -> None:
    known = remember(before, told, passed_s)
    assert len(known) <= KEPT_MAX
    assert len({each.shape for each in known}) == len(known)
    assert sorted(known, key=lambda each: -each.calls) == list(known)
    longest_s = max((each.first_s for each in (*before, *told)), default=0.0)
    assert all(0 <= each.first_s <= longest_s * (1 + 1e-9) for each in known)
    assert remember(known, [], 0.0) == known


@pytest.mark.parametrize(
    ("sizes", "free", "found"),
    [
        (((8, 8),), [(-1, 8)], ((8, 8),)),
        (((8, 9),), [(-1, 8)], None),  # another revision's
        (((8,),), [(-1, 8)], None),
        (((8,), (8,)), [(-1,)], None),
        ((), [(3, 4), ()], ((3, 4), ())),  # a model that fixes its sizes
        (((3, 4),), [(3, 4)], None),
        ((), [(-1,)], None),
    ],
)
def test_a_shape_of_another_revision_is_called_only_where_it_fits(
    sizes: tuple[tuple[int, ...], ...], free: list[tuple[int, ...]], found: tuple[tuple[int, ...], ...] | None
) -> None:
    assert sizes_for(Shape(4, sizes), free) == found
