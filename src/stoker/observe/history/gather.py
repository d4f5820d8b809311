"""Several metrics of one stretch of the history as snapshots, one a step: what a diagnosis compares.

A snapshot holds what counters and histograms gained in its step and the means of gauges, each series with the labels of
the catalogue, so that it is read with the same code as what a process says of itself.
"""

import logging
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from math import gcd
from typing import Final

from stoker.observe.history.points import Course, Point, add, decode
from stoker.observe.history.reading import Index, Reader, tick
from stoker.observe.port import Selector, Series
from stoker.telemetry.catalogue import BY_NAME
from stoker.telemetry.histogram import Distribution
from stoker.telemetry.snapshot import MetricValues, Snapshot
from stoker.telemetry.snapshot import Series as Values
from stoker.types.errors import InvalidInput

STEPS_MAX: Final = 500

log = logging.getLogger(__name__)


def snapshots(reader: Reader, index: Index, selectors: Sequence[Selector], edges_s: Sequence[float]) -> list[Snapshot]:
    """See port.Questions.snapshots."""
    if not 2 <= len(edges_s) <= STEPS_MAX + 1:
        raise InvalidInput(f"{len(edges_s) - 1} steps; between 1 and {STEPS_MAX} are read at once")
    edges = [tick(each) for each in edges_s]
    if any(first >= second for first, second in pairwise(edges)):
        raise InvalidInput("the edges of steps rise, by at least 5 s each")
    # Of one series in 400 days there may be many (a replica each deploy); what had no rows meanwhile costs nothing.
    chosen = [series for each in selectors for series in index.every(each)]
    grain_s = gcd(*(second - first for first, second in pairwise(edges)))
    if len(edges) == 2:
        grain_s = edges[1] - edges[0]
    steps: list[dict[Series, Point]] = [{} for _ in edges[1:]]
    for series, rows in reader.rows(chosen, edges[0], edges[-1], grain_s).items():
        for row in rows:
            at = bisect_left(edges, row.end_s) - 1
            if not 0 <= at < len(steps):
                continue
            try:
                point = decode(series.kind, row.value, row.body)
            except ValueError as odd:
                log.error("a row of metrics.db is left out", extra={"reason": str(odd)})
                continue
            held = steps[at].get(series)
            steps[at][series] = point if held is None else add(held, point)
    return [_snapshot(found, end_s) for found, end_s in zip(steps, edges[1:], strict=True)]


def _snapshot(found: dict[Series, Point], end_s: int) -> Snapshot:
    metrics: dict[str, list[tuple[Series, Values]]] = {}
    for series, point in found.items():
        known = BY_NAME.get(series.metric)
        if known is None or known.kind != series.kind:
            continue  # of another stoker
        labels = tuple(series.label(name) for name in known.labels)
        metrics.setdefault(series.metric, []).append((series, _values(labels, point)))
    return Snapshot(
        "",
        float(end_s),
        tuple(
            MetricValues(name, BY_NAME[name].kind, BY_NAME[name].labels, tuple(one for _, one in held))
            for name, held in metrics.items()
        ),
    )


def _values(labels: tuple[str, ...], point: Point) -> Values:
    if isinstance(point, Distribution):
        return Values(labels, 0.0, point)
    return Values(labels, point.mean if isinstance(point, Course) else point)
