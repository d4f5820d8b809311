"""Snapshots as OTLP says them: one ExportMetricsServiceRequest in JSON, histograms as exponential ones of scale 3.

Cumulative since each process' start, one resource a process: a batch that is lost loses no count, and the next says
the same and more. Source: opentelemetry-proto 1.x, metrics/v1; JSON as its specification maps it (64-bit numbers are
strings).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from stoker.telemetry.catalogue import BY_NAME
from stoker.telemetry.histogram import INDEX_MIN, SCHEMA, Distribution
from stoker.telemetry.snapshot import MetricValues, Series, Snapshot
from stoker.telemetry.views import View, seen_as

CUMULATIVE: Final = 2
_UNITS: Final = {"seconds": "s", "bytes": "By", "tokens": "{token}", "rows": "{row}", "ratio": "1", "": "1"}


def encode(snapshots: Iterable[Snapshot], version: str, host: str, views: Sequence[View] = ()) -> bytes:
    """Return the request's body. `version` is stoker's, `host` the machine's name."""
    resources = [_resource(snapshot, version, host, views) for snapshot in snapshots]
    return msgspec.json.encode({"resourceMetrics": resources})


def _resource(snapshot: Snapshot, version: str, host: str, views: Sequence[View]) -> dict[str, Any]:
    at = _nano(snapshot.taken_at_s)
    start = _nano(snapshot.total("process_start_time_seconds"))
    who = {
        "service.name": "stoker",
        "service.instance.id": snapshot.process,
        "service.version": version,
        "host.name": host,
    }
    shown = {view.name: view.source for view in views}
    metrics = [
        _metric(metric, shown.get(metric.name, metric.name), start, at)
        for metric in (*snapshot.metrics, *seen_as(snapshot, views).metrics)
    ]
    return {
        "resource": {"attributes": _attributes(who.keys(), who.values())},
        "scopeMetrics": [{"scope": {"name": "stoker", "version": version}, "metrics": metrics}],
    }


def _metric(metric: MetricValues, source: str, start: str, at: str) -> dict[str, Any]:
    known = BY_NAME.get(source)
    described = {
        "name": metric.name,
        "description": known.meaning if known is not None else "",
        "unit": _UNITS[known.unit] if known is not None else "1",
    }
    points = [_point(metric, series, start, at) for series in metric.series]
    if metric.kind == "gauge":
        return {**described, "gauge": {"dataPoints": points}}
    if metric.kind == "counter":
        total = {"dataPoints": points, "aggregationTemporality": CUMULATIVE, "isMonotonic": True}
        return {**described, "sum": total}
    return {**described, "exponentialHistogram": {"dataPoints": points, "aggregationTemporality": CUMULATIVE}}


def _point(metric: MetricValues, series: Series, start: str, at: str) -> dict[str, Any]:
    point: dict[str, Any] = {"attributes": _attributes(metric.labels, series.labels), "timeUnixNano": at}
    if metric.kind == "gauge":
        return {**point, "asDouble": series.value}
    point["startTimeUnixNano"] = start
    if metric.kind == "counter":
        return {**point, "asDouble": series.value}
    return {**point, **_buckets(series.distribution), "exemplars": _exemplars(series.distribution)}


def _buckets(distribution: Distribution) -> dict[str, Any]:
    """Return the counts. Our bucket i ends at 2^(i/8), theirs begins there: theirs is one less."""
    above = {index: held for index, held in distribution.buckets.items() if index != INDEX_MIN}
    first, last = min(above, default=0), max(above, default=-1)
    return {
        "count": str(distribution.count),
        "sum": distribution.sum,
        "scale": SCHEMA,
        "zeroCount": str(distribution.buckets.get(INDEX_MIN, 0)),
        "zeroThreshold": 2.0 ** (INDEX_MIN / 8),
        "positive": {
            "offset": first - 1,
            "bucketCounts": [str(above.get(index, 0)) for index in range(first, last + 1)],
        },
    }


def _exemplars(distribution: Distribution) -> list[dict[str, Any]]:
    return [
        {"timeUnixNano": _nano(each.at_s), "asDouble": each.value, "traceId": each.trace, "spanId": each.span}
        for each in distribution.traced.values()
    ]


def _attributes(names: Iterable[str], values: Iterable[str]) -> list[dict[str, Any]]:
    return [{"key": name, "value": {"stringValue": value}} for name, value in zip(names, values, strict=True) if value]


def _nano(seconds: float) -> str:
    return str(round(seconds * 1e6) * 1000)  # a microsecond is what a float has here
