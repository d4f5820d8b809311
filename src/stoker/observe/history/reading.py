"""How rows are read: which series a selector means, which cells a time means, and the sums over them.

One Reader is one moment: a read transaction of the database and the ring as it stood then.
"""

import logging
import math
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import groupby, pairwise
from operator import add as plus
from operator import itemgetter
from typing import Any, Final

import msgspec

from stoker.observe.history.levels import LEVELS, Level, Span, plan
from stoker.observe.history.points import counted, unpack
from stoker.observe.history.ring import Ring, Row
from stoker.observe.history.tables import read_levels
from stoker.observe.patterns import compiled
from stoker.observe.port import SERIES_MAX, TICK_S, Selector, Series
from stoker.observe.query.expressions import Known
from stoker.telemetry.catalogue import BY_NAME
from stoker.telemetry.histogram import INDEX_MAX, Distribution, bucket_index
from stoker.types.errors import InvalidInput

CELLS_MAX: Final = 600_000  # that one question may read; some two seconds
ANY_GRAIN_S: Final = 1 << 40  # cells of any length: the window is one
SELECTIONS_KEPT_MAX: Final = 2_000  # selectors whose series are remembered
_WHERE: Final = "WHERE series IN (SELECT value FROM json_each(?)) AND at >= ? AND at < ?"

# A series, and of a histogram the largest value that counts; None: all.
Counted = tuple[Series, float | None]

log = logging.getLogger(__name__)


class Reader:
    """Reads at one moment. `ids` are the series in the database; without `connection` there is the ring alone."""

    def __init__(
        self,
        connection: sqlite3.Connection | None,
        ring: Ring,
        ids: Mapping[Series, int],
        lock: AbstractContextManager[object],
    ) -> None:
        self._connection = connection
        self._ring = ring
        self._ids = ids
        self._lock = lock
        self._left = CELLS_MAX
        stored = read_levels(connection) if connection is not None else LEVELS
        with lock:
            self._levels: tuple[Level, ...] = (ring.level, *stored)

    def totals(self, wanted: Iterable[Counted], edges: Sequence[int]) -> dict[Counted, list[float]]:
        """Return what was counted between each two of the rising `edges` (unix seconds, multiples of TICK_S).

        A histogram that is wanted with several limits is read once.
        """
        totals: dict[Counted, list[float]] = {each: [0.0] * (len(edges) - 1) for each in wanted}
        counters = [each for each, _ in totals if each.kind == "counter"]
        limits: dict[Series, list[float | None]] = {}
        for each, at_most in totals:
            if each.kind == "histogram":
                limits.setdefault(each, []).append(at_most)
        for at, (start_s, end_s) in enumerate(pairwise(edges)):
            for span in plan(start_s, end_s, self._levels, ANY_GRAIN_S):
                for each, increase in self._increases(span, counters):
                    totals[each, None][at] += increase
                for each, counts in self._counts(span, limits):
                    for at_most, count in zip(limits[each], counts, strict=True):
                        totals[each, at_most][at] += count
        return totals

    def distribution(self, series: Iterable[Series], start_s: int, end_s: int) -> Distribution:
        """Return what histograms saw in (start_s, end_s], merged."""
        buckets: dict[int, int] = defaultdict(int)
        total = 0.0
        for span in plan(start_s, end_s, self._levels, ANY_GRAIN_S):
            for _, row in self._rows(span, list(series)):
                total += row.value
                for index, held in _unpacked(row.body):
                    buckets[index] += held
        return Distribution({index: held for index, held in buckets.items() if held}, total)

    def rows(self, series: Sequence[Series], start_s: int, end_s: int, grain_s: int) -> dict[Series, list[Row]]:
        """Return the cells of each series that end in (start_s, end_s], oldest first, none longer than `grain_s`.

        Longer ones are read only where nothing finer is kept. Raises InvalidInput over CELLS_MAX.
        """
        found: dict[Series, list[Row]] = {each: [] for each in series}
        for span in plan(start_s, end_s, self._levels, grain_s):
            for each, row in self._rows(span, series):
                found[each].append(row)
        return found

    def _increases(self, span: Span, counters: Sequence[Series]) -> Iterable[tuple[Series, float]]:
        if span.level.name == "ring":
            with self._lock:
                return [(each, self._ring.total(each, span.start_s, span.end_s)) for each in counters]
        numbers = {self._ids[each]: each for each in counters if each in self._ids}
        sql = f"SELECT series, sum(value) FROM {span.level.name} {_WHERE} GROUP BY series"  # noqa: S608
        return [(numbers[number], value) for number, value in self._ask(sql, numbers, span)]

    def _counts(
        self, span: Span, limits: Mapping[Series, Sequence[float | None]]
    ) -> Iterator[tuple[Series, Sequence[int]]]:
        """Yield for each histogram how many of its values are at most each of its limits, summed over the span."""
        last_indexes = {
            each: [INDEX_MAX if one is None else bucket_index(one) for one in of_it] for each, of_it in limits.items()
        }
        for each, bodies in self._bodies(span, list(limits)):
            last = last_indexes[each]
            sums = [0] * len(last)
            for body in bodies:
                try:
                    found = counted(body, last)
                except ValueError as odd:
                    _left_out(odd)
                else:
                    sums = list(map(plus, sums, found))
            yield each, sums

    def _bodies(self, span: Span, series: Sequence[Series]) -> Iterator[tuple[Series, Iterable[bytes]]]:
        if span.level.name == "ring" or self._connection is None:
            for each, cells in groupby(self._rows(span, series), key=itemgetter(0)):
                yield each, (row.body or b"" for _, row in cells)
            return
        numbers = {self._ids[each]: each for each in series if each in self._ids}
        sql = f"SELECT series, body FROM {span.level.name} {_WHERE} ORDER BY series"  # noqa: S608
        for number, rows in groupby(self._ask(sql, numbers, span), key=itemgetter(0)):
            yield numbers[number], (body for _, body in rows)

    def _rows(self, span: Span, series: Sequence[Series]) -> Iterator[tuple[Series, Row]]:
        if not series:
            return
        if span.level.name == "ring":
            with self._lock:
                found = [(each, row) for each in series for row in self._ring.rows(each, span.start_s, span.end_s)]
            self._spend(len(found))
            yield from found
            return
        numbers = {self._ids[each]: each for each in series if each in self._ids}
        sql = f"SELECT series, at, value, body FROM {span.level.name} {_WHERE} ORDER BY series, at"  # noqa: S608
        for number, at_s, value, body in self._ask(sql, numbers, span):
            yield numbers[number], Row(at_s + span.level.step_s, value, body)

    def _ask(self, sql: str, numbers: Mapping[int, Series], span: Span) -> Iterator[tuple[Any, ...]]:
        if self._connection is None or not numbers:
            return
        cursor = self._connection.execute(sql, (msgspec.json.encode(list(numbers)).decode(), span.start_s, span.end_s))
        while rows := cursor.fetchmany(1000):
            self._spend(len(rows))
            yield from rows

    def _spend(self, cells: int) -> None:
        self._left -= cells
        if self._left < 0:
            raise InvalidInput(
                f"this reads more than {CELLS_MAX:,} cells; ask for less time, a longer step, or name more labels"
            )


def _unpacked(body: bytes | None) -> Iterable[tuple[int, int]]:
    try:
        return unpack(body or b"")
    except ValueError as odd:
        _left_out(odd)
        return ()


def _left_out(odd: ValueError) -> int:
    """Tell of a row whose bytes are broken: it counts nothing, and the others count on."""
    log.error("a row of metrics.db is left out", extra={"reason": str(odd)})
    return 0


class Index:
    """Which metrics and series there are, and what selectors meant the last time. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_metric: dict[str, dict[Series, None]] = {}
        self._found: dict[Selector, list[Series]] = {}

    def replace(self, series: Iterable[Series]) -> None:
        """Know these series and no others."""
        by_metric: dict[str, dict[Series, None]] = {}
        for each in series:
            by_metric.setdefault(each.metric, {})[each] = None
        with self._lock:
            self._by_metric = by_metric
            self._found.clear()

    def add(self, series: Iterable[Series]) -> None:
        """Know these series too."""
        with self._lock:
            for each in series:
                held = self._by_metric.setdefault(each.metric, {})
                if each not in held:
                    held[each] = None
                    self._found.clear()

    def names(self) -> list[str]:
        """Return the names of all metrics, of the catalogue and of an older or newer stoker."""
        return list({**BY_NAME, **self._by_metric})

    def known(self, metric: str) -> Known | None:
        """Return what a metric is, if it is one."""
        if (listed := BY_NAME.get(metric)) is not None:
            return Known(listed.kind, listed.labels)
        with self._lock:
            found = next(iter(self._by_metric.get(metric, ())), None)
        return None if found is None else Known(found.kind, None)

    def select(self, selector: Selector) -> list[Series]:
        """Return the selected series. Raises InvalidInput over SERIES_MAX, and for a pattern that is none."""
        with self._lock:
            found = self._found.get(selector)
            if found is None:
                found = self._look(selector)
                if len(self._found) >= SELECTIONS_KEPT_MAX:
                    self._found.clear()
                self._found[selector] = found
        if len(found) > SERIES_MAX:
            raise InvalidInput(
                f"{selector.metric} has {len(found)} such series; one question reads {SERIES_MAX}: name more labels"
            )
        return found

    def every(self, selector: Selector) -> list[Series]:
        """Return the selected series, however many: for who reads the few that were active in a short time."""
        with self._lock:
            return self._look(selector)

    def _look(self, selector: Selector) -> list[Series]:
        try:
            for matcher in selector.matchers:
                if matcher.operator in ("=~", "!~"):
                    compiled(matcher.value)
        except ValueError as wrong:
            raise InvalidInput(str(wrong)) from wrong
        return [each for each in self._by_metric.get(selector.metric, ()) if selector.holds(each)]


def tick(at_s: float) -> int:
    """Return the newest moment of the grid of TICK_S that is not after `at_s`."""
    return math.floor(at_s / TICK_S) * TICK_S
