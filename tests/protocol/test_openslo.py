"""Objectives as OpenSLO and as Prometheus rules, and back; what cannot be mapped says why."""

import copy
from typing import Any

import pytest

from stoker.protocol import openslo, promrules, yamltree
from stoker.types.errors import InvalidInput
from stoker.types.resources import Endpoint, EndpointSpec, Metadata
from stoker.types.slos import TRACKED, BudgetStep, Objective, Slices

ANSWERS = Objective(name="answers", target=0.999, owner="ada", runbook="https://wiki/a")
QUICK = Objective(name="quick", sli="latency", under="300ms", target=0.99, window="7d")
METRIC = {"metricSource": {"type": "Prometheus", "spec": {"query": "stoker_first_attempts_total"}}}
OWN = Objective(name="own", target=0.99, tenant='a"b\\c')
OWN_QUICK = Objective(name="own-quick", sli="ttft", under="250ms", target=0.99, tenant="acme")
MINUTES = Objective(name="minutes", target=0.99, slices=Slices("5m", 0.95))
SHARES = Objective(name="shares", target=0.99, sli="latency", under="250ms", slices=Slices())
TICKET = Objective(name="calm", target=0.99, alert="ticket")
RIGHT = Objective(name="right", sli="quality", at_least=0.8, target=0.9, segment="eu")
NEVER = Objective(name="never", sli="quality", at_least=0.0, target=0.9)  # 0 is said too
FRESH = Objective(name="fresh", sli="freshness", under="7d", target=0.99, alert="ticket")
WORTH = Objective(name="worth", sli="business", metric="revenue", at_least=5.0, target=0.6, segment="eu")
CHEAP = Objective(name="cheap", sli="business", metric="refund", at_most=0.5, target=0.9)
FAR = Objective(name="far", sli="drift", at_most=0.2, target=0.9, window="7d")
EACH = Objective(name="each", target=0.99, each="tenant", each_max=5)
REGIONS = Objective(name="regions", sli="quality", at_least=0.8, target=0.9, each="segment")
MEAN = Objective(name="mean", sli="latency", under="300ms", target=0.99, slices=Slices("5m", mean=True))
SHIFT = Objective(name="shift", sli="drift", at_most=0.2, target=0.9, policy=(BudgetStep("scale-up"),))


def endpoint(*slos: Objective) -> Endpoint:
    return Endpoint(Metadata("digits"), EndpointSpec(model="digits", slos=slos))


def slos(*objectives: Objective) -> list[dict[str, Any]]:
    return [each for each in openslo.documents(endpoint(*objectives)) if each["kind"] == "SLO"]


def test_what_is_exported_reads_back_to_the_same_objective() -> None:
    for objective in (
        ANSWERS,
        QUICK,
        OWN,
        OWN_QUICK,
        MINUTES,
        SHARES,
        TICKET,
        RIGHT,
        NEVER,
        FRESH,
        WORTH,
        CHEAP,
        FAR,
        EACH,
        REGIONS,
        MEAN,
    ):
        (document,) = slos(objective)
        (tree,), faults = yamltree.parse(yamltree.to_text([document]))
        assert not faults
        assert openslo.objective(yamltree.plain(tree)) == ("digits", objective)


def test_an_objective_of_one_tenant_asks_for_its_series_alone() -> None:
    _, total = openslo.queries(endpoint(OWN), OWN)
    assert total == ('stoker_tenant_first_attempts_total{project="default",endpoint="digits",tenant="a\\"b\\\\c"}')
    good, total = openslo.queries(endpoint(OWN_QUICK), OWN_QUICK)
    whose = 'project="default",endpoint="digits",tenant="acme"'
    assert good == f'stoker_tenant_time_to_first_token_seconds_bucket{{{whose},le="0.25"}}'
    assert total == f"stoker_tenant_time_to_first_token_seconds_count{{{whose}}}"


def test_what_no_two_counters_say_is_exported_as_the_share_that_control_judged() -> None:
    (document,) = slos(RIGHT)
    assert document["spec"]["indicator"]["spec"]["ratioMetric"] == {
        "counter": False,
        "rawType": "success",
        "raw": {
            "metricSource": {
                "type": "Prometheus",
                "spec": {
                    "query": '1 - (1 - stoker_slo_budget_left_ratio{project="default",endpoint="digits",slo="right"})'
                    " * 0.1"
                },
            }
        },
    }
    assert document["metadata"]["annotations"]["stoker.dev/segment"] == "eu"


def test_an_objective_for_each_tenant_or_segment_is_one_query_by_it() -> None:
    each, regions, mean = (
        document["spec"]["indicator"]["spec"]["ratioMetric"] for document in slos(EACH, REGIONS, MEAN)
    )
    query = each["total"]["metricSource"]["spec"]["query"]
    assert query == 'sum by (tenant)(stoker_tenant_first_attempts_total{project="default",endpoint="digits"})'
    assert 'min(stoker_slo_budget_left_ratio{project="default",endpoint="digits",slo=~"regions/.+"})' in str(regions)
    assert mean["rawType"] == "success"
    first, second = promrules.rules(endpoint(EACH, MEAN))["groups"]
    alert = next(rule for rule in first["rules"] if "alert" in rule)
    assert "and on (tenant) (sum by (tenant)(increase(" in alert["expr"]
    assert 'stoker_slo_slices_total{project="default",endpoint="digits",slo="mean"' in second["rules"][0]["expr"]


def test_what_is_only_tracked_has_no_policy_and_the_policy_of_a_budget_stays_with_the_endpoint() -> None:
    (shift,) = slos(SHIFT)
    assert openslo.objective(shift)[1].policy == ()
    (tracked,) = slos()
    assert tracked["spec"]["alertPolicies"] == []
    assert openslo.objective(tracked)[1] == TRACKED[0]


def test_a_document_in_the_specifications_own_words_is_read() -> None:
    document = {
        "apiVersion": "openslo/v1",
        "kind": "SLO",
        "metadata": {"name": "answers"},
        "spec": {
            "service": "digits",
            "indicator": {
                "metadata": {"name": "x"},
                "spec": {
                    "ratioMetric": {"counter": True, "good": METRIC, "total": METRIC},
                },
            },
            "timeWindow": [{"duration": "4w", "isRolling": True}],
            "budgetingMethod": "Occurrences",
            "objectives": [{"displayName": "x", "targetPercent": 99.5}],
            "alertPolicies": ["burn"],
        },
    }
    assert openslo.objective(document) == ("digits", Objective(name="answers", target=0.995, window="28d"))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("spec.budgetingMethod", "Moods", "'Moods' is no budgeting method"),
        ("spec.budgetingMethod", "Timeslices", "timeSliceTarget is a share over 0 and up to 1, not None"),
        ("spec.budgetingMethod", "RatioTimeslices", "timeSliceWindow is a time such as 1m, not None"),
        ("spec.timeWindow", [{"duration": "1M", "calendar": {}}], "only one rolling window"),
        ("spec.timeWindow", [{"duration": "soon", "isRolling": True}], "'soon' is not a time"),
        ("spec.timeWindow", [{"duration": "1m", "isRolling": True}], "not between one hour and 90 days"),
        ("spec.objectives", [{"target": 0.9}, {"target": 0.99}], "exactly one objective"),
        ("spec.objectives", [{"target": 99.9}], "a share between 0 and 1"),
        ("spec.objectives", [{"target": 0.9, "compositeWeight": 1}], "composite objective"),
        ("spec.indicator", {"spec": {"thresholdMetric": {}}}, "a thresholdMetric cannot be mapped"),
        ("spec.service", None, "missing"),
        ("apiVersion", "openslo/v2alpha", "only openslo/v1 is read"),
        ("metadata.annotations", {"stoker.dev/sli": "latency"}, "stoker.dev/under"),
        ("metadata.annotations", {"stoker.dev/sli": "quality"}, "which quality is good .* stoker.dev/at_least: 0.8"),
        ("metadata.annotations", {"stoker.dev/sli": "drift", "stoker.dev/at_most": "much"}, "a number such as 0.8"),
        ("metadata.annotations", {"stoker.dev/sli": "drift", "stoker.dev/at_most": [1]}, "a number such as 0.8"),
        ("metadata.annotations", {"stoker.dev/segment": "eu"}, "availability is not measured by segment"),
        ("metadata.annotations", {"stoker.dev/sli": "joy"}, "'joy' is not measured"),
        ("metadata.annotations", {"stoker.dev/alert": "shout"}, "'shout' is neither page nor ticket"),
        ("metadata.annotations", {"stoker.dev/sli": "ttft", "stoker.dev/under": "soon"}, "'soon' is not a time"),
    ],
)
def test_what_cannot_be_mapped_is_refused_with_its_field(path: str, value: object, message: str) -> None:
    (document,) = slos(ANSWERS)
    changed = copy.deepcopy(document)
    *parents, last = path.split(".")
    inner = changed
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    with pytest.raises(InvalidInput, match=message):
        openslo.objective(changed)


def test_a_query_of_somebody_elses_metrics_is_refused_unless_it_says_what_it_means() -> None:
    (document,) = slos(ANSWERS)
    document["metadata"]["annotations"] = {}
    document["spec"]["indicator"]["spec"]["ratioMetric"] = {"good": "istio_requests_total", "total": "x"}
    with pytest.raises(InvalidInput, match="stoker measures its own endpoints"):
        openslo.objective(document)
    document["metadata"]["annotations"] = {"stoker.dev/sli": "availability"}
    assert openslo.objective(document)[1].sli == "availability"


def test_prometheus_rules_record_each_window_and_alert_on_both_with_the_guard() -> None:
    (group, quick) = promrules.rules(endpoint(ANSWERS, QUICK))["groups"]
    recorded = [each["record"] for each in group["rules"] if "record" in each]
    assert recorded == [f"slo:sli_error:ratio_rate{each}" for each in ("5m", "30m", "1h", "2h", "6h", "1d", "3d")]
    first = next(each for each in group["rules"] if "alert" in each)
    assert first["labels"] == {"severity": "page", "slo": "answers", "owner": "ada"}
    assert first["annotations"]["runbook_url"] == "https://wiki/a"
    assert 'ratio_rate1h{sloth_id="default-digits-answers"} >= 0.0144 and' in first["expr"]
    assert 'ratio_rate5m{sloth_id="default-digits-answers"} >= 0.0144)' in first["expr"]
    assert ">= 5)" in first["expr"]
    assert 'le="0.5"' in quick["rules"][0]["expr"]  # 300 ms: /metrics shows powers of two
    tracked = promrules.rules(endpoint())["groups"][0]
    assert not any("alert" in each for each in tracked["rules"])


@pytest.mark.parametrize(
    ("method", "given", "made"),
    [
        ("Timeslices", {"timeSliceTarget": 0.95, "timeSliceWindow": "1m"}, Slices("1m", 0.95)),
        ("Timeslices", {"timeSliceTarget": 1, "timeSliceWindow": "1h"}, Slices("1h", 1.0)),
        ("RatioTimeslices", {"timeSliceWindow": "5m"}, Slices("5m")),
        ("Occurrences", {"timeSliceTarget": 0.95, "timeSliceWindow": "1m"}, None),
    ],
)
def test_every_budgeting_method_is_read(method: str, given: dict[str, Any], made: Slices | None) -> None:
    (document,) = slos(ANSWERS)
    document["spec"]["budgetingMethod"] = method
    document["spec"]["objectives"][0] |= given
    assert openslo.objective(document)[1].slices == made


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"timeSliceTarget": 0, "timeSliceWindow": "1m"}, "up to 1, not 0"),
        ({"timeSliceTarget": 0.9, "timeSliceWindow": 1}, "a time such as 1m, not 1"),
        ({"timeSliceTarget": 0.9, "timeSliceWindow": "10s"}, "'10s' is not in whole minutes"),
        ({"timeSliceTarget": 0.9, "timeSliceWindow": "soon"}, "'soon' is not a time"),
    ],
)
def test_slices_that_cannot_be_are_refused(given: dict[str, Any], message: str) -> None:
    (document,) = slos(ANSWERS)
    document["spec"]["budgetingMethod"] = "Timeslices"
    document["spec"]["objectives"][0] |= given
    with pytest.raises(InvalidInput, match=message):
        openslo.objective(document)


def test_slices_are_exported_as_the_specification_calls_them_and_ruled_by_what_control_judged() -> None:
    (document,) = slos(MINUTES)
    assert document["spec"]["budgetingMethod"] == "Timeslices"
    assert document["spec"]["objectives"][0] == {
        "displayName": "minutes", "target": 0.99, "timeSliceTarget": 0.95, "timeSliceWindow": "5m"
    }  # fmt: skip
    assert "stoker_first_attempts_total" in str(document["spec"]["indicator"])
    (group,) = promrules.rules(endpoint(MINUTES))["groups"]
    whose = 'project="default",endpoint="digits",slo="minutes"'
    assert f'stoker_slo_slices_total{{{whose},outcome="good"}}' in group["rules"][0]["expr"]


def test_rules_see_an_endpoint_of_which_nothing_was_ever_good() -> None:
    total = 'stoker_first_attempts_total{project="default",endpoint="digits"}'
    good = total.replace("}", ',outcome="good"}')
    (group,) = promrules.rules(endpoint(ANSWERS))["groups"]
    rate = f"sum(rate({good}[5m])) or 0 * sum(rate({total}[5m]))"
    assert group["rules"][0]["expr"] == f"1 - (({rate}) / sum(rate({total}[5m])))"
    alert = next(rule for rule in group["rules"] if "alert" in rule)
    assert f"(sum(increase({good}[1h])) or 0 * sum(increase({total}[1h])))" in alert["expr"]


def test_conditions_fire_where_stoker_does() -> None:
    policy = next(each for each in openslo.documents(endpoint(ANSWERS)) if each["kind"] == "AlertPolicy")
    conditions = {each["metadata"]["name"]: each["spec"]["condition"] for each in policy["spec"]["conditions"]}
    fires = {name.rpartition("-")[2]: each["threshold"] for name, each in conditions.items()}
    assert (fires["outage"], fires["surge"], fires["leak"]) == (400.0, 14.4, 1.0)  # 40 % of what 0.1 % is allowed
