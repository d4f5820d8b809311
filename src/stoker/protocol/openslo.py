"""OpenSLO v1 documents of an endpoint's objectives, and objectives of OpenSLO documents.

What stoker measures needs no query language: the documents name stoker's own metrics, in Prometheus' language, so that
another tool can read the same numbers. Reading one back, the ratio must be of that form; what cannot be mapped is
refused with the reason, never guessed (github.com/OpenSLO/OpenSLO, v1).
"""

import json
from math import ceil, log2
from typing import Any, Final

from stoker.core import slo
from stoker.core.feedback import number_of
from stoker.protocol.promised import objective_problems
from stoker.types.errors import InvalidInput
from stoker.types.resources import Endpoint
from stoker.types.slos import EACH_MAX, TIMED, Objective, Part, Severity, Sli, Slices
from stoker.types.units import parse_seconds

API_VERSION: Final = "openslo/v1"
KINDS: Final = ("SLO", "AlertPolicy")
COUNTED: Final[tuple[Sli, ...]] = ("availability", "latency", "ttft", "inter_token")  # by two counters of Prometheus
_PREFIX: Final = "stoker.dev/"  # of annotations that say what OpenSLO has no word for
_SLIS: Final[dict[str, Sli]] = {each: each for each in slo.METRICS}
_NUMBERS: Final = ("at_least", "at_most")
_EXAMPLES: Final[dict[Sli, str]] = {
    "quality": "at_least: 0.8",
    "drift": "at_most: 0.2",
    "freshness": "under: 7d",
    "business": "at_least: 1",
}


def documents(endpoint: Endpoint) -> list[dict[str, Any]]:
    """Return a SLO and an AlertPolicy for each objective, promised or only tracked."""
    found: list[dict[str, Any]] = []
    for objective in slo.objectives(endpoint.spec.slos):
        found += [_slo(endpoint, objective), _policy(endpoint, objective)]
    return found


def is_one(document: Any) -> bool:
    """Return whether a decoded document claims to be OpenSLO."""
    return isinstance(document, dict) and str(document.get("apiVersion", "")).startswith("openslo/")


def objective(document: dict[str, Any]) -> tuple[str, Objective]:
    """Return the endpoint (`spec.service`) and the objective that a SLO document means. Raises InvalidInput."""
    name = _text(document, "metadata", "name")
    if document.get("apiVersion") != API_VERSION:
        raise InvalidInput(f"{name}: only {API_VERSION} is read, not {document.get('apiVersion')}", field="apiVersion")
    spec = document.get("spec")
    if not isinstance(spec, dict):
        raise InvalidInput(f"{name}: missing; a SLO has a spec", field="spec")
    service = _text(document, "spec", "service")
    annotations = annotations_of(document)
    sli = _SLIS.get(str(annotations.get(_PREFIX + "sli", "availability")))
    if sli is None:
        raise InvalidInput(
            f"{name}: {annotations[_PREFIX + 'sli']!r} is not measured; known: {', '.join(_SLIS)}",
            field="metadata.annotations",
        )
    _check_indicator(name, spec, annotations)
    made = Objective(
        name=name,
        sli=sli,
        target=_target(name, spec),
        tenant=str(annotations.get(_PREFIX + "tenant", "")),
        segment=str(annotations.get(_PREFIX + "segment", "")),
        each=_each(name, annotations),
        each_max=int(_number(name, annotations, "each_max") or EACH_MAX),
        under=annotations.get(_PREFIX + "under") if sli in TIMED else None,
        metric=str(annotations[_PREFIX + "metric"]) if _PREFIX + "metric" in annotations else None,
        at_least=_number(name, annotations, "at_least") if sli in ("quality", "business") else None,
        at_most=_number(name, annotations, "at_most") if sli in ("drift", "business") else None,
        window=_window(name, spec),
        slices=_slices(name, spec, annotations),
        alert=_alert(name, spec, annotations),
        owner=str(annotations.get(_PREFIX + "owner", "")),
        runbook=str(annotations.get(_PREFIX + "runbook", "")),
    )
    if sli != "availability" and (made.under, made.at_least, made.at_most) == (None, None, None):
        example = _EXAMPLES.get(sli, "under: 300ms")
        raise InvalidInput(
            f"{name}: a query cannot be run here; say which {sli} is good with the annotation {_PREFIX}{example}",
            field="metadata.annotations",
        )
    try:
        wrong = objective_problems((made,))
    except ValueError as unread:  # the field of a manifest would have been read by its unit before
        raise InvalidInput(f"{name}: {unread}", field="metadata.annotations") from unread
    if wrong:
        raise InvalidInput(f"{name}: {wrong[0][1]}", field=wrong[0][0].removeprefix("spec.slos[0]."))
    return service, made


def annotations_of(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document's annotations; none when they are no map."""
    metadata = document.get("metadata")
    found = metadata.get("annotations") if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) else {}


def _each(name: str, annotations: dict[str, Any]) -> Part:
    match annotations.get(_PREFIX + "each", ""):
        case "":
            return ""
        case "tenant":
            return "tenant"
        case "segment":
            return "segment"
        case other:
            raise InvalidInput(f"{name}: {other!r} is neither tenant nor segment", field="metadata.annotations")


def _alert(name: str, spec: dict[str, Any], annotations: dict[str, Any]) -> Severity:
    """Return how urgent it is: OpenSLO says whether somebody is told, an annotation that a ticket is enough."""
    if not spec.get("alertPolicies"):
        return "none"
    match annotations.get(_PREFIX + "alert", "page"):
        case "page":
            return "page"
        case "ticket":
            return "ticket"
        case other:
            raise InvalidInput(f"{name}: {other!r} is neither page nor ticket", field="metadata.annotations")


def _slo(endpoint: Endpoint, objective: Objective) -> dict[str, Any]:
    name = f"{endpoint.metadata.name}-{objective.name}"
    said = {_PREFIX + "sli": objective.sli, _PREFIX + "project": str(endpoint.metadata.project)}
    for field in ("tenant", "segment", "each", "metric", "under", *_NUMBERS, "owner", "runbook"):
        if getattr(objective, field) not in ("", None):
            said[_PREFIX + field] = str(getattr(objective, field))
    if objective.each:
        said[_PREFIX + "each_max"] = str(objective.each_max)
    if objective.slices is not None and objective.slices.mean:
        said[_PREFIX + "mean"] = "true"
    if objective.alert == "ticket":
        said[_PREFIX + "alert"] = objective.alert
    return {
        "apiVersion": API_VERSION,
        "kind": "SLO",
        "metadata": {"name": objective.name, "displayName": name, "annotations": said},
        "spec": {
            "service": endpoint.metadata.name,
            "indicator": {
                "metadata": {"name": name},
                "spec": {"ratioMetric": _ratio(endpoint, objective)},
            },
            "timeWindow": [{"duration": duration(parse_seconds(objective.window)), "isRolling": True}],
            "budgetingMethod": _method(objective.slices),
            "objectives": [{"displayName": objective.name, "target": objective.target, **_sliced(objective.slices)}],
            "alertPolicies": [] if objective.alert == "none" else [f"{name}-burn"],
        },
    }


def _policy(endpoint: Endpoint, objective: Objective) -> dict[str, Any]:
    """Return the rules as conditions. OpenSLO has one window each; the long one is said."""
    name = f"{endpoint.metadata.name}-{objective.name}"
    allowed = 1 - objective.target
    return {
        "apiVersion": API_VERSION,
        "kind": "AlertPolicy",
        "metadata": {"name": f"{name}-burn"},
        "spec": {
            "description": f"{name} burns its error budget",
            "conditions": [
                {
                    "kind": "AlertCondition",
                    "metadata": {"name": f"{name}-{rule.name}"},
                    "spec": {
                        "severity": rule.severity,
                        "condition": {
                            "kind": "burnrate",
                            "op": "gte",
                            "threshold": float(f"{rule.fires_at(allowed) / allowed:.6g}"),
                            "lookbackWindow": duration(rule.long_s),
                            "alertAfter": "0m",
                        },
                    },
                }
                for rule in slo.rules_of(objective)
            ],
            "notificationTargets": [],
        },
    }


def _ratio(endpoint: Endpoint, objective: Objective) -> dict[str, Any]:
    """Return what is measured: two counters, or, where no two of them say it, the share that control has judged."""
    if is_counted(objective):
        by = f" by ({objective.each})" if objective.each else ""
        good, total = (_metric(f"sum{by}({each})") for each in queries(endpoint, objective))
        return {"counter": True, "good": good, "total": total}
    left = f"stoker_slo_budget_left_ratio{{{judged_by(endpoint, objective)}}}"
    if objective.each:
        left = f"min({left})"  # of all parts the one that is worst off
    return {
        "counter": False,
        "rawType": "success",
        "raw": _metric(f"1 - (1 - {left}) * {1 - objective.target:.9g}"),
    }


def is_counted(objective: Objective) -> bool:
    """Return whether two counters of Prometheus say which events are good."""
    return objective.sli in COUNTED and not (objective.slices is not None and objective.slices.mean)


def judged_by(endpoint: Endpoint, objective: Objective) -> str:
    """Return the labels of what control has judged of an objective, or of all its parts."""
    slos = f'slo=~"{objective.name}/.+"' if objective.each else f'slo="{objective.name}"'
    return f'project="{endpoint.metadata.project}",endpoint="{endpoint.metadata.name}",{slos}'


def queries(endpoint: Endpoint, objective: Objective) -> tuple[str, str]:
    """Return the counters of good and of all events as Prometheus selectors, of an objective of COUNTED."""
    whose = f'project="{endpoint.metadata.project}",endpoint="{endpoint.metadata.name}"'
    metric = slo.counted(objective)
    if objective.tenant:
        whose = f"{whose},tenant={json.dumps(objective.tenant)}"
    if objective.sli == "availability":
        return f'{metric}{{{whose},outcome="good"}}', f"{metric}{{{whose}}}"
    assert objective.under is not None  # the manifest was checked
    # `/metrics` shows the buckets that end at powers of two: the next one is meant, which may count more as good.
    bound = 2.0 ** ceil(log2(parse_seconds(objective.under)))
    shown = f"{bound:.0f}" if bound >= 1 else repr(bound)
    return f'{metric}_bucket{{{whose},le="{shown}"}}', f"{metric}_count{{{whose}}}"


def _method(slices: Slices | None) -> str:
    if slices is None:
        return "Occurrences"
    return "RatioTimeslices" if slices.target is None and not slices.mean else "Timeslices"


def _sliced(slices: Slices | None) -> dict[str, Any]:
    """Return what an objective says of its slices."""
    if slices is None:
        return {}
    said: dict[str, Any] = {"timeSliceWindow": duration(parse_seconds(slices.length))}
    target = 1.0 if slices.mean else slices.target
    return said if target is None else {"timeSliceTarget": target, **said}


def _slices(name: str, spec: dict[str, Any], annotations: dict[str, Any]) -> Slices | None:
    method, one = spec.get("budgetingMethod", "Occurrences"), spec["objectives"][0]
    if method not in ("Occurrences", "Timeslices", "RatioTimeslices"):
        raise InvalidInput(f"{name}: {method!r} is no budgeting method of OpenSLO", field="spec.budgetingMethod")
    if method == "Occurrences":
        return None
    target, length = one.get("timeSliceTarget"), one.get("timeSliceWindow")
    if method == "RatioTimeslices":
        target = None
    elif not isinstance(target, int | float) or not 0 < target <= 1:
        raise InvalidInput(
            f"{name}: timeSliceTarget is a share over 0 and up to 1, not {target!r}", field="spec.objectives"
        )
    if not isinstance(length, str):  # the specification allows a bare number, and does not say of what
        raise InvalidInput(f"{name}: timeSliceWindow is a time such as 1m, not {length!r}", field="spec.objectives")
    is_mean = str(annotations.get(_PREFIX + "mean", "")).lower() == "true"
    return Slices(length, None if target is None or is_mean else float(target), is_mean)


def _number(name: str, annotations: dict[str, Any], field: str) -> float | None:
    given = annotations.get(_PREFIX + field)
    if given is None:
        return None
    number = number_of(given) if isinstance(given, str | int | float) else None
    if number is None:
        raise InvalidInput(
            f"{name}: {_PREFIX}{field} is a number such as 0.8, not {given!r}", field="metadata.annotations"
        )
    return number


def _metric(query: str) -> dict[str, Any]:
    return {"metricSource": {"type": "Prometheus", "spec": {"query": query}}}


def _check_indicator(name: str, spec: dict[str, Any], annotations: dict[str, Any]) -> None:
    indicator = spec.get("indicator")
    inner = indicator.get("spec", {}) if isinstance(indicator, dict) else {}
    if "thresholdMetric" in inner:
        raise InvalidInput(
            f"{name}: a thresholdMetric cannot be mapped: stoker counts events; use ratioMetric", field="spec.indicator"
        )
    is_ours = "stoker_" in str(inner.get("ratioMetric", "")) or _PREFIX + "sli" in annotations
    if not is_ours:
        raise InvalidInput(
            f"{name}: its query cannot be run here: stoker measures its own endpoints; name what it means with the "
            f"annotation {_PREFIX}sli: {' or '.join(_SLIS)}",
            field="spec.indicator",
        )


def _target(name: str, spec: dict[str, Any]) -> float:
    given = spec.get("objectives")
    if not isinstance(given, list) or len(given) != 1 or not isinstance(given[0], dict):
        raise InvalidInput(f"{name}: exactly one objective can be mapped", field="spec.objectives")
    one = given[0]
    if "compositeWeight" in one or "indicator" in one:
        raise InvalidInput(f"{name}: a composite objective cannot be mapped", field="spec.objectives")
    percent = one.get("targetPercent")
    target = one.get("target", percent / 100 if isinstance(percent, int | float) else None)
    if not isinstance(target, int | float) or not 0 < target < 1:
        raise InvalidInput(f"{name}: target is a share between 0 and 1, not {target!r}", field="spec.objectives")
    return float(target)


def _window(name: str, spec: dict[str, Any]) -> str:
    given = spec.get("timeWindow")
    first = given[0] if isinstance(given, list) and len(given) == 1 and isinstance(given[0], dict) else None
    if first is None or "calendar" in first or first.get("isRolling") is False:
        raise InvalidInput(f"{name}: only one rolling window can be mapped", field="spec.timeWindow")
    given_text = str(first.get("duration", ""))
    factor = {"w": 7, "M": 30, "Q": 90}.get(given_text[-1:])
    if factor is not None and given_text[:-1].isdigit():
        return f"{int(given_text[:-1]) * factor}d"
    try:
        parse_seconds(given_text)
    except ValueError as wrong:
        raise InvalidInput(f"{name}: {wrong}", field="spec.timeWindow") from wrong
    return given_text


def _text(document: dict[str, Any], part: str, field: str) -> str:
    inner = document.get(part)
    value = inner.get(field) if isinstance(inner, dict) else None
    if not isinstance(value, str) or not value:
        raise InvalidInput("missing", field=f"{part}.{field}")
    return value


def duration(seconds: float) -> str:
    """Return a time as OpenSLO and Prometheus write it: `5m`, `6h`, `30d`."""
    for size, unit in ((86_400.0, "d"), (3600.0, "h"), (60.0, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"
