"""In which order a replica looks at what waits: who goes first, who fills up, and that nobody starves."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from stoker.core import turns
from stoker.core.turns import AHEAD, BEHIND, FILL_RATIO, PASSES


@dataclass
class Request:
    turn: int = 0
    rows: int = 1
    passed: int = 0

    @property
    def rank(self) -> int:
        return turns.rank(self.turn, self.passed)


marks = st.sampled_from([AHEAD, 0, BEHIND])
requests = st.builds(Request, marks, st.integers(1, 8), st.integers(0, 3 * PASSES))
queues = st.lists(requests, max_size=30)


def behind(count: int) -> list[Request]:
    return [Request(BEHIND) for _ in range(count)]


@given(queues, st.floats(0, 64))
def test_the_highest_go_first_and_of_equals_the_oldest(queue: list[Request], rows_mean: float) -> None:
    order = turns.line_up(queue, rows_mean)
    if order is None:
        assert len({each.rank for each in queue}) <= 1
        return
    assert order == sorted(order, key=lambda at: (-queue[at].rank, at))
    assert len(set(order)) == len(order)
    left = [queue[at] for at in range(len(queue)) if at not in order]
    assert all(each.rank < 0 for each in left), "only who goes behind is left for another call"


@given(queues, st.floats(0, 64))
def test_who_goes_behind_makes_no_call_longer_than_calls_are_by_more_than_a_tenth(
    queue: list[Request], rows_mean: float
) -> None:
    order = turns.line_up(queue, rows_mean)
    if order is not None and any(queue[at].rank < 0 for at in order):
        assert sum(queue[at].rows for at in order) <= max(rows_mean, 1.0) * FILL_RATIO + 1


def test_where_nobody_else_waits_who_goes_behind_fills_calls_as_everybody_does() -> None:
    assert turns.line_up(behind(16), 2.0) is None
    assert turns.line_up([], 2.0) is None
    assert turns.line_up([Request(), *behind(16)], 4.0) == [0, 1, 2, 3, 4]


def test_whoever_came_past_full_places_goes_before_what_waits() -> None:
    assert turns.line_up([Request(), Request(), Request(AHEAD)], 16.0) == [2, 0, 1]


@given(
    st.sampled_from([0, BEHIND]),
    st.lists(st.lists(requests.filter(lambda each: not each.passed), min_size=1, max_size=8), min_size=60, max_size=60),
    st.integers(1, 8),
)
def test_nobody_is_passed_over_for_ever(turn: int, bursts: list[list[Request]], each_call: int) -> None:
    """However many come that go first: what was there before is taken after PASSES calls a rank."""
    one = Request(turn)
    queue = [one]
    for burst in bursts:
        queue += burst
        order = turns.line_up(queue, 1.0)
        taken = (list(range(len(queue))) if order is None else order)[:each_call]
        if order is not None:
            for at in turns.passed_over(len(queue), set(order), set(taken)):
                queue[at].passed += 1
        queue = [each for at, each in enumerate(queue) if at not in taken]
        if one not in queue:
            break
    assert all(each is not one for each in queue)
    assert one.passed <= (AHEAD - turn) * PASSES


@given(st.sets(st.integers(0, 19)), st.sets(st.integers(0, 19)))
def test_who_is_taken_was_not_passed_over_and_neither_was_who_only_came_later(order: set[int], taken: set[int]) -> None:
    taken &= order
    found = turns.passed_over(20, order, taken)
    assert not taken & set(found)
    assert set(range(20)) - order <= set(found)
    assert all(at < max(taken, default=-1) for at in set(found) & order)
