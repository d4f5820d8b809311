"""Who goes next: bands, shares, deadlines, and who must go when all places to wait are taken."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from stoker.core import fairness
from stoker.core.fairness import BANDS, TURNS_MAX, Line, Ticket

FAR_S = 1e9
tenants = st.sampled_from(["a", "b", "c", "d"])
tickets = st.tuples(st.integers(0, BANDS - 1), tenants, st.floats(1, 100), st.integers(0, 1000))


def ticket(
    band: int = 1,
    tenant: str = "a",
    deadline_s: float = FAR_S,
    size: int = 0,
    weight: float = 1.0,
    version: str = "",
) -> Ticket:
    return Ticket(band, tenant, weight, deadline_s, size, version)


def drained(line: Line) -> list[Ticket]:
    found = []
    while (each := line.next()) is not None:
        found.append(each)
    return found


@given(st.lists(st.tuples(st.sampled_from(["put", "again", "next", "withdraw", "charge"]), tickets), max_size=80))
def test_everyone_who_waits_goes_exactly_once_or_withdraws(
    steps: list[tuple[str, tuple[int, str, float, int]]],
) -> None:
    line = Line()
    waiting: list[Ticket] = []
    for what, (band, tenant, deadline_s, size) in steps:
        if what in ("put", "again"):
            one = ticket(band, tenant, deadline_s, size)
            waiting.append(one)
            (line.put if what == "put" else line.put_again)(one)
        elif what == "next":
            one_more = line.next()
            assert (one_more is None) == (not waiting)
            if one_more is not None:
                waiting.remove(one_more)
        elif what == "withdraw" and waiting:
            gone = waiting.pop(size % len(waiting))
            line.withdraw(gone)
            line.withdraw(gone)  # once more changes nothing
        elif what == "charge":
            line.charge(tenant, deadline_s - 50, 1.0)
        assert len(line) == len(waiting)
        assert bool(line) == bool(waiting)
        assert line.size_bytes == sum(each.size_bytes for each in waiting)
    assert sorted(map(id, drained(line))) == sorted(map(id, waiting))


@given(st.lists(tickets, min_size=1, max_size=60))
def test_within_a_tenant_and_band_the_earliest_deadline_goes_first(given_: list[tuple[int, str, float, int]]) -> None:
    line = Line()
    for band, tenant, deadline_s, size in given_:
        line.put(ticket(band, tenant, deadline_s, size))
    order: dict[tuple[int, str], list[float]] = {}
    for each in drained(line):
        order.setdefault((each.band, each.tenant), []).append(each.deadline_s)
    assert all(deadlines == sorted(deadlines) for deadlines in order.values())


versions = st.sampled_from(["", "1", "2"])


@given(st.lists(st.tuples(tickets, versions), max_size=40), st.sets(versions))
def test_who_waits_for_a_version_without_a_place_is_passed_over_and_nobody_else(
    given_: list[tuple[tuple[int, str, float, int], str]], closed: set[str]
) -> None:
    line = Line()
    for (band, tenant, deadline_s, size), version in given_:
        line.put(ticket(band, tenant, deadline_s, size, version=version))
    went: dict[tuple[int, str], list[float]] = {}
    passed = 0
    while (one := line.head(closed)) is not None:
        assert line.head(closed) is one, "looking changes nothing"
        line.go(one)
        assert one.version not in closed
        went.setdefault((one.band, one.tenant), []).append(one.deadline_s)
        passed += 1
    assert all(deadlines == sorted(deadlines) for deadlines in went.values())
    assert passed == sum(version not in closed for _, version in given_)
    left = drained(line)
    assert len(left) == len(given_) - passed
    assert all(each.version in closed for each in left)


def test_a_turn_is_kept_until_there_is_a_place_for_it() -> None:
    line = Line()
    for _ in range(40):
        line.put(ticket(0))
    line.put(ticket(1, version="2"))
    for _ in range(20):
        one = line.head({"2"})
        assert one is not None
        assert one.band == 0
        line.go(one)
    assert [each.version for each in drained(line)][:2] == ["2", ""], "its turn of nine came long ago"


def test_a_tenant_with_many_that_cannot_go_holds_up_itself_and_nobody_else() -> None:
    line = Line()
    for _ in range(fairness.PASSED_OVER_MAX):
        line.put(ticket(tenant="a", deadline_s=1.0, version="2"))
    own, other = ticket(tenant="a"), ticket(tenant="b")
    line.put(own)
    line.put(other)
    assert line.head({"2"}) is other
    line.go(other)
    assert line.head({"2"}) is None
    assert line.head() is not own


def test_who_waits_for_another_version_is_not_ahead() -> None:
    line = Line()
    for _ in range(10):
        line.put(ticket(deadline_s=1.0, version="2"))
    line.put(ticket(deadline_s=1.0))
    assert line.ahead(ticket()) == 1
    assert line.ahead(ticket(version="1")) == 1
    assert line.ahead(ticket(version="2")) == 11


def test_who_had_a_turn_already_goes_before_all() -> None:
    line = Line()
    line.put(ticket(0))
    again = ticket(2)
    line.put_again(again)
    assert line.next() is again


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 200))
def test_a_waiting_band_is_passed_over_a_bounded_number_of_times(first: int, second: int, third: int) -> None:
    line = Line()
    for band, count in enumerate((first, second, third)):
        for _ in range(count):
            line.put(ticket(band))
    left, passed = [first, second, third], [0, 0, 0]
    for each in drained(line):
        left[each.band] -= 1
        passed = [0 if band == each.band or not left[band] else passed[band] + 1 for band in range(BANDS)]
        assert all(passed[band] <= TURNS_MAX[band] + 1 for band in (1, 2))


def test_urgent_work_takes_nearly_all_turns() -> None:
    line = Line()
    for band in range(BANDS):
        for _ in range(400):
            line.put(ticket(band))
    first = Counter(line.next().band for _ in range(330))  # type: ignore[union-attr]
    assert first[0] >= 280
    assert first[1] >= 30
    assert first[2] >= 9


@given(
    st.lists(st.floats(1, 50), min_size=60, max_size=60),
    st.lists(st.floats(1, 50), min_size=60, max_size=60),
    st.sampled_from([(1.0, 1.0), (1.0, 3.0), (0.5, 2.0)]),
)
def test_tenants_with_work_waiting_are_served_in_proportion(
    costs_a: list[float], costs_b: list[float], weights: tuple[float, float]
) -> None:
    """The bound is the counter's own (Sheng et al., theorem 4.8): twice the largest cost, divided by the weights."""
    line = Line()
    costs = {"a": iter(costs_a), "b": iter(costs_b)}
    weight = dict(zip("ab", weights, strict=True))
    for name, count in (("a", 60), ("b", 60)):
        for _ in range(count):
            line.put(ticket(tenant=name, weight=weight[name]))
    served = {"a": 0.0, "b": 0.0}
    left = {"a": 60, "b": 60}
    while left["a"] > 1 and left["b"] > 1:
        one = line.next()
        assert one is not None
        left[one.tenant] -= 1
        cost = next(costs[one.tenant])
        line.charge(one.tenant, cost, one.weight)
        served[one.tenant] += cost / one.weight
        assert abs(served["a"] - served["b"]) <= 2 * 50 / min(weights)


def test_idling_saves_up_nothing() -> None:
    line = Line()
    for _ in range(50):
        line.put(ticket(tenant="busy"))
    for _ in range(20):
        assert line.next() is not None
        line.charge("busy", 10.0, 1.0)
    for _ in range(20):
        line.put(ticket(tenant="late"))
    turns = []
    for _ in range(10):
        one = line.next()
        assert one is not None
        line.charge(one.tenant, 10.0, 1.0)
        turns.append(one.tenant)
    assert turns.count("late") <= 6


def test_a_neighbour_with_twenty_times_as_much_waiting_delays_a_quiet_tenant_by_one_turn() -> None:
    line = Line()
    for _ in range(400):
        line.put(ticket(tenant="noisy"))
    line.next()
    line.charge("noisy", 1.0, 1.0)
    quiet = ticket(tenant="quiet")
    assert line.ahead(quiet) <= 1
    line.put(quiet)
    turns = []
    for _ in range(2):
        one = line.next()
        assert one is not None
        line.charge(one.tenant, 1.0, 1.0)
        turns.append(one)
    assert quiet in turns


@given(st.lists(tickets, max_size=60), tickets)
def test_what_is_said_to_be_ahead_is_there(
    given_: list[tuple[int, str, float, int]], new: tuple[int, str, float, int]
) -> None:
    line = Line()
    for band, tenant, deadline_s, size in given_:
        line.put(ticket(band, tenant, deadline_s, size))
    one = ticket(*new)
    ahead = line.ahead(one)
    above = sum(band < one.band for band, *_ in given_)
    same = sum(band == one.band for band, *_ in given_)
    assert above <= ahead <= above + same


@given(st.lists(tickets, max_size=60), tickets, st.integers(0, 40), st.integers(0, 20_000))
def test_a_full_line_makes_room_only_at_the_cost_of_who_holds_more(
    given_: list[tuple[int, str, float, int]], new: tuple[int, str, float, int], count_max: int, bytes_max: int
) -> None:
    line = Line()
    for each in given_:
        line.put(ticket(*each))
    one = ticket(*new)
    fits = len(line) + 1 <= count_max and line.size_bytes + one.size_bytes <= bytes_max
    chosen = line.victims(one, count_max, bytes_max)
    assert (chosen == []) == fits
    if not chosen:
        return
    held = Counter((band, tenant) for band, tenant, *_ in given_)
    (whose,) = {(each.band, each.tenant) for each in chosen}
    assert whose[0] >= one.band
    if whose[0] == one.band:
        assert whose[1] != one.tenant
        assert held[whose] - len(chosen) >= held[one.band, one.tenant] + 1
    for each in chosen:
        line.withdraw(each)
    assert len(line) + 1 <= count_max or len(line) + 1 <= len(given_)
    assert line.victims(one, count_max, bytes_max) == []


def test_urgent_requests_push_out_those_that_can_be_shed() -> None:
    line = Line()
    shed = [ticket(2, deadline_s=float(number)) for number in range(4)]
    for each in shed:
        line.put(each)
    assert line.victims(ticket(0), 4, 1000) == [shed[3]]
    assert line.victims(ticket(2), 4, 1000) is None


def test_the_counters_of_tenants_are_bounded() -> None:
    line = Line()
    line.put(ticket(tenant="waits"))
    for number in range(fairness.TENANTS_MAX * 2):
        line.charge(f"t{number}", 1.0, 1.0)
    assert len(line._counters) <= fairness.TENANTS_MAX + 1


def test_cached_tokens_cost_a_tenth_and_written_ones_double() -> None:
    assert fairness.token_units(100, 0, 10) == 120
    assert fairness.token_units(100, 100, 0) == 10
    assert fairness.token_units(10, 50, 0) == 1


@given(st.lists(tickets, max_size=40), st.sets(tenants), st.sets(tenants))
def test_who_is_owed_a_place_goes_first_of_its_tenant_and_never_before_a_more_urgent_band(
    waiting: list[tuple[int, str, float, int]], owed: set[str], charged: set[str]
) -> None:
    line = Line()
    made = [ticket(*each) for each in waiting]
    for each in made:
        line.put(each)
    for tenant in charged:
        line.charge(tenant, 5.0, 1.0)
    found = line.owed(lambda each: each.tenant in owed)
    urgent = min((each.band for each in made), default=0)
    may = [each for each in made if each.band == urgent and each.tenant in owed]
    if found is None:
        assert not may
        return
    assert found in may
    assert found.deadline_s == min(each.deadline_s for each in may if each.tenant == found.tenant)
    assert found.tenant not in charged or all(each.tenant in charged for each in may), "the least served of them"
    assert line.owed(lambda _: True, {found.version}) is None


def test_who_was_served_much_more_than_another_that_waits_is_owed_nothing() -> None:
    line = Line()
    for tenant in ("a", "b"):
        line.put(ticket(tenant=tenant))
    line.charge("a", 33.0, 1.0)

    def is_a(each: Ticket) -> bool:
        return each.tenant == "a"

    assert line.owed(is_a, (), 32.0) is None
    line.charge("b", 1.0, 1.0)
    assert line.owed(is_a, (), 32.0) is not None


def test_what_other_gateways_gave_counts_for_who_is_owed_a_place_and_not_for_the_turns_here() -> None:
    line = Line()
    for tenant in ("a", "b"):
        line.put(ticket(tenant=tenant))
    line.charge("a", 40.0, 1.0)

    def is_a(each: Ticket) -> bool:
        return each.tenant == "a"

    assert line.owed(is_a, (), 32.0) is None
    line.hear({"b": 20.0, "c": 5.0})
    assert line.owed(is_a, (), 32.0) is not None
    line.hear({"b": 50.0})
    head = line.head()
    assert head is not None
    assert head.tenant == "b", "here it was served least"
    line.hear({"a": 70.0})
    assert line.owed(is_a, (), 32.0) is None


def test_who_begins_to_wait_has_saved_up_nothing_of_what_others_were_given_elsewhere() -> None:
    line = Line()
    line.put(ticket(tenant="a"))
    line.hear({"a": 100.0})
    line.put(ticket(tenant="b"))
    line.charge("b", 40.0, 1.0)
    assert line.owed(lambda each: each.tenant == "b", (), 32.0) is None
    while line.next() is not None:
        pass
    line.put(ticket(tenant="b"))
    line.put(ticket(tenant="a"))
    assert line.owed(lambda each: each.tenant == "b", (), 32.0) is not None, "the books were closed"


@given(st.lists(st.tuples(st.booleans(), tenants, st.floats(0, 50)), max_size=40))
def test_turns_are_the_same_whatever_was_heard(steps: list[tuple[bool, str, float]]) -> None:
    deaf, hearing = Line(), Line()
    for is_heard, tenant, units in steps:
        if is_heard:
            hearing.hear({tenant: units})
            continue
        for line in (deaf, hearing):
            line.put(ticket(tenant=tenant))
            line.charge(tenant, units, 1.0)
    while (one := deaf.next()) is not None:
        other = hearing.next()
        assert other is not None
        assert other.tenant == one.tenant
    assert hearing.next() is None
