"""The decisions of the data plane: routing, retries, ejection, admission, suspicion."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import admit, breaker, poison, retry, route
from stoker.types.keys import PRIORITIES, Priority

draws = st.floats(0, 1, exclude_max=True)


@given(st.integers(2, 200), draws, draws)
def test_two_choices_are_always_two_and_always_there(count: int, first: float, second: float) -> None:
    one, other = route.pair(count, first, second)
    assert one != other
    assert 0 <= one < count
    assert 0 <= other < count


def test_every_pair_can_be_drawn() -> None:
    steps = [number / 12 for number in range(12)]
    pairs = {route.pair(4, first, second) for first in steps for second in steps}
    assert len(pairs) == 12


@given(st.lists(st.integers(0, 100), min_size=1, max_size=10), draws)
def test_a_weight_of_zero_takes_nothing(weights: list[int], draw: float) -> None:
    index = route.weighted(weights, draw)
    assert (index == -1) == (sum(weights) == 0)
    if index >= 0:
        assert weights[index] > 0


def test_weights_share_as_they_say() -> None:
    taken = [route.weighted([90, 0, 10], number / 1000) for number in range(1000)]
    assert taken.count(0) == 900
    assert taken.count(2) == 100


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.floats(0, 3)), max_size=40))
def test_retries_stay_within_their_share_and_the_floor(steps: list[tuple[int, int, float]]) -> None:
    budget, now_s = retry.Budget(0.0), 0.0
    requests = retries = 0
    for asked, tried, passed_s in steps:
        now_s += passed_s
        for _ in range(asked):
            budget.earn()
        requests += asked
        retries += sum(budget.spend(now_s) for _ in range(tried))
    assert retries <= retry.PER_S * (retry.WINDOW_S + now_s) + retry.RATIO * requests + 1


def test_a_storm_that_goes_on_is_held_to_ten_retries_a_second_when_nothing_else_is_asked() -> None:
    budget = retry.Budget(0.0)
    done = [sum(budget.spend(second) for _ in range(100)) for second in map(float, range(120))]
    assert done[0] == 100  # a burst of what ten seconds allow
    assert sum(done[60:]) <= 60 * retry.PER_S + 1


def test_a_busy_past_does_not_pay_for_a_storm_now() -> None:
    budget = retry.Budget(0.0)
    for _ in range(100_000):
        budget.earn()
    budget.fade(300.0)
    assert sum(budget.spend(300.0) for _ in range(1000)) <= 101


@given(st.integers(0, 40), st.integers(0, 40))
def test_never_more_than_half_are_out(out: int, total: int) -> None:
    if breaker.may_eject(out, total):
        assert 2 * (out + 1) <= total
    assert not breaker.may_eject(0, 1)


def test_who_waits_in_vain_does_not_wait() -> None:
    def decide(**given: float) -> str:
        values = {"wait_s": 0.0, "service_s": 0.0, "left_s": 1.0, "is_down": False, **given}
        return admit.decide(**values)  # type: ignore[arg-type]

    assert decide() == "wait"
    assert decide(wait_s=1.5) == "late"
    assert decide(wait_s=0.6, service_s=0.5) == "late"
    assert decide(wait_s=1.5, is_down=True) == "down"


@given(st.lists(st.booleans(), max_size=4), st.booleans(), st.booleans())
def test_an_endpoint_is_down_when_all_it_has_is_gone_unless_it_sleeps_or_makes_room(
    gone: list[bool], holds: bool, replaces: bool
) -> None:
    found = admit.is_down(holds=holds, replaces=replaces, count=len(gone), gone=iter(gone))
    assert found == (not holds and False not in gone and not (replaces and not gone))


def test_a_request_whose_time_is_too_short_takes_no_place_unless_nobody_is_served() -> None:
    assert admit.is_lost(left_s=0.1, service_s=0.2, is_served=True)
    assert not admit.is_lost(left_s=0.1, service_s=0.2, is_served=False)
    assert not admit.is_lost(left_s=0.1, service_s=0.0, is_served=True)
    assert admit.is_lost(left_s=0.0, service_s=0.0, is_served=False)


@given(st.sampled_from(PRIORITIES), st.none() | st.sampled_from(PRIORITIES))
def test_nobody_is_more_urgent_than_his_key_allows(highest: Priority, wanted: Priority | None) -> None:
    band = admit.band(highest, wanted)
    assert band >= PRIORITIES.index(highest)
    assert PRIORITIES[band] in (highest, wanted)


def test_a_word_that_is_no_priority_is_refused() -> None:
    with pytest.raises(ValueError):
        admit.band("standard", "urgent")


@given(st.integers(0, 100_000), st.integers(0, 10_000), st.floats(0, 1000))
def test_retry_after_is_what_clients_accept(waiting: int, in_flight: int, service_s: float) -> None:
    assert 1 <= admit.retry_after_s(waiting, in_flight, service_s) <= 120


shapes = st.integers(0, 5).map(lambda number: b"%d" % number)


@given(st.lists(st.tuples(shapes, st.sampled_from(["died", "trial", "survived"]), st.integers(0, 9)), max_size=60))
def test_only_a_death_alone_or_many_deaths_convict(events: list[tuple[bytes, str, int]]) -> None:
    book, now_s = poison.Book(), 0.0
    deaths: dict[bytes, set[str]] = {}
    convicted: set[bytes] = set()
    for shape, event, death in events:
        now_s += 0.1
        if event == "survived":
            book.survived(shape)
            deaths.pop(shape, None)
        else:
            book.died(shape, f"{death}", event == "trial", now_s)
            deaths.setdefault(shape, set()).add(f"{death}")
            if event == "trial" or len(deaths[shape]) >= poison.DEATHS_MAX:
                convicted.add(shape)
                deaths.pop(shape)
        for seen in (b"%d" % number for number in range(6)):
            assert (book.standing(seen, now_s) == "convicted") == (seen in convicted)


def test_many_requests_of_one_shape_in_one_death_are_one_death() -> None:
    book = poison.Book()
    for _ in range(64):
        assert book.died(b"same", "r0 boot1", False, 0.0) == "suspect"
    book.survived(b"same")
    assert not book


def test_suspicion_and_quarantine_end_and_the_book_is_bounded() -> None:
    book = poison.Book()
    book.died(b"a", "x", False, 0.0)
    book.convict(b"b", 0.0)
    assert book.standing(b"a", poison.SUSPICION_S + 1) == "clear"
    assert book.standing(b"b", poison.QUARANTINE_S - 1) == "convicted"
    assert book.standing(b"b", poison.QUARANTINE_S) == "clear"
    for number in range(2 * poison.SUSPECTS_MAX):
        book.died(b"%d" % number, "x", False, 0.0)
        book.convict(b"c%d" % number, 0.0)
    assert book.standing(b"0", 0.0) == "clear"
    assert book.standing(b"c0", 0.0) == "clear"
    assert book.standing(b"%d" % (2 * poison.SUSPECTS_MAX - 1), 0.0) == "suspect"
    book.sweep(1e9)
    assert not book
