"""From what each process has counted since its start to what was counted in between, exactly once. Pure.

A process is known by its name and its boot, a random word of each start: the same boot counts on, another began from
zero. What a process had counted is stored with the rows made of it, so a restart of control counts nothing twice and
loses nothing of the processes that ran on. A process that vanishes takes back nothing. What a process forgets (a
gateway does with a revision that serves no more) only control still knows: it is to be stored soon (`has_forgotten`).
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import isfinite
from typing import Final

import msgspec

from stoker.observe.history.points import Course, Point, add, reading
from stoker.observe.port import Series
from stoker.telemetry.catalogue import BY_NAME, MetricKind
from stoker.telemetry.metrics import Series as Values
from stoker.telemetry.metrics import Snapshot

# A gauge of a process that has not answered for so long is not its state any more.
GAUGE_STALE_S: Final = 12.0
PROCESSES_MAX: Final = 256
EMPTY: Final = Snapshot("", 0.0)
NOTHING: Final = Values(())


class Answer(msgspec.Struct, frozen=True):
    """What one process said: who it is, and all that it has counted since its start.

    good_for_s: how long its gauges are its state; longer for who is not asked at every tick.
    """

    process: str
    boot: str
    snapshot: Snapshot
    good_for_s: float = GAUGE_STALE_S


class Account(msgspec.Struct, frozen=True):
    """What a process had counted when it was last seen, at `seen_s` of this machine's clock."""

    boot: str
    seen_s: float
    snapshot: Snapshot
    good_for_s: float = GAUGE_STALE_S


class Accounts:
    """Takes answers, gives changes.

    stored: the accounts of an earlier control. ignores_first: there are none because the history is new, so what
        processes had counted before the first answers is of a time that nobody watched.
    """

    def __init__(self, stored: Mapping[str, Account] | None = None, *, ignores_first: bool = False) -> None:
        self._held = dict(stored or {})
        self._news: set[str] = set()
        self.has_forgotten = False  # some process has, since `stored`
        self._ignores = ignores_first

    def take(self, answers: Iterable[Answer], now_s: float) -> dict[Series, Point]:
        """Return what was counted since the last call, and the gauges as they stand, summed over processes."""
        changes: dict[Series, Point] = {}
        for answer in answers:
            held = self._held.get(answer.process)
            before = held.snapshot if held is not None and held.boot == answer.boot else EMPTY
            if not (self._ignores and before is EMPTY):
                self.has_forgotten |= _count(answer.snapshot, before, changes)
            self._held[answer.process] = Account(answer.boot, now_s, answer.snapshot, answer.good_for_s)
            self._news.add(answer.process)
        self._ignores = False
        fresh = [each for each in self._held.values() if abs(now_s - each.seen_s) <= each.good_for_s]
        for account in fresh:
            _read(account.snapshot, changes)
        if len(self._held) > PROCESSES_MAX:
            newest = sorted(self._held.items(), key=lambda item: item[1].seen_s)[-PROCESSES_MAX:]
            self._held = dict(newest)
        return changes

    def held(self) -> dict[str, Account]:
        """Return what every process had counted, to be stored with the changes up to now."""
        return dict(self._held)

    def news(self) -> dict[str, Account]:
        """Return those of the held that said something since `stored`: the others are stored as they are."""
        return {process: self._held[process] for process in self._news if process in self._held}

    def stored(self) -> None:
        """Take note that all news is stored."""
        self._news.clear()
        self.has_forgotten = False


def _count(now: Snapshot, before: Snapshot, into: dict[Series, Point]) -> bool:
    """Add what was counted between two snapshots of one start; return whether series of `before` are gone.

    What went down was forgotten there and begun again.
    """
    old = {
        (metric.name, one.labels): one for metric in before.metrics if metric.kind != "gauge" for one in metric.series
    }
    for metric in now.metrics:
        if metric.kind == "gauge" or not _is_kept(metric.name):
            continue
        for one in metric.series:
            was = old.pop((metric.name, one.labels), NOTHING)
            point: Point
            if metric.kind == "histogram":
                if one.distribution.buckets == was.distribution.buckets:
                    continue
                point = one.distribution.minus(was.distribution)
                if not isfinite(point.sum):
                    continue
            else:
                point = float(one.value - was.value if one.value >= was.value else one.value)
                if not 0.0 < point < float("inf"):
                    continue
            series = _series(metric.name, metric.kind, metric.labels, one.labels)
            into[series] = add(into[series], point) if series in into else point
    return any(_is_kept(name) for name, _ in old)


def _is_kept(name: str) -> bool:
    known = BY_NAME.get(name)
    return known is None or known.kept  # of another stoker: nobody said that it is not


def _read(snapshot: Snapshot, into: dict[Series, Point]) -> None:
    for metric in snapshot.metrics:
        if metric.kind != "gauge" or not _is_kept(metric.name):
            continue
        known = BY_NAME.get(metric.name)
        takes_largest = known is not None and known.over_processes == "max"
        for one in metric.series:
            if not isfinite(one.value):
                continue
            series = _series(metric.name, metric.kind, metric.labels, one.labels)
            value, other = float(one.value), into.get(series)
            if isinstance(other, Course):
                value = max(other.last, value) if takes_largest else other.last + value
            into[series] = reading(value)


@lru_cache(maxsize=20_000)
def _series(name: str, kind: MetricKind, names: tuple[str, ...], values: tuple[str, ...]) -> Series:
    return Series(name, kind, tuple(sorted(zip(names, values, strict=False))))
