"""The numbers of one process at one moment, as a value: sent between processes, merged, subtracted, asked."""

from collections.abc import Callable, Iterable

import msgspec

from stoker.telemetry.catalogue import MetricKind
from stoker.telemetry.histogram import Distribution, merge_distributions


class Series(msgspec.Struct, frozen=True, array_like=True):
    """One labelled line of a metric. `labels` are values, in the order of the metric's label names."""

    labels: tuple[str, ...]
    value: float = 0.0  # counters and gauges
    distribution: Distribution = Distribution()  # histograms


class MetricValues(msgspec.Struct, frozen=True):
    """All series of one metric; complete in itself, so that processes of two versions understand each other."""

    name: str
    kind: MetricKind
    labels: tuple[str, ...]
    series: tuple[Series, ...]


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


def _combine(
    kind: MetricKind, series: Iterable[Series], fold: Callable[[MetricKind, list[Series]], Series]
) -> tuple[Series, ...]:
    grouped: dict[tuple[str, ...], list[Series]] = {}
    for one in series:
        grouped.setdefault(one.labels, []).append(one)
    return tuple(fold(kind, group) for group in grouped.values())


def _sum(kind: MetricKind, group: list[Series]) -> Series:
    if len(group) == 1:
        return group[0]
    if kind == "histogram":
        return Series(group[0].labels, 0.0, merge_distributions(one.distribution for one in group))
    return Series(group[0].labels, sum(one.value for one in group))


def merge(snapshots: Iterable[Snapshot], *, process: str = "") -> Snapshot:
    """Return one snapshot that counts what all `snapshots` count; gauges add up too. The newest time is kept.

    A metric whose kind or labels differ between processes (of two versions) is kept apart.
    """
    taken_at_s = 0.0
    grouped: dict[tuple[str, MetricKind, tuple[str, ...]], list[Series]] = {}
    for snapshot in snapshots:
        taken_at_s = max(taken_at_s, snapshot.taken_at_s)
        for metric in snapshot.metrics:
            grouped.setdefault((metric.name, metric.kind, metric.labels), []).extend(metric.series)
    return Snapshot(
        process,
        taken_at_s,
        tuple(
            MetricValues(name, kind, labels, _combine(kind, series, _sum))
            for (name, kind, labels), series in grouped.items()
        ),
    )


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
            MetricValues(metric.name, metric.kind, metric.labels, tuple(change(metric.name, s) for s in metric.series))
            for metric in newer.metrics
        ),
    )
