"""When schedules let no replica be, and when they do again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.scale.bounds import bounds, closed
from stoker.core.scale.policy import Policy, Window
from tests.core.scale.days import MONDAY_S

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0
NIGHT = Window("nights", frozenset(range(7)), 22 * HOUR_S, 7 * HOUR_S, max=0)

windows = st.builds(
    Window,
    name=st.just("w"),
    days=st.frozensets(st.integers(0, 6), min_size=1),
    begins_s=st.integers(0, 1439).map(lambda minute: minute * MINUTE_S),
    lasts_s=st.integers(1, 1440).map(lambda minutes: minutes * MINUTE_S),
    max=st.sampled_from((0, 0, 3)),
)


@given(st.lists(windows, min_size=1, max_size=3), st.integers(0, 7 * 1440), st.sampled_from((0.0, 5.5, -8.0)))
def test_it_opens_at_the_first_moment_at_which_a_replica_may_be(
    schedules: list[Window], minute: int, zone_h: float
) -> None:
    policy, offsets_s = Policy(min=0, max=4, schedules=tuple(schedules)), (zone_h * HOUR_S,) * len(schedules)
    now_s = MONDAY_S + minute * MINUTE_S
    found = closed(policy, offsets_s, now_s)
    if bounds(policy, offsets_s, now_s).most:
        assert found is None
        return
    assert found is not None
    opens = (each for each in range(1, 7 * 1440) if bounds(policy, offsets_s, now_s + each * MINUTE_S).most)
    first = next(opens, None)
    assert found.opens_at_s == (0.0 if first is None else now_s + first * MINUTE_S)


@pytest.mark.parametrize(("hours", "is_closed"), [(21.9, False), (22.0, True), (28.9, True), (29.0, False)])
def test_it_is_closed_from_the_beginning_of_the_schedule_to_its_end(hours: float, is_closed: bool) -> None:
    found = closed(Policy(min=0, max=4, schedules=(NIGHT,)), (0.0,), MONDAY_S + hours * HOUR_S)
    assert (found is not None) is is_closed
    if found is not None:
        assert found.words == "until tue 05:00 UTC: the maximum of the schedule nights is 0"


def test_a_minimum_is_a_promise_that_keeps_it_open_and_a_maximum_that_is_no_schedules_does_not_close_it() -> None:
    assert closed(Policy(min=1, max=4, schedules=(NIGHT,)), (0.0,), MONDAY_S + 23 * HOUR_S) is None
    office = Window("office", frozenset(range(5)), 8 * HOUR_S, 10 * HOUR_S, max=2)
    assert closed(Policy(min=0, max=0, schedules=(office,)), (0.0,), MONDAY_S) is None


def test_one_that_never_opens_says_no_time() -> None:
    always = Window("always", frozenset(range(7)), 0.0, DAY_S, max=0)
    found = closed(Policy(min=0, max=4, schedules=(always,)), (0.0,), MONDAY_S)
    assert found is not None
    assert (found.words, found.opens_at_s) == ("for good: the maximum of the schedule always is 0", 0.0)
