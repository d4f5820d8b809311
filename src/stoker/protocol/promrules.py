"""An endpoint's objectives as rules for Prometheus: who has one already gets the same alerts from it.

Names are those that Sloth gives (`slo:sli_error:ratio_rate5m`). Rules that look shorter than a minute stay with
stoker: a scrape every 15 or 30 s cannot see them. The guard for quiet endpoints is BAD_MIN events in the long window.
"""

from typing import Any, Final

from stoker.core import slo
from stoker.core.slo import BAD_MIN, Rule
from stoker.protocol.openslo import duration, is_counted, judged_by, queries
from stoker.types.resources import Endpoint
from stoker.types.slos import Objective

SHORT_S_MIN: Final = 60.0


def rules(endpoint: Endpoint) -> dict[str, Any]:
    """Return the content of a rules file."""
    found = [each for each in slo.objectives(endpoint.spec.slos) if is_counted(each) or each.slices is not None]
    return {"groups": [_group(endpoint, objective) for objective in found]}


def _group(endpoint: Endpoint, objective: Objective) -> dict[str, Any]:
    name = f"{endpoint.metadata.project}-{endpoint.metadata.name}-{objective.name}"
    labels = {"sloth_id": name, "sloth_service": endpoint.metadata.name, "sloth_slo": objective.name}
    good, total = _slices(endpoint, objective) if objective.slices is not None else queries(endpoint, objective)
    used = [rule for rule in slo.rules_of(objective) if rule.short_s >= SHORT_S_MIN]
    by = _by(objective)
    lengths = sorted({length_s for rule in used for length_s in (rule.long_s, rule.short_s)})
    recorded = [
        {"record": f"slo:sli_error:ratio_rate{duration(length_s)}", "expr": f"1 - ({part} / {whole})", "labels": labels}
        for length_s in lengths
        for part, whole in [_summed("rate", (good, total), by, length_s)]
    ]
    alerts = [] if objective.alert == "none" else [_alert(name, objective, rule, (good, total)) for rule in used]
    return {"name": f"stoker-{name}", "rules": [*recorded, *alerts]}


def _slices(endpoint: Endpoint, objective: Objective) -> tuple[str, str]:
    """Return the counters of good and of all slices, which control has judged, as Prometheus selectors."""
    whose = judged_by(endpoint, objective)
    return f'stoker_slo_slices_total{{{whose},outcome="good"}}', f"stoker_slo_slices_total{{{whose}}}"


def _part_label(objective: Objective) -> str:
    """Return the label by which the parts of an objective that judges each are told apart."""
    if not objective.each:
        return ""
    return "slo" if objective.slices is not None else objective.each


def _by(objective: Objective) -> str:
    return f" by ({_part_label(objective)})" if objective.each else ""


def _summed(function: str, counted: tuple[str, str], by: str, length_s: float) -> tuple[str, str]:
    """Return good and all events in such a window. Prometheus has no line of good ones before the first: that is 0."""
    good, total = (f"sum{by}({function}({each}[{duration(length_s)}]))" for each in counted)
    return f"({good} or 0 * {total})", total


def _alert(name: str, objective: Objective, rule: Rule, counted: tuple[str, str]) -> dict[str, Any]:
    bound = f"{rule.fires_at(1 - objective.target):.9g}"
    over = " and ".join(
        f'slo:sli_error:ratio_rate{duration(length_s)}{{sloth_id="{name}"}} >= {bound}'
        for length_s in (rule.long_s, rule.short_s)
    )
    good, total = _summed("increase", counted, _by(objective), rule.long_s)
    severity = "ticket" if objective.alert == "ticket" else rule.severity
    owner = {"owner": objective.owner} if objective.owner else {}
    annotations = {"summary": f"{name} burns its error budget {rule.burn:g} times too fast"}
    if objective.runbook:
        annotations["runbook_url"] = objective.runbook
    return {
        "alert": "StokerSloBurn",
        "expr": f"({over}) and on ({_part_label(objective)}) ({total} - {good} >= {BAD_MIN})",
        "labels": {"severity": severity, "slo": objective.name, **owner},
        "annotations": annotations,
    }
