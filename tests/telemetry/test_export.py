"""Boards and rules speak of what is measured, and of nothing else."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from stoker.telemetry.catalogue import BY_NAME, METRICS
from stoker.telemetry.export import grafana, promql, rules, scrape

SUFFIXES = ("_bucket", "_sum", "_count")
FUNCTIONS = {
    "sum",
    "max",
    "rate",
    "increase",
    "histogram_quantile",
    "absent",
    "time",
    "by",
    "unless",
    "le",
    "label_values",
}


def expressions() -> Iterator[str]:
    for panel in every_panel():
        yield from (target["expr"] for target in panel["targets"])
    for variable in grafana.board()["templating"]["list"][1:]:
        yield variable["definition"]
    for group in rules.groups()["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def every_panel() -> list[Any]:
    top = grafana.board()["panels"]
    return [panel for one in top for panel in (one, *one.get("panels", ())) if panel["type"] != "row"]


def names(expression: str) -> set[str]:
    """Return the words of an expression that are no label, text, number or part of the language."""
    bare = re.sub(r'\{[^}]*\}|\[[^\]]*\]|"[^"]*"', " ", expression)
    bare = re.sub(r"\bby \([^)]*\)|label_values\(|, (project|endpoint)\)", " ", bare)
    return set(re.findall(r"[a-z_][a-z0-9_:]*", bare)) - FUNCTIONS


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_every_name_in_a_query_is_in_the_catalogue_or_a_recorded_rule(expression: str) -> None:
    recorded = {rule["record"] for rule in rules.recording()}
    found = names(expression)
    assert found
    for name in found - recorded:
        known = BY_NAME.get(name)
        if known is None:
            base = next(name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix))
            known = BY_NAME[base]
        assert (known.kind == "histogram") == (known.name != name), expression
    assert expression.count("(") == expression.count(")")


def test_every_metric_of_the_catalogue_is_on_the_board() -> None:
    shown = " ".join(target["expr"] for panel in every_panel() for target in panel["targets"])
    assert [metric.name for metric in METRICS if not re.search(rf"\b{metric.name}(?:_bucket|_sum)?\b", shown)] == []


def test_panels_lie_beside_and_not_over_each_other_and_each_is_one() -> None:
    panels = [*grafana.board()["panels"], *grafana.board()["panels"][-1]["panels"]]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= grafana.WIDTH
        taken |= cells
    assert json.loads(json.dumps(grafana.board())) == grafana.board()


def test_a_query_of_what_is_not_measured_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="stoker_unheard_of_total"):
        promql.rate("stoker_unheard_of_total")
    with pytest.raises(ValueError, match="colour"):
        promql.rate("stoker_requests_total", ("colour",))
    with pytest.raises(ValueError, match="colour"):
        promql.select("stoker_requests_total", 'colour="red"')


def test_a_gauge_is_added_up_only_where_its_rule_says_so() -> None:
    assert promql.gauge("stoker_queue_depth", chosen=False).startswith("sum")
    assert promql.gauge("stoker_kv_cache_usage_ratio", chosen=False).startswith("max")


def test_every_alert_says_what_it_means_and_how_bad_it_is() -> None:
    alerts = rules.alerts()
    assert len({alert["alert"] for alert in alerts}) == len(alerts)
    for alert in alerts:
        assert alert["annotations"]["summary"]
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert re.fullmatch(r"\d+m", alert["for"])


def test_the_rules_and_the_scrape_configuration_are_yaml_as_prometheus_reads_it() -> None:
    made = [rules.groups(), scrape.config("gateway:8080", "127.0.0.1:8081", is_secure=True, ca_file="/ca.pem")]
    for value in made:
        assert yaml.safe_load(yaml.safe_dump(value, sort_keys=False)) == value
    gateways, control = made[1]["scrape_configs"]
    assert (gateways["scheme"], gateways["tls_config"]) == ("https", {"ca_file": "/ca.pem"})
    assert control["static_configs"] == [{"targets": ["127.0.0.1:8081"]}]
