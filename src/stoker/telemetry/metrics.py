"""Where a process counts: a registry, passed to whoever measures, that hands out counters, gauges and histograms.

A handle is obtained once and kept; using it is an addition (0.05 µs) or an observation (0.2 µs). A registry is used by
one thread. Every metric is in the catalogue, and holds at most SERIES_MAX label combinations.
"""

import time
from collections.abc import Collection
from typing import Final

from stoker.telemetry.catalogue import BY_NAME, MetricKind
from stoker.telemetry.histogram import Histogram
from stoker.telemetry.snapshot import (
    MetricValues,
    Series,
    Snapshot,
    decode_snapshot,
    encode_snapshot,
    merge,
    subtract,
)

__all__ = [
    "Counter",
    "Gauge",
    "Histogram",
    "MetricValues",
    "Registry",
    "Series",
    "Snapshot",
    "decode_snapshot",
    "encode_snapshot",
    "merge",
    "subtract",
]

SERIES_MAX: Final = 1_000  # of one metric in one process; a histogram takes 2.6 kB
LABEL_VALUE_MAX: Final = 200  # characters; longer values are cut
OTHER: Final = "_other"  # every label of the series that counts what came after SERIES_MAX


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, count: float = 1) -> None:
        """Count `count` more; it must not be negative."""
        self.value += count


class Gauge:
    """A number that goes up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        """Set the number."""
        self.value = value

    def add(self, change: float = 1) -> None:
        """Change the number by `change`, which may be negative."""
        self.value += change


Instrument = Counter | Gauge | Histogram


class Registry:
    """All that one process counts."""

    def __init__(self, process: str = "") -> None:
        self.process = process
        self._series: dict[str, dict[tuple[str, ...], Instrument]] = {}

    def counter(self, name: str, **labels: str) -> Counter:
        """Return the counter of `name` with these labels, the same one for the same labels.

        Raises ValueError when the catalogue has no such counter, or with other labels.
        """
        found = self._instrument("counter", name, labels)
        assert isinstance(found, Counter)
        return found

    def gauge(self, name: str, **labels: str) -> Gauge:
        """Return the gauge of `name` with these labels; as `counter`."""
        found = self._instrument("gauge", name, labels)
        assert isinstance(found, Gauge)
        return found

    def histogram(self, name: str, **labels: str) -> Histogram:
        """Return the histogram of `name` with these labels; as `counter`."""
        found = self._instrument("histogram", name, labels)
        assert isinstance(found, Histogram)
        return found

    def forget(self, spare: Collection[str] = (), **labels: str) -> None:
        """Drop every series whose labels include `labels`: what they name is gone. Kept handles count for nobody.

        spare: metrics that go on.
        """
        if not labels:
            raise ValueError("name at least one label of what is gone")
        for name, series in self._series.items():
            names = BY_NAME[name].labels
            if name not in spare and all(label in names for label in labels):
                wanted = [(names.index(label), value) for label, value in labels.items()]
                for key in [key for key in series if all(key[at] == value for at, value in wanted)]:
                    del series[key]

    def drop(self, name: str, **labels: str) -> None:
        """Drop one series of `name`, with all its labels: nothing is known of it now."""
        key = tuple(labels[label][:LABEL_VALUE_MAX] for label in BY_NAME[name].labels)
        self._series.get(name, {}).pop(key, None)

    def snapshot(self) -> Snapshot:
        """Return all numbers as they stand now."""
        return Snapshot(
            self.process,
            time.time(),
            tuple(
                MetricValues(
                    name,
                    BY_NAME[name].kind,
                    BY_NAME[name].labels,
                    tuple(_read(labels, instrument) for labels, instrument in series.items()),
                    BY_NAME[name].over_processes,
                )
                for name, series in self._series.items()
            ),
        )

    def _instrument(self, kind: MetricKind, name: str, labels: dict[str, str]) -> Instrument:
        metric = BY_NAME.get(name)
        if metric is None or metric.kind != kind:
            raise ValueError(f"{name} is no {kind} of the catalogue (stoker/telemetry/catalogue.py)")
        if labels.keys() != set(metric.labels):
            raise ValueError(f"{name} has the labels {metric.labels}, not {tuple(labels)}")
        key = tuple(labels[label][:LABEL_VALUE_MAX] for label in metric.labels)
        series = self._series.setdefault(name, {})
        found = series.get(key)
        if found is not None:
            return found
        if len(series) >= SERIES_MAX and key:
            key = (OTHER,) * len(key)
        return series.setdefault(key, _new(kind))


def _new(kind: MetricKind) -> Instrument:
    if kind == "counter":
        return Counter()
    return Gauge() if kind == "gauge" else Histogram()


def _read(labels: tuple[str, ...], instrument: Instrument) -> Series:
    if isinstance(instrument, Histogram):
        return Series(labels, 0.0, instrument.read())
    return Series(labels, instrument.value)
