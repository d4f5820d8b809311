"""Policies as text: what is wrong with one, what rules see, the starter set, and files of tests."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import policy
from stoker.protocol import manifest, policies, policytest, rules
from stoker.protocol.manifest import ManifestError
from stoker.protocol.starter import starter
from stoker.types.policies import PolicyMatch, PolicyRule, PolicySpec, PolicyVariable
from stoker.types.resources import Endpoint, Metadata, Policy

STARTER = list(starter().values())


def spec(*texts: str, **more: Any) -> PolicySpec:
    return PolicySpec(rules=tuple(PolicyRule(f"r{at}", text) for at, text in enumerate(texts)), **more)


@pytest.mark.parametrize(
    "text",
    [
        "resource.spec.replicas.min > 0",
        "resource.metadata.labels.owner != ''",
        "has(resource.metadata.labels.owner)",
        "'owner' in resource.metadata.labels",
        "old == null || old.spec.replicas.max >= resource.spec.replicas.max",
        "version.files.all(f, f.size_bytes < 1073741824)",
        "resource.spec.resources.memory <= pool.memory_bytes",
        "resource.spec.cache == null || resource.spec.cache.ttl < 3600",
        "dossier == null || dossier.verdict == 'passed'",
        "actor.is_admin || actor.project == project.name",
        "resource.kind == 'Endpoint' && operation in ['create', 'update']",
        "slos.exists(s, s.sli == 'availability' && s.target >= 0.99)",
        "timestamp('2026-01-01T00:00:00Z').getFullYear() == 2026",
        "resource.spec.options.context > 4096",
    ],
)
def test_what_people_write_is_fine(text: str) -> None:
    assert list(policies.flaws(spec(text))) == [""]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("resource.spec.replica.min > 0", "resource.spec has no field 'replica'; did you mean replicas?"),
        ("true || resource.spec.replica.min > 0", "resource.spec has no field 'replica'"),
        ("version.file.size() == 0", "version has no field 'file'; did you mean files?"),
        ("resorce == null", "unknown name 'resorce'; did you mean resource?"),
        ("true || lowercase('A') == 'a'", r"unknown function lowercase\(\)"),
        ("1 + 1", "it gives int, not true or false"),
        ("resource.metadata.name", "it gives str, not true or false"),
        ("resource.metadata.name + 1 == ''", "Unsupported operation: string"),
        ("resource.spec.replicas.min == 'two' || resource.metadata.name < 3", "No such overload"),
        ("variables.none", "unknown variable 'none'; known here: none"),
        ("((((", "Syntax error"),
        ("(" * 2000, "Syntax error|mismatched|recursion"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_held_to_it(text: str, wrong: str) -> None:
    (found,) = policies.flaws(spec(text))
    assert re.search(wrong, found), found


def test_messages_are_texts_and_variables_know_only_those_before_them() -> None:
    shared = (PolicyVariable("a", "resource.spec.replicas.min"), PolicyVariable("b", "variables.a + variables.c"))
    rule = PolicyRule("r", "variables.b == 2", message_expression="1 + 1")
    assert list(policies.flaws(PolicySpec(rules=(rule,), variables=shared))) == [
        "",
        "unknown variable 'c'; known here: a",
        "",
        "it gives int, not a text",
    ]


def test_names_given_twice_and_projects_of_a_policy_that_has_one_are_told_with_their_field() -> None:
    twice = PolicyRule("r", "true")
    one = PolicySpec(rules=(twice, twice), match=PolicyMatch(projects=("a",)))
    assert [field for field, _ in policies.problems(one)] == ["spec.rules[1].name", "spec.match.projects"]


def test_the_package_has_the_functions_that_are_said_to_be_there() -> None:
    calls = {
        "timestamp": "timestamp('2026-01-01T00:00:00Z')", "duration": "duration('1h')", "size": "size('a')",
        "bytes": "bytes('a')", "contains": "'a'.contains('a')", "matches": "'a'.matches('a')",
        "startsWith": "'a'.startsWith('a')", "endsWith": "'a'.endsWith('a')",
    }  # fmt: skip
    for name in rules.FUNCTIONS:
        text = f"timestamp('2026-01-01T00:00:00Z').{name}()" if name.startswith("get") else f"{name}(1)"
        rules.Expression(calls.get(name, text)).value({})
        assert rules.Expression(calls.get(name, text)).functions <= rules.FUNCTIONS


def test_sizes_are_bytes_and_times_seconds_wherever_they_are() -> None:
    written = manifest.load(
        """
apiVersion: stoker/v1
kind: Endpoint
metadata: {name: e}
spec:
  model: m
  resources: {memory: 2Gi}
  cache: {ttl: 10m, max_bytes: 1Mi}
  slos: [{name: fast, sli: latency, target: 0.99, under: 250ms}]
"""
    )[0]
    seen = policies.plain(written)
    assert seen["kind"] == "Endpoint"
    assert seen["spec"]["resources"]["memory"] == 2**31
    assert (seen["spec"]["cache"]["ttl"], seen["spec"]["cache"]["max_bytes"]) == (600.0, 2**20)
    assert seen["spec"]["slos"][0]["under"] == 0.25
    assert seen["spec"]["limits"]["timeout"] == 60.0, "what is not written has its default"


def test_what_rules_see_of_an_endpoint_is_what_a_manifest_says() -> None:
    endpoint = Endpoint(Metadata("e"), policies.EndpointSpec("m"))
    assert set(policies.plain(endpoint)["spec"]) == set(policies.EndpointSpec.__struct_fields__)


@pytest.mark.parametrize(("one", "text"), STARTER, ids=[one.metadata.name for one, _ in STARTER])
def test_a_policy_of_the_starter_set_is_fine_and_is_what_its_text_says(one: Policy, text: str) -> None:
    assert not any(policies.flaws(one.spec))
    assert manifest.load(text) == [one]
    assert one.spec.description
    assert manifest.load(manifest.to_yaml([one])) == [one], "and survives an export"


CASES = Path(__file__).with_name("starter_cases.yaml").read_text()


def judged(suite: policytest.Suite) -> dict[str, tuple[policytest.Case, Any]]:
    compiled = [policies.compiled(one) for one in suite.policies]
    found = {}
    for case, document in zip(suite.cases, suite.documents, strict=True):
        found[case.name] = (case, policy.verdicts(compiled, document))
    return found


def test_the_starter_set_does_what_its_cases_say() -> None:
    suite = policytest.load("\n---\n".join([*(text for _, text in STARTER), CASES]))
    for name, (case, verdicts) in judged(suite).items():
        assert policytest.holds(case, verdicts), (name, policy.remarks(verdicts))


def test_each_rule_of_the_starter_set_has_a_case_that_breaks_it() -> None:
    suite = policytest.load("\n---\n".join([*(text for _, text in STARTER), CASES]))
    broken = {f"{v.policy}/{v.rule}" for _, found in judged(suite).values() for v in found if v.outcome != "passed"}
    assert broken == {f"{one.metadata.name}/{rule.name}" for one, _ in STARTER for rule in one.spec.rules}


def test_everything_that_is_wrong_with_a_file_of_tests_is_told_with_its_line() -> None:
    text = """kind: PolicyTest
cases:
  - name: a
    expect: refuse
  - name: b
    expect: deny
    resource: {spec: {replicas: {min: many}}}
"""
    with pytest.raises(ManifestError) as told:
        policytest.load(text)
    assert (told.value.problems[0].line, told.value.problems[0].field) == (4, "cases[0].expect")
    with pytest.raises(ManifestError) as told:
        policytest.load(text.replace("refuse", "deny"))
    (problem,) = told.value.problems
    assert (problem.line, problem.field) == (7, "cases[1].resource")
    assert "replicas.min" in problem.message
    with pytest.raises(ManifestError, match="documents of kind Policy and PolicyTest"):
        policytest.load("apiVersion: stoker/v1\nkind: Project\nmetadata: {name: p}\n")


@given(st.text(max_size=200))
def test_no_text_is_more_than_a_flaw(text: str) -> None:
    if text:
        for found in policies.flaws(spec(text)):
            assert isinstance(found, str)
