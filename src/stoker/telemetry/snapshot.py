"""The numbers of one process at one moment, as a value: sent between processes, merged, subtracted, asked."""

from collections.abc import Iterable

import msgspec

from stoker.telemetry.catalogue import MergeRule, MetricKind
from stoker.telemetry.histogram import Distribution, merge_distributions


class Series(msgspec.Struct, frozen=True, array_like=True):
    """One labelled line of a metric. `labels` are values, in the order of the metric's label names."""

    labels: tuple[str, ...]
    value: float = 0.0  # counters and gauges
    distribution: Distribution = Distribution()  # histograms


class MetricValues(msgspec.Struct, frozen=True, omit_defaults=True):
    """All series of one metric; complete in itself, so that processes of two versions understand each other."""

    name: str
    kind: MetricKind
    labels: tuple[str, ...]
    series: tuple[Series, ...]
    merge: MergeRule = "sum"  # of a gauge


class Snapshot(msgspec.Struct, frozen=True):
    """Every metric of a process. `taken_at_s` is unix time."""

    process: str
    taken_at_s: float
    metrics: tuple[MetricValues, ...] = ()

    def total(self, name: str, **labels: str) -> float:
        """Return the sum over the series of counter or gauge `name` whose labels include `labels`."""
        return sum(series.value for series in self.matching(name, **labels))

    def distribution(self, name: str, **labels: str) -> Distribution:
        """Return the merged distribution of the series of histogram `name` whose labels include `labels`."""
        return merge_distributions(series.distribution for series in self.matching(name, **labels))

    def matching(self, name: str, **labels: str) -> list[Series]:
        """Return the series of `name` whose labels include `labels`; none for a metric or label it does not know."""
        for metric in self.metrics:
            if metric.name == name:
                wanted = [
                    (metric.labels.index(label), value) for label, value in labels.items() if label in metric.labels
                ]
                if len(wanted) < len(labels):
                    return []
                return [one for one in metric.series if all(one.labels[at] == value for at, value in wanted)]
        return []

    def values_of(self, name: str, label: str) -> list[str]:
        """Return the values that `label` has in the series of `name`, sorted."""
        for metric in self.metrics:
            if metric.name == name and label in metric.labels:
                at = metric.labels.index(label)
                return sorted({series.labels[at] for series in metric.series})
        return []


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Snapshot).decode


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Return `snapshot` as msgpack."""
    return _encode(snapshot)


def decode_snapshot(data: bytes) -> Snapshot:
    """Return the snapshot in `data`. Raises ValueError when it is none."""
    try:
        return _decode(data)
    except msgspec.DecodeError as broken:
        raise ValueError(f"not a snapshot: {broken}") from broken


def merge(snapshots: Iterable[Snapshot], *, process: str = "") -> Snapshot:
    """Return one snapshot that counts what all `snapshots` count; gauges as their rule says. The newest time is kept.

    A metric whose kind or labels differ between processes (of two versions) is kept apart.
    """
    taken_at_s = 0.0
    found: dict[tuple[str, MetricKind, tuple[str, ...]], tuple[MergeRule, dict[tuple[str, ...], list[_Dated]]]] = {}
    for snapshot in snapshots:
        taken_at_s = max(taken_at_s, snapshot.taken_at_s)
        for metric in snapshot.metrics:
            _, grouped = found.setdefault((metric.name, metric.kind, metric.labels), (metric.merge, {}))
            for one in metric.series:
                grouped.setdefault(one.labels, []).append((snapshot.taken_at_s, one))
    return Snapshot(
        process,
        taken_at_s,
        tuple(
            MetricValues(name, kind, labels, tuple(_fold(kind, rule, group) for group in grouped.values()), rule)
            for (name, kind, labels), (rule, grouped) in found.items()
        ),
    )


_Dated = tuple[float, Series]  # and when its snapshot was taken


def _fold(kind: MetricKind, rule: MergeRule, group: list[_Dated]) -> Series:
    _, first = group[0]
    if len(group) == 1:
        return first
    if kind == "histogram":
        return Series(first.labels, 0.0, merge_distributions(one.distribution for _, one in group))
    if kind == "gauge" and rule == "last":
        return max(group, key=lambda dated: dated[0])[1]
    if kind == "gauge" and rule == "max":
        return max((one for _, one in group), key=lambda one: one.value)
    return Series(first.labels, sum(one.value for _, one in group))


def subtract(newer: Snapshot, older: Snapshot) -> Snapshot:
    """Return what happened between two snapshots of the same processes; gauges are those of `newer`.

    A counter that went down started again meanwhile (its process died) and counts from zero.
    """
    before = {
        (metric.name, series.labels): series
        for metric in older.metrics
        if metric.kind != "gauge"
        for series in metric.series
    }

    def change(name: str, now: Series) -> Series:
        then = before.get((name, now.labels))
        if then is None:
            return now
        value = now.value - then.value if now.value >= then.value else now.value
        return Series(now.labels, value, now.distribution.minus(then.distribution))

    return Snapshot(
        newer.process,
        newer.taken_at_s,
        tuple(
            MetricValues(
                metric.name,
                metric.kind,
                metric.labels,
                tuple(change(metric.name, series) for series in metric.series),
                metric.merge,
            )
            for metric in newer.metrics
        ),
    )
