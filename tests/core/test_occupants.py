"""Who holds the places of an endpoint, and who is owed one."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from stoker.core.occupants import KEPT_MAX, Occupant, Occupants

WEIGHTS = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 4.0}  # whose sums are exact
names = st.sampled_from(sorted(WEIGHTS))


@given(st.lists(st.tuples(st.booleans(), names), max_size=80), names, st.integers(0, 64))
def test_one_is_owed_a_place_exactly_while_it_would_hold_no_more_than_its_part(
    steps: list[tuple[bool, str]], name: str, places: int
) -> None:
    occupants, held = Occupants(), Counter[str]()
    kept: dict[str, list[Occupant]] = {each: [] for each in WEIGHTS}
    for is_taken, who in steps:
        if is_taken:
            kept[who].append(occupants.took(who, WEIGHTS[who]))
            held[who] += 1
        elif kept[who]:
            occupants.left(kept[who].pop())
            held[who] -= 1
    present = {each for each in WEIGHTS if held[each]}
    assert len(occupants) == len(present)
    total = sum(WEIGHTS[each] for each in present | {name})
    part = places * WEIGHTS[name] / total
    assert occupants.is_below(name, WEIGHTS[name], places) == (held[name] + 1 <= part)


@given(st.lists(names, max_size=64), st.integers(1, 32))
def test_who_takes_places_only_while_owed_them_never_holds_more_than_there_are(asked: list[str], places: int) -> None:
    occupants, held = Occupants(), Counter[str]()
    for name in asked:
        if occupants.is_below(name, WEIGHTS[name], places):
            occupants.took(name, WEIGHTS[name])
            held[name] += 1
        assert held[name] <= places


def test_a_tenant_alone_is_owed_nothing_past_the_places_and_another_its_half() -> None:
    occupants = Occupants()
    for _ in range(8):
        occupants.took("a", 1.0)
    assert not occupants.is_below("a", 1.0, 8)
    for _ in range(4):
        assert occupants.is_below("b", 1.0, 8)
        occupants.took("b", 1.0)
    assert not occupants.is_below("b", 1.0, 8)
    assert occupants.is_below("c", 2.0, 8)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 12))
def test_with_as_many_tenants_as_places_nobody_need_be_asked(tenants: int, places: int, who: int) -> None:
    occupants = Occupants()
    for number in range(tenants):
        occupants.took(f"{number}", 1.0)
    if not occupants.may_be_below(places):
        assert not occupants.is_below(f"{who}", 1.0, places)
    elif who >= tenants:
        assert occupants.is_below(f"{who}", 1.0, places), "one that comes has a part"


def test_tenants_that_hold_nothing_are_forgotten_when_they_are_many() -> None:
    occupants = Occupants()
    stays = occupants.took("stays", 1.0)
    for number in range(10 * KEPT_MAX):
        occupants.left(occupants.took(f"{number}", 0.7))
        assert len(occupants) == 1
    assert len(occupants._by_name) <= KEPT_MAX + 2
    assert occupants.is_below("new", 1.0, 2)
    assert not occupants.is_below("new", 1.0, 1)
    occupants.left(stays)
    assert len(occupants) == 0
    assert occupants.is_below("new", 1.0, 1), "no weight is left of them"


heard = st.dictionaries(names, st.integers(-1, 9))


@given(st.lists(st.one_of(st.tuples(st.booleans(), names), heard), max_size=60), names, st.integers(0, 64))
def test_a_part_is_of_what_all_gateways_hold_as_it_was_heard_last(
    steps: list[tuple[bool, str] | dict[str, int]], name: str, places: int
) -> None:
    occupants, held, elsewhere = Occupants(), Counter[str](), Counter[str]()
    kept: dict[str, list[Occupant]] = {each: [] for each in WEIGHTS}
    for step in steps:
        if isinstance(step, dict):
            occupants.hear({each: (count, WEIGHTS[each]) for each, count in step.items()})
            elsewhere = Counter({each: count for each, count in step.items() if count > 0})
        elif step[0]:
            kept[step[1]].append(occupants.took(step[1], WEIGHTS[step[1]]))
            held[step[1]] += 1
        elif kept[step[1]]:
            occupants.left(kept[step[1]].pop())
            held[step[1]] -= 1
    present = {each for each in WEIGHTS if held[each] or elsewhere[each]}
    assert len(occupants) == len(present)
    assert occupants.held() == {each: (held[each], WEIGHTS[each]) for each in WEIGHTS if held[each]}
    part = places * WEIGHTS[name] / sum(WEIGHTS[each] for each in present | {name})
    assert occupants.is_below(name, WEIGHTS[name], places) == (held[name] + elsewhere[name] + 1 <= part)


def test_who_was_heard_of_is_forgotten_like_all_others() -> None:
    occupants = Occupants()
    for number in range(10 * KEPT_MAX):
        occupants.hear({f"{number}": (1, 1.0)})
        assert len(occupants) == 1
    assert len(occupants._by_name) <= KEPT_MAX + 2
    occupants.hear({})
    assert len(occupants) == 0
    assert occupants.is_below("new", 1.0, 1)
