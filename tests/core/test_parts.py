"""Whom an objective judges that judges each tenant or segment by itself."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.core import parts
from stoker.types.slos import Objective

names = st.sampled_from("abcdefgh")
traffic = st.dictionaries(names, st.floats(0, 1e6), max_size=8)
most = st.integers(1, 5)


@given(st.lists(names, max_size=8, unique=True), traffic, most)
def test_at_most_so_many_are_judged_and_nobody_who_asked_for_nothing(
    before: list[str], traffic: dict[str, float], most: int
) -> None:
    chosen = parts.choose(before, traffic, most)
    assert len(chosen) == len(set(chosen)) == min(most, sum(count > 0 for count in traffic.values()))
    assert all(traffic[name] > 0 for name in chosen)
    assert list(chosen) == sorted(chosen)


@given(st.lists(names, max_size=8, unique=True), traffic, most)
def test_nobody_left_out_is_much_busier_than_one_who_is_judged_and_the_choice_holds_still(
    before: list[str], traffic: dict[str, float], most: int
) -> None:
    chosen = parts.choose(before, traffic, most)
    least = min((traffic[name] for name in chosen), default=0.0)
    assert all(traffic[name] <= parts.SWAP_RATIO * least for name in traffic if name not in chosen and chosen)
    assert parts.choose(chosen, traffic, most) == chosen


def test_the_busiest_are_judged_and_one_that_is_gives_way_only_to_somebody_twice_as_busy() -> None:
    assert parts.choose((), {"a": 5, "b": 3, "c": 1}, 2) == ("a", "b")
    assert parts.choose(("a", "c"), {"a": 5, "b": 2, "c": 1}, 2) == ("a", "c")
    assert parts.choose(("a", "c"), {"a": 5, "b": 2.1, "c": 1}, 2) == ("a", "b")


def test_each_is_an_objective_of_its_own_with_a_key_of_its_own() -> None:
    plain = Objective(name="all", target=0.9)
    each = Objective(name="each", target=0.9, each="tenant")
    by_segment = Objective(name="right", target=0.9, sli="quality", at_least=1.0, each="segment")
    followed = {"p/e/each": ("ada", "bob"), "p/e/right": ("eu",), "p/other/each": ("eve",)}
    judged = parts.judged(("p", "e"), (plain, each, by_segment), followed)
    assert [(one.name, one.tenant, one.segment) for one in judged] == [
        ("all", "", ""),
        ("each", "ada", ""),
        ("each", "bob", ""),
        ("right", "", "eu"),
    ]
    assert [parts.key("p", "e", one) for one in judged] == ["p/e/all", "p/e/each/ada", "p/e/each/bob", "p/e/right/eu"]
    assert parts.judged(("p", "e"), (each,), {}) == []
