"""Who answers when an endpoint cannot: reasons, order, shares of the deadline; and what manifests may say of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import chains, fallback, tiers
from stoker.core.fallback import DEPTH_MAX, STEPS_MAX, Step
from stoker.types.errors import all_codes
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.resources import FALLBACK_REASONS, Backend, EndpointSpec, FallbackReason
from stoker.types.routes import BackendRoute, EndpointRoute

REASONS = {
    "deadline_exceeded": "timeout",
    "busy": "overload",
    "unavailable": "unavailable",
    "replica_lost": "unavailable",
    "not_reachable": "unavailable",
    "draining": "unavailable",
    "engine_failed": "error",
}


@pytest.mark.parametrize("code", ["invalid_input", "poison_request", "body_too_large", "unauthenticated", "forbidden",
                                  "not_found", "client_too_slow", "unsupported", *REASONS])  # fmt: skip
def test_only_what_another_endpoint_may_do_better_is_a_reason(code: str) -> None:
    assert fallback.reason(all_codes()[code]("x")) == REASONS.get(code)


def route(name: str, *, to: tuple[str, ...] = (), by: tuple[str, ...] = (), after_s: float = 0.0,
          on: tuple[FallbackReason, ...] = FALLBACK_REASONS) -> EndpointRoute:  # fmt: skip
    return EndpointRoute(
        project=ProjectName("p"),
        endpoint=EndpointName(name),
        task="chat",
        created_at_s=0.0,
        revisions=(),
        backends=tuple(BackendRoute(EndpointName(each)) for each in by),
        fallback=tuple(EndpointName(each) for each in to),
        fallback_on=on,
        fallback_after_s=after_s,
    )


def names(first: str, *routes: EndpointRoute) -> list[str]:
    table = {each.endpoint: each for each in routes}
    steps = fallback.steps(first, lambda name: table.get(EndpointName(name)), lambda each: each.backends[0].endpoint)
    return [step.endpoint for step in steps]


def test_each_endpoints_fallbacks_follow_it() -> None:
    assert names("a", route("a", to=("b", "c")), route("b", to=("d",)), route("c"), route("d")) == ["a", "b", "d", "c"]


def test_a_tier_stands_for_its_backend_and_its_fallbacks_come_last() -> None:
    assert names("t", route("t", by=("a",), to=("z",)), route("a", to=("b",)), route("b"), route("z")) == [
        "a",
        "b",
        "z",
    ]


def test_what_is_not_there_is_left_out_and_nothing_comes_twice() -> None:
    assert names("a", route("a", to=("gone", "b", "a")), route("b", to=("a", "b"))) == ["a", "b"]


def test_a_step_has_the_reasons_and_the_patience_of_who_names_it() -> None:
    table = {"a": route("a", to=("b",), on=("overload",), after_s=2.0), "b": route("b", to=("c",)), "c": route("c")}
    assert fallback.steps("a", table.get, lambda _: None)[1:] == [
        Step("b", ("overload",), 2.0),
        Step("c", FALLBACK_REASONS, 0.0),
    ]


NAMES = st.sampled_from("abcdefgh")


@given(st.dictionaries(NAMES, st.tuples(st.lists(NAMES, max_size=4), st.lists(NAMES, max_size=3))), NAMES)
def test_any_table_gives_a_bounded_way_without_repeats(
    graph: dict[str, tuple[list[str], list[str]]], first: str
) -> None:
    routes = [route(name, to=tuple(to), by=tuple(by)) for name, (to, by) in graph.items()]
    way = names(first, *routes)
    assert len(way) <= STEPS_MAX
    assert len(way) == len(set(way))
    tiered = {each.endpoint for each in routes if each.backends}
    assert not tiered & set(way)
    if first in graph and first not in tiered:
        assert way[0] == first


@given(st.lists(st.builds(Step, NAMES, st.sampled_from([FALLBACK_REASONS, ("overload",)]), st.floats(0, 100))),
       st.floats(0.001, 1000))  # fmt: skip
def test_a_step_never_takes_what_later_ones_need(later: list[Step], left_s: float) -> None:
    able = [step for step in later if "timeout" in step.reasons]
    limit_s = fallback.try_s(later, left_s)
    if not able:
        assert limit_s is None
    else:
        assert limit_s is not None
        assert 0 < limit_s <= left_s / (len(able) + 1)


def test_a_hurried_caller_says_nothing_about_an_endpoint() -> None:
    assert not fallback.is_fair(0.02, 60.0)
    assert fallback.is_fair(1.0, 60.0)
    assert fallback.is_fair(0.2, 0.2)


def backends(*entries: tuple[str, int, str]) -> list[BackendRoute]:
    return [BackendRoute(EndpointName(name), weight, when) for name, weight, when in entries]


def test_the_first_rule_that_holds_takes_it_even_if_its_backend_is_down() -> None:
    three = backends(("a", 1, ""), ("b", 1, "x"), ("c", 1, "y"))
    assert tiers.choose(three, [False, True, True], [True, False, True], 0.5) == 1
    assert tiers.choose(three, [False, False, True], [True] * 3, 0.5) == 2
    assert tiers.choose(three, [True, False, False], [True] * 3, 0.9) == 0


def test_weights_share_what_no_rule_takes_among_those_that_are_up() -> None:
    three = backends(("a", 9, ""), ("b", 1, ""), ("c", 100, "x"))
    taken = [tiers.choose(three, [False] * 3, [True] * 3, number / 1000) for number in range(1000)]
    assert (taken.count(0), taken.count(1), taken.count(2)) == (900, 100, 0)
    assert {tiers.choose(three, [False] * 3, [False, True, True], number / 10) for number in range(10)} == {1}
    assert {tiers.choose(three, [False] * 3, [False] * 3, number / 100) for number in range(100)} == {0, 1}


def spec(*to: str, by: tuple[str, ...] = (), task: str | None = None) -> EndpointSpec:
    backend = tuple(Backend(name) for name in by)
    return EndpointSpec(model="" if by else "m", backends=backend, fallback=to, task=task)  # type: ignore[arg-type]


CHAT = dict.fromkeys("abcdefgh", "chat")


@pytest.mark.parametrize(
    ("specs", "found"),
    [
        ({"a": spec("b"), "b": spec()}, []),
        ({"a": spec("a")}, [("a", "spec.fallback[0]", "a names itself")]),
        ({"a": spec("x"), "b": spec()}, [("a", "spec.fallback[0]", "no endpoint 'x' in the project; known: b")]),
        ({"t": spec(by=("a", "x")), "a": spec()}, [("t", "spec.backends[1].endpoint", "no endpoint 'x'")]),
        ({"a": spec("b"), "b": spec("c"), "c": spec("a")}, [
            ("a", "spec.fallback[0]", "a cycle: a → b → c → a"),
            ("b", "spec.fallback[0]", "a cycle: b → c → a → b"),
            ("c", "spec.fallback[0]", "a cycle: c → a → b → c"),
        ]),
        ({"t": spec("a", by=("a",)), "a": spec()}, []),
        ({"t": spec(by=("a",)), "a": spec("t")}, [("t", "spec.backends[0].endpoint", "cycle"), ("a", "", "cycle")]),
        ({"a": spec("z"), "z": spec()}, [("a", "spec.fallback[0]", "z serves predict, a serves chat")]),
        ({"t": spec(by=("a", "z")), "a": spec(), "z": spec()}, [("t", "spec.backends[1]", "z serves predict, t")]),
        ({"t": spec(by=("z",), task="chat"), "z": spec()}, [("t", "spec.backends[0]", "z serves predict")]),
        ({**{x: spec(y) for x, y in ("ab", "bc", "cd", "de")}, "e": spec()}, []),
        ({**{x: spec(y) for x, y in ("ab", "bc", "cd", "de", "ef")}, "f": spec()}, [("a", "", "a chain of 5")]),
    ],
)  # fmt: skip
def test_endpoints_that_name_each_other_must_fit(
    specs: dict[str, EndpointSpec], found: list[tuple[str, str, str]]
) -> None:
    flaws = chains.flaws(specs, {**CHAT, "z": "predict"})
    assert [flaw.endpoint for flaw in flaws] == [name for name, _, _ in found]
    for flaw, (_, field, message) in zip(flaws, found, strict=True):
        assert flaw.field.startswith(field)
        assert message in flaw.message


@given(st.dictionaries(NAMES, st.tuples(st.lists(NAMES, max_size=3), st.lists(NAMES, max_size=2))))
def test_what_is_found_without_flaw_is_followed_to_its_end(graph: dict[str, tuple[list[str], list[str]]]) -> None:
    specs = {name: spec(*to, by=tuple(by)) for name, (to, by) in graph.items()}
    if chains.flaws(specs, CHAT):
        return
    for name in specs:
        reached, layer = set(), {name}
        for _ in range(DEPTH_MAX + 1):
            reached |= layer
            layer = {link.target for each in layer for link in chains.links(specs[each])}
        assert not layer, "something lies deeper than a gateway looks"
        assert name not in {link.target for each in reached for link in chains.links(specs[each])}
