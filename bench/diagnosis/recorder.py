"""What the simulated endpoint measures: the platform's own metrics, kept in steps like the platform's history."""

from collections.abc import Mapping, Sequence

from stoker.core.diagnose.onset import Point
from stoker.core.diagnose.window import Change
from stoker.observe.incidents.compared import Site, point
from stoker.telemetry.catalogue import BY_NAME
from stoker.telemetry.histogram import Histogram
from stoker.telemetry.snapshot import MetricValues, Series, Snapshot, subtract

PROJECT, ENDPOINT = "default", "sim"
STEP_S = 60.0
_WHOSE = {"project": PROJECT, "endpoint": ENDPOINT}

Labels = tuple[tuple[str, str], ...]


class Recorder:
    """Counts what the catalogue has, and keeps a snapshot a step. Evidence for observe/incidents/explain.py."""

    fine_s = STEP_S

    def __init__(self) -> None:
        self.counters: dict[tuple[str, Labels], float] = {}
        self.histograms: dict[tuple[str, Labels], Histogram] = {}
        self._gauges: dict[tuple[str, Labels], list[float]] = {}  # sum and count since the last step
        self._steps: list[tuple[Snapshot, Snapshot]] = []  # what was counted until then; the step's mean gauges
        self.changes: list[Change] = []
        self.nodes: dict[str, str] = {}
        self.is_remote = False  # the engine of every revision is a server elsewhere

    def count(self, name: str, by: float = 1.0, **labels: str) -> None:
        key = name, tuple(labels.items())
        self.counters[key] = self.counters.get(key, 0.0) + by

    def observe(self, name: str, value: float, **labels: str) -> None:
        key = name, tuple(labels.items())
        held = self.histograms.get(key)
        if held is None:
            held = self.histograms[key] = Histogram()
        held.observe(value)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        held = self._gauges.setdefault((name, tuple(labels.items())), [0.0, 0.0])
        held[0] += value
        held[1] += 1

    def step(self, now_s: float) -> None:
        """End a step: call it every STEP_S."""
        values = {key: Series((), value) for key, value in self.counters.items()}
        values |= {key: Series((), 0.0, each.read()) for key, each in self.histograms.items()}
        kinds = {key: "histogram" if key in self.histograms else "counter" for key in values}
        means = {key: Series((), total / count) for key, (total, count) in self._gauges.items()}
        self._gauges.clear()
        self._steps.append((_snapshot(now_s, values, kinds), _snapshot(now_s, means, dict.fromkeys(means, "gauge"))))

    async def change(self, project: str, endpoint: str, start_s: float, end_s: float) -> Snapshot:
        """See observe.explain.Evidence."""
        first, last = round(start_s / STEP_S), round(end_s / STEP_S)
        counted = subtract(self._at(last), self._at(first))
        gauges = _mean([each for _, each in self._steps[first:last]])
        return Snapshot("", end_s, counted.metrics + gauges)

    async def points(self, project: str, endpoint: str, start_s: float, end_s: float, step_s: float) -> Sequence[Point]:
        """See observe.explain.Evidence."""
        steps = range(round((end_s - start_s) / step_s))
        starts = [start_s + step_s * number for number in steps]
        return [point(await self.change(project, endpoint, at_s, at_s + step_s), project, endpoint, at_s)
                for at_s in starts]  # fmt: skip

    def _at(self, step: int) -> Snapshot:
        return self._steps[step - 1][0] if 0 < step <= len(self._steps) else Snapshot("", step * STEP_S)

    async def changes_of(self, project: str, endpoint: str, start_s: float, end_s: float) -> Sequence[Change]:
        """See observe.explain.Evidence."""
        return [each for each in self.changes if start_s <= each.at_s <= end_s]

    async def site(self, project: str, endpoint: str) -> Site:
        """See observe.explain.Evidence."""
        revisions = frozenset(replica.rpartition("-")[0] for replica in self.nodes)
        return Site(self.nodes, revisions if self.is_remote else frozenset())


def _snapshot(now_s: float, values: Mapping[tuple[str, Labels], Series], kinds: Mapping) -> Snapshot:
    grouped: dict[tuple[str, tuple[str, ...]], list] = {}
    for (name, labels), series in values.items():
        known, every = BY_NAME[name], {**_WHOSE, **dict(labels)}
        if known.kind != kinds[name, labels] or not dict(labels).keys() <= set(known.labels):
            raise ValueError(f"{name} with {dict(labels)} is not what the catalogue has")
        one = Series(tuple(every.get(label, "") for label in known.labels), series.value, series.distribution)
        grouped.setdefault((name, known.labels), []).append((known.kind, one))
    metrics = (
        MetricValues(name, held[0][0], labels, tuple(one for _, one in held))
        for (name, labels), held in grouped.items()
    )
    return Snapshot("", now_s, tuple(metrics))


def _mean(snapshots: Sequence[Snapshot]) -> tuple[MetricValues, ...]:
    found: dict[tuple[str, tuple[str, ...]], dict[tuple[str, ...], list[float]]] = {}
    for snapshot in snapshots:
        for metric in snapshot.metrics:
            held = found.setdefault((metric.name, metric.labels), {})
            for series in metric.series:
                held.setdefault(series.labels, []).append(series.value)
    return tuple(
        MetricValues(name, "gauge", names, tuple(Series(key, sum(each) / len(each)) for key, each in held.items()))
        for (name, names), held in found.items()
    )
