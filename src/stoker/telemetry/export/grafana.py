"""A Grafana board of the catalogue: what an operator looks at first, then every other metric in a row of its own.

Titles are ours; what a panel says of itself, and its unit, are the catalogue's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from stoker.telemetry.catalogue import METRICS, Metric
from stoker.telemetry.export import promql

UID: Final = "stoker"
SCHEMA_VERSION: Final = 39  # of Grafana 10 and later
WIDTH: Final = 24
HEIGHT: Final = 8
_ACROSS: Final = 3
_UNITS: Final = {
    "seconds": "s",
    "bytes": "bytes",
    "ratio": "percentunit",
    "tokens": "short",
    "rows": "short",
    "": "short",
}
_WHO: Final = ("project", "endpoint")


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `queries` are (expression, legend); `about` is the metric whose unit and meaning it shows."""

    title: str
    about: str
    queries: tuple[tuple[str, str], ...]
    unit: str = ""  # "": that of the metric


def _lines(title: str, name: str, by: tuple[str, ...] = _WHO, where: str = "") -> Panel:
    """Show a counter's rate, a gauge, or the quantiles of a histogram."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by) or title
    known = promql.metric(name)
    if known.kind == "counter":
        unit = "reqps" if not known.unit else ("percentunit" if known.unit == "seconds" else "")
        return Panel(title, name, ((promql.rate(name, by, where), legend),), unit)
    if known.kind == "gauge":
        return Panel(title, name, ((promql.gauge(name, by, where), legend),))
    shown = tuple((promql.quantile(q, name, by, where), f"{legend} p{q * 100:g}") for q in (0.5, 0.99))
    return Panel(title, name, shown)


def _ratio(title: str, name: str, where: str, of: str, by: tuple[str, ...] = _WHO) -> Panel:
    legend = " ".join(f"{{{{{label}}}}}" for label in by)
    return Panel(title, name, ((f"{promql.rate(name, by, where)} / {of}", legend),), "percentunit")


def rows() -> dict[str, tuple[Panel, ...]]:
    """Return the rows that were thought about, by title."""
    return {
        "Overview": _overview(),
        "Endpoint": _endpoint(),
        "Language models": _models(),
        "Replicas": _replicas(),
        "Processes": _processes(),
    }


def _overview() -> tuple[Panel, ...]:
    requests = promql.rate("stoker_requests_total", _WHO)
    return (
        _lines("Requests", "stoker_requests_total"),
        _ratio("Errors of ours", "stoker_requests_total", 'code=~"5.."', requests),
        _lines("Duration", "stoker_request_duration_seconds"),
        _lines("Waiting", "stoker_queue_depth"),
        _lines("In replicas", "stoker_in_flight"),
        _lines("Replicas ready", "stoker_replicas_ready"),
    )


def _endpoint() -> tuple[Panel, ...]:
    return (
        Panel(
            "Where the time goes",
            "stoker_request_phase_seconds",
            ((promql.mean("stoker_request_phase_seconds", ("phase",)), "{{phase}}"),),
        ),
        _lines("Refused", "stoker_refused_total", ("endpoint", "reason")),
        _lines("Retries", "stoker_retries_total", ("endpoint", "reason")),
        _lines("Hedges", "stoker_hedges_total", ("endpoint", "outcome")),
        _ratio(
            "Kept answers",
            "stoker_cache_hits_total",
            "",
            f"({promql.rate('stoker_cache_hits_total', _WHO)} + {promql.rate('stoker_cache_misses_total', _WHO)})",
        ),
        _lines("Rows in an engine call", "stoker_batch_rows"),
        _lines("Busiest tenants", "stoker_tenant_requests_total", ("endpoint", "tenant")),
        _lines("Waiting, by tenant", "stoker_tenant_queue_wait_seconds", ("endpoint", "tenant")),
        _lines("Asked again by clients", "stoker_client_retries_total"),
    )


def _models() -> tuple[Panel, ...]:
    return (
        _lines("Time to first token", "stoker_time_to_first_token_seconds"),
        _lines("Between tokens", "stoker_inter_token_latency_seconds"),
        _lines("Tokens a second", "stoker_tokens_total", ("endpoint", "kind")),
        _lines("Prompts", "stoker_prompt_tokens"),
        _lines("Answers", "stoker_output_tokens"),
        _lines("Key-value cache", "stoker_kv_cache_usage_ratio", ("endpoint", "replica")),
        _ratio(
            "Prompt tokens from the cache",
            "stoker_tokens_total",
            'kind="cached"',
            promql.rate("stoker_tokens_total", _WHO, 'kind="input"'),
        ),
        _ratio(
            "Guessed tokens that held",
            "stoker_speculative_tokens_total",
            'outcome="accepted"',
            promql.rate("stoker_speculative_tokens_total", _WHO),
        ),
        _lines("Streams cut", "stoker_migrations_total", ("endpoint", "outcome")),
    )


def _replicas() -> tuple[Panel, ...]:
    return (
        _lines("Requests", "stoker_replica_requests_total", ("replica", "code")),
        _lines("Duration", "stoker_replica_request_duration_seconds", ("replica",)),
        _lines("Waiting for the engine", "stoker_engine_queue_depth", ("replica",)),
        _lines("Running in the engine", "stoker_engine_running", ("replica",)),
        _lines("Replicas by phase", "stoker_replicas", ("endpoint", "phase")),
        _lines("Restarts", "stoker_restarts_total", ("endpoint", "kind", "reason")),
        _lines("Asked for while none was ready", "stoker_cold_requests_total"),
        _lines("Cold starts", "stoker_cold_start_seconds", ("endpoint", "phase")),
        _lines("Out of rotation", "stoker_ejections_total", ("endpoint", "reason")),
        _lines("GPU at work", "stoker_gpu_utilization_ratio", ("node", "gpu")),
        _lines("GPU memory", "stoker_gpu_memory_used_bytes", ("node", "gpu")),
    )


def _processes() -> tuple[Panel, ...]:
    return (
        _lines("Processor", "process_cpu_seconds_total", ("process",)),
        _lines("Memory", "process_resident_memory_bytes", ("process",)),
        _lines("Lag of the event loop", "stoker_event_loop_lag_seconds", ("process",)),
        _lines("File descriptors", "process_open_fds", ("process",)),
        _lines("Processors in use", "stoker_node_cpu_ratio", ("node",)),
        _lines("Waiting for a core", "stoker_node_cpu_pressure_ratio", ("node",)),
        _lines("Memory left", "stoker_node_memory_free_bytes", ("node",)),
        _lines("Disk left", "stoker_node_disk_free_bytes", ("node",)),
        _lines("Loop of control", "stoker_loop_seconds", ()),
    )


def others(shown: dict[str, tuple[Panel, ...]]) -> tuple[Panel, ...]:
    """Return a panel for each metric that is on no other."""
    known = {panel.about for panels in shown.values() for panel in panels}
    return tuple(_lines(metric.name, metric.name, _by(metric)) for metric in METRICS if metric.name not in known)


def board() -> dict[str, Any]:
    """Return the board, as Grafana imports it."""
    shown = rows()
    panels = list(_placed({**shown, "Everything else": others(shown)}))
    return {
        "uid": UID,
        "title": "stoker",
        "tags": ["stoker"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source(), _variable("project", ""), _variable("endpoint", 'project=~"$project"')]},
        "panels": panels,
    }


def _by(metric: Metric) -> tuple[str, ...]:
    return tuple(label for label in metric.labels if label not in ("project", "revision"))[:3]


def _placed(shown: dict[str, tuple[Panel, ...]]) -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for title, panels in shown.items():
        is_last = title == "Everything else"
        number += 1
        row: dict[str, Any] = {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": is_last,
            "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
            "panels": [],
        }
        top += 1
        made = []
        for at, panel in enumerate(panels):
            number += 1
            x, y = at % _ACROSS * (WIDTH // _ACROSS), top + at // _ACROSS * HEIGHT
            made.append(_panel(panel, number, {"x": x, "y": y, "w": WIDTH // _ACROSS, "h": HEIGHT}))
        top += -(-len(panels) // _ACROSS) * HEIGHT
        if is_last:
            row["panels"] = made
            yield row
        else:
            yield row
            yield from made


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    known = promql.metric(panel.about)
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": f"{known.meaning} ({known.name})",
        "gridPos": place,
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": panel.unit or _UNITS[known.unit], "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": source, "expr": expression, "legendFormat": legend}
            for at, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variable(label: str, where: str) -> dict[str, Any]:
    query = f"label_values({promql.select('stoker_requests_total', where)}, {label})"
    return {
        "name": label,
        "label": label,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "query": {"query": query, "refId": label},
        "definition": query,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }
