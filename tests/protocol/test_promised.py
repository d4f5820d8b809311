"""Objectives and receivers as people write them: every mistake is refused with its line."""

import pytest

from stoker.protocol import manifest
from stoker.protocol.manifest import ManifestError
from stoker.types.resources import Endpoint, Notifier

HEAD = "apiVersion: stoker/v1\nkind: Endpoint\nmetadata: {name: digits}\nspec:\n  model: digits\n  slos:\n"
RECEIVER = "apiVersion: stoker/v1\nkind: Notifier\nmetadata: {name: phone}\nspec:\n"


def problems(text: str) -> list[str]:
    with pytest.raises(ManifestError) as refused:
        manifest.load(text)
    return [str(problem) for problem in refused.value.problems]


def test_an_objective_has_sane_defaults_and_survives_a_round_trip() -> None:
    (endpoint,) = manifest.load(
        HEAD + "    - {name: answers, target: 0.999}\n"
        "    - {name: quick, sli: latency, under: 300ms, target: 0.99, window: 7d, alert: ticket, owner: ada,\n"
        "       policy: [{do: freeze-rollouts, when_left: 0.25}, {do: scale-up}]}\n"
    )
    assert isinstance(endpoint, Endpoint)
    answers, quick = endpoint.spec.slos
    assert (answers.sli, answers.window, answers.alert) == ("availability", "30d", "page")
    assert [step.do for step in quick.policy] == ["freeze-rollouts", "scale-up"]
    assert manifest.load(manifest.to_yaml([endpoint], defaults=False)) == [endpoint]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{name: a, target: 99.9}", "spec.slos[0].target: 99.9 is not less than 1; it is a share: 99.9 % is 0.999"),
        ("{name: a, target: 0.9, sli: latency}", "spec.slos[0].under: missing; it says which latency is good"),
        ("{name: a, target: 0.9, sli: quality, at_least: 0.8}", "sli: nothing keeps predictions for their labels"),
        ("{name: a, target: 0.9, sli: quality}\n  feedback: {}", "spec.slos[0].at_least: missing"),
        ("{name: a, target: 0.9, sli: freshness}", "spec.slos[0].under: missing; it says which freshness is good"),
        ("{name: a, target: 0.9, sli: drift}", "spec.slos[0].at_most: missing; it says which drift is good"),
        ("{name: a, target: 0.9, sli: drift, at_most: 0.2}\n  drift: null", "sli: nothing watches drift"),
        ("{name: a, target: 0.9, under: 1s}", "spec.slos[0].under: says nothing about availability"),
        ("{name: a, target: 0.9, sli: drift, at_least: 1, at_most: 1}", "says nothing about drift; write `at_most`"),
        ("{name: a, target: 0.9, metric: revenue}", "spec.slos[0].metric: says nothing about availability"),
        ("{name: a, target: 0.9, sli: business, at_least: 5}\n  feedback: {}", "spec.slos[0].metric: missing"),
        ("{name: a, target: 0.9, sli: business, metric: r, at_least: 5}", "sli: nothing keeps predictions"),
        ("{name: a, target: 0.9, sli: business, metric: r}\n  feedback: {}", "exactly one of `at_least` and `at_most`"),
        ("{name: a, target: 0.9, sli: business, metric: r, at_least: 0}\n  feedback: {}", "no amount is negative"),
        ("{name: a, target: 0.9, segment: eu}", "spec.slos[0].segment: availability is not measured by segment"),
        (
            "{name: a, target: 0.9, sli: freshness, under: 1s, tenant: b}",
            "freshness is not measured by tenant; known: av",
        ),
        ("{name: a, target: 0.9, sli: latency, under: 0}", "0 is no time that anything could be under"),
        ("{name: a, target: 0.9, window: 10m}", "'10m' is not between one hour and 90 days"),
        (
            "{name: a, target: 0.9, slices: {length: 90s}}",
            "slices.length: '90s' is not in whole minutes, from 1m to 1h",
        ),
        ("{name: a, target: 0.9, slices: {length: 2h}}", "slices.length: '2h' is not in whole minutes, from 1m to 1h"),
        ("{name: a, target: 0.9, window: 1h, slices: {length: 5m}}", "'1h' has fewer than 20 slices of that length"),
        ("{name: a, target: 0.9, each: segment}", "spec.slos[0].each: availability is not measured by segment"),
        ("{name: a, target: 0.9, each: tenant, tenant: b}", "spec.slos[0].tenant: `each: tenant` is one objective for"),
        ("{name: a, target: 0.9, slices: {mean: true}}", "slices.mean: an event of availability is good or bad"),
        (
            "{name: a, target: 0.9, sli: latency, under: 1s, slices: {mean: true, target: 0.9}}",
            "slices.target: a slice whose mean is judged",
        ),
        (
            "{name: a, target: 0.9, slices: {target: 95}}",
            "spec.slos[0].slices.target: 95 is more than 1; it is a share: 95 % is 0.95",
        ),
        ("{name: a, target: 0.9, runbook: 'javascript:x'}", "is no http or https address"),
        ("{name: a, target: 0.9, policy: [{do: freeze}]}", "expected freeze-rollouts or"),
    ],
)
def test_an_objective_that_cannot_be_meant_is_refused_with_its_line(line: str, message: str) -> None:
    (found,) = problems(HEAD + f"    - {line}\n")
    assert found.startswith("line 7: ")
    assert message in found


def test_two_objectives_of_one_name_and_seventeen_of_them_are_refused() -> None:
    twice = problems(HEAD + "    - {name: a, target: 0.9}\n    - {name: a, target: 0.99}\n")
    assert twice == ["line 8: spec.slos[1].name: a is there twice"]
    many = problems(HEAD + "".join(f"    - {{name: a{number}, target: 0.9}}\n" for number in range(17)))
    assert many == ["line 7: spec.slos: more than 16 entries"]


def test_a_receiver_names_its_secrets_and_never_holds_them() -> None:
    (phone,) = manifest.load(RECEIVER + "  {type: slack, url_from: 'env:HOOK', min_severity: page}\n")
    assert isinstance(phone, Notifier)
    assert manifest.identity(phone) == ("Notifier", "default", "phone")
    for line, message in {
        "{type: webhook}": "exactly one of `url` and `url_from`",
        "{type: webhook, url: 'http://a', url_from: 'env:B'}": "exactly one of `url` and `url_from`",
        "{type: webhook, url: 'ftp://a/b'}": "'ftp://a/b' is no http or https address",
        "{type: webhook, url: 'http://a', sign_with: hunter2}": "file:/path",
        "{type: slack, url: 'http://a', sign_with: 'env:KEY'}": "a slack receiver checks no signature",
        "{type: email}": "spec.email: missing",
        "{type: email, email: {to: [], sender: a@b, host: h}}": "needs 1 or more entries",
        "{type: email, email: {to: [c@d], sender: a@b, host: h, user: u}}": "`user` and `password` belong together",
        "{type: apprise}": "spec.url_from: missing",
        "{type: webhook, url: 'http://a', repeat: 1s}": "'1s' is not between one minute and 7 days",
    }.items():
        assert any(message in found for found in problems(RECEIVER + f"  {line}\n")), line


def test_the_age_of_a_version_is_promised_where_there_is_one() -> None:
    text = (
        HEAD.replace("model: digits", "backends: [{endpoint: a}]")
        + "    - {name: young, target: 0.9, sli: freshness, under: 7d}\n"
    )
    (found,) = problems(text)
    assert "spec.slos[0].sli: backends serve, each with a model of its own" in found
