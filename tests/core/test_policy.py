"""Admission policies: which look at a change, what their rules say, and that neither order nor errors open a door."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import policy
from stoker.core.policy import Compiled
from stoker.types.ids import ProjectName
from stoker.types.policies import (
    Actor,
    Document,
    Enforcement,
    PolicyMatch,
    PolicyRule,
    PolicySpec,
    PolicyVariable,
    ProjectFacts,
)
from stoker.types.resources import Metadata, Policy

ENFORCEMENTS: tuple[Enforcement, ...] = ("deny", "warn", "audit")


class Says:
    """A program that gives one value, or none."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def value(self, values: Mapping[str, Any]) -> Any:
        if isinstance(self._value, ValueError):
            raise self._value
        return self._value(values) if callable(self._value) else self._value


def document(operation: str = "create", **labels: str) -> Document:
    resource = {"kind": "Endpoint", "metadata": {"name": "e", "labels": labels}, "spec": {}}
    return msgspec.convert(
        {
            "operation": operation,
            "resource": None if operation == "delete" else resource,
            "old": None if operation == "create" else resource,
            "actor": Actor("k"),
            "project": ProjectFacts("shop"),
        },
        Document,
        from_attributes=True,
    )


def made(name: str, *rules: tuple[Any, Enforcement], project: str = "shop", **spec: Any) -> Compiled:
    """Return a policy whose rules give the values of `rules`."""
    written = tuple(PolicyRule(f"r{at}", f"{name}-{at}", enforcement=how) for at, (_, how) in enumerate(rules))
    resource = Policy(Metadata(name, ProjectName(project)), PolicySpec(rules=written, **spec))
    return Compiled(resource, {f"{name}-{at}": Says(value) for at, (value, _) in enumerate(rules)})


BROKEN = ValueError("no such key")
answers = st.sampled_from([True, False, None, 1, "true", [], BROKEN])
policies = st.lists(
    st.tuples(
        st.lists(st.tuples(answers, st.sampled_from(ENFORCEMENTS)), min_size=1, max_size=4),
        st.sampled_from(["fail", "ignore"]),
    ),
    max_size=5,
).map(lambda rows: [made(f"p{at}", *rules, failure_policy=failing) for at, (rules, failing) in enumerate(rows)])


@given(policies)
def test_one_rule_that_denies_is_enough_whatever_the_others_say(some: list[Compiled]) -> None:
    some.append(made("last", (False, "deny")))
    assert policy.denials(policy.verdicts(some, document()))


@given(policies)
def test_only_true_passes_and_what_gives_no_answer_counts_as_broken_unless_its_policy_ignores_that(
    some: list[Compiled],
) -> None:
    found = iter(policy.verdicts(some, document()))
    for each in some:
        for rule in each.policy.spec.rules:
            value = _value(each, rule)
            verdict = next(found)
            if value is True:
                assert (verdict.outcome, verdict.counts) == ("passed", True)
            elif value is False:
                assert (verdict.outcome, verdict.counts) == ("violated", True)
            else:
                assert verdict.outcome == "failed"
                assert verdict.counts == (each.policy.spec.failure_policy == "fail")
                assert verdict.message
    assert next(found, None) is None, "one verdict a rule"


@given(policies, st.randoms())
def test_the_order_of_policies_changes_no_verdict(some: list[Compiled], random: Any) -> None:
    shuffled = list(some)
    random.shuffle(shuffled)
    assert set(policy.verdicts(some, document())) == set(policy.verdicts(shuffled, document()))


@given(policies)
def test_a_refusal_is_a_deny_that_counts_and_every_verdict_that_did_not_pass_is_remarked(some: list[Compiled]) -> None:
    found = policy.verdicts(some, document())
    for verdict in (*policy.denials(found), *policy.warnings(found)):
        assert verdict.counts
        assert verdict.outcome != "passed"
    assert {v.enforcement for v in policy.denials(found)} <= {"deny"}
    assert {v.enforcement for v in policy.warnings(found)} <= {"warn"}
    assert set(policy.remarks(found)) | {v for v in found if v.outcome == "passed"} == set(found)


@given(policies)
def test_a_change_is_refused_exactly_when_a_rule_that_denies_does_not_hold_or_may_not_fail(
    some: list[Compiled],
) -> None:
    closed = {
        (each.policy.metadata.name, rule.name)
        for each in some
        for rule in each.policy.spec.rules
        if rule.enforcement == "deny"
        and _value(each, rule) is not True
        and (_value(each, rule) is False or each.policy.spec.failure_policy == "fail")
    }
    found = policy.denials(policy.verdicts(some, document()))
    assert {(verdict.policy, verdict.rule) for verdict in found} == closed


@pytest.mark.parametrize(
    ("match", "asked", "looks"),
    [
        ({}, document(), True),
        ({}, document("delete"), False),
        ({"operations": ("delete",)}, document("delete"), True),
        ({"kinds": ("Project",)}, document(), False),
        ({"labels": {"env": "production"}}, document(env="production"), True),
        ({"labels": {"env": "prod*"}}, document(env="production"), True),
        ({"labels": {"env": "production"}}, document(env="staging"), False),
        ({"labels": {"env": "production", "tier": "1"}}, document(env="production"), False),
    ],
)
def test_a_policy_looks_at_what_its_match_says(match: dict[str, Any], asked: Document, looks: bool) -> None:
    assert policy.looks_at(made("p", (True, "deny"), match=PolicyMatch(**match)).policy, asked) is looks


def test_taking_the_label_away_does_not_take_the_policy_away() -> None:
    one = made("p", (False, "deny"), match=PolicyMatch(labels={"env": "production"})).policy
    before, after = document("update", env="production"), document("update")
    assert policy.looks_at(one, msgspec.structs.replace(after, old=before.resource))


@pytest.mark.parametrize(
    ("spec", "looks"),
    [
        ({}, False),
        ({"all_projects": True}, True),
        ({"all_projects": True, "match": PolicyMatch(projects=("sh*",))}, True),
        ({"all_projects": True, "match": PolicyMatch(projects=("other",))}, False),
        ({"all_projects": True, "enabled": False}, False),
    ],
)
def test_a_policy_of_another_project_looks_only_where_it_holds_everywhere(spec: dict[str, Any], looks: bool) -> None:
    assert policy.looks_at(made("p", (True, "deny"), project="platform", **spec).policy, document()) is looks


def test_variables_are_made_in_order_and_one_that_fails_is_told_by_the_rules_that_use_it() -> None:
    resource = Policy(
        Metadata("p", ProjectName("shop")),
        PolicySpec(
            rules=(PolicyRule("good", "variables.two == 2"), PolicyRule("bad", "variables.none == 1")),
            variables=(PolicyVariable("one", "1"), PolicyVariable("two", "one + one"), PolicyVariable("none", "boom")),
        ),
    )
    compiled = Compiled(
        resource,
        {
            "1": Says(1),
            "one + one": Says(lambda values: values["variables"]["one"] * 2),
            "boom": Says(ValueError("it broke")),
            "variables.two == 2": Says(lambda values: values["variables"]["two"] == 2),
            "variables.none == 1": Says(ValueError("no such key")),
        },
    )
    good, bad = policy.verdicts([compiled], document())
    assert good.outcome == "passed"
    assert (bad.outcome, bad.message) == ("failed", "it gave no answer (variables.none: it broke)")


def test_the_message_is_what_its_expression_makes_else_what_is_written_else_the_rule_itself() -> None:
    def said(rule: PolicyRule, made_of: Any = None) -> str:
        resource = Policy(Metadata("p", ProjectName("shop")), PolicySpec(rules=(rule,)))
        programs = {rule.expression: Says(False), rule.message_expression: Says(made_of)}
        return policy.verdicts([Compiled(resource, programs)], document())[0].message

    assert said(PolicyRule("r", "a == b")) == "this does not hold: a == b"
    assert said(PolicyRule("r", "a == b", "do this")) == "do this"
    assert said(PolicyRule("r", "a", "do this", "m"), "made") == "made"
    assert said(PolicyRule("r", "a", "do this", "m"), ValueError("no")) == "do this"
    assert said(PolicyRule("r", "a", "do this", "m"), 7) == "do this"
    assert len(said(PolicyRule("r", "a", "do this", "m"), "x" * 10_000)) == 500


def _value(each: Compiled, rule: PolicyRule) -> Any:
    try:
        return each.programs[rule.expression].value({})
    except ValueError as wrong:
        return wrong
