"""The last 70 minutes in memory: what a fast alarm asks every few seconds, without a question to the database.

Counters are kept by TICK_S throughout, in an array: 6.7 kB a series that counts. Gauges and histograms are rows as in
the database, by TICK_S for FINE_S and by the minute before, because a histogram's every tick would be 130 kB a series:
so they take 25 to 35 kB. A series that is silent for 70 minutes takes nothing. Used by one thread at a time.
"""

from array import array
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from stoker.observe.history.levels import MINUTE, Level
from stoker.observe.history.points import Point, add, decode, encode
from stoker.observe.port import TICK_S, Series

KEPT_S: Final = 70 * 60
FINE_S: Final = 10 * 60
# What comes over it makes the ring step aside: questions go to the database, a minute late, until the ring is whole.
BYTES_MAX: Final = 64 << 20
COUNTER_BYTES: Final = 7_000
ROWS_BYTES: Final = 36_000
SLOTS: Final = (KEPT_S + 60) // TICK_S  # the ring begins with a minute, so it can be one longer


class Row(NamedTuple):
    """A cell as it lies in a table: when it ends, its number, its bytes (see points.py)."""

    end_s: int
    value: float
    body: bytes | None


class _Counter:
    """A counter's increase by tick; slots after `newest` are old, and read as nothing."""

    __slots__ = ("newest", "slots")

    def __init__(self) -> None:
        self.slots = array("d", bytes(8 * SLOTS))
        self.newest = -1

    def put(self, tick: int, increase: float) -> None:
        for passed in range(max(self.newest + 1, tick - SLOTS + 1), tick + 1):
            self.slots[passed % SLOTS] = 0.0
        self.newest = max(self.newest, tick)
        self.slots[tick % SLOTS] += increase

    def rows(self, first: int, last: int) -> Iterator[Row]:
        for tick in range(max(first, self.newest - SLOTS + 1), min(last, self.newest) + 1):
            if value := self.slots[tick % SLOTS]:
                yield Row(tick * TICK_S, value, None)

    def total(self, first: int, last: int) -> float:
        first, last = max(first, self.newest - SLOTS + 1), min(last, self.newest)
        if first > last:
            return 0.0
        begin, over = first % SLOTS, last % SLOTS + 1
        if begin < over:
            return sum(self.slots[begin:over])
        return sum(self.slots[begin:]) + sum(self.slots[:over])


class _Rows:
    """Cells of a gauge or a histogram."""

    __slots__ = ("coarse", "fine", "kind")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.fine: deque[Row] = deque()
        self.coarse: deque[Row] = deque(maxlen=KEPT_S // MINUTE.step_s + 1)

    @property
    def newest(self) -> int:
        return (self.fine or self.coarse)[-1].end_s // TICK_S

    def put(self, tick: int, point: Point) -> None:
        end_s = tick * TICK_S
        if self.fine and self.fine[-1].end_s == end_s:
            last = self.fine.pop()
            point = add(decode(self.kind, last.value, last.body), point)
        self.fine.append(Row(end_s, *encode(point)))
        while minute_end(self.fine[0].end_s) <= end_s - FINE_S:
            self._coarsen(self.fine.popleft())

    def _coarsen(self, row: Row) -> None:
        end_s = minute_end(row.end_s)
        if self.coarse and self.coarse[-1].end_s == end_s:
            last = self.coarse.pop()
            whole = add(decode(self.kind, last.value, last.body), decode(self.kind, row.value, row.body))
            self.coarse.append(Row(end_s, *encode(whole)))
        else:
            self.coarse.append(Row(end_s, row.value, row.body))

    def rows(self, first: int, last: int) -> Iterator[Row]:
        for kept in (self.coarse, self.fine):
            for row in kept:
                if first * TICK_S <= row.end_s <= last * TICK_S:
                    yield row


class Ring:
    """The cells that end after `level.since_s`, up to `level.until_s`."""

    def __init__(self, now_s: float) -> None:
        since_s = int(now_s - KEPT_S) // MINUTE.step_s * MINUTE.step_s
        self._level = Level("ring", TICK_S, KEPT_S, since_s, since_s)
        self._tracks: dict[Series, _Counter | _Rows] = {}
        self._bytes = 0
        self._whole_again_s = 0

    def __len__(self) -> int:
        return len(self._tracks)

    @property
    def level(self) -> Level:
        """The time that can be read here; none while a series found no room."""
        if self._level.until_s < self._whole_again_s:
            return self._level._replace(since_s=self._level.until_s)
        return self._level

    def put(self, series: Series, end_s: int, point: Point) -> None:
        """Add to the cell that ends at `end_s`. Cells of one series come in the order of time."""
        track = self._tracks.get(series)
        if track is None:
            needed = _cost(series)
            if self._bytes + needed > BYTES_MAX:
                self._whole_again_s = end_s + KEPT_S
                return
            self._bytes += needed
            track = self._tracks[series] = _Counter() if series.kind == "counter" else _Rows(series.kind)
        if isinstance(track, _Counter):
            assert isinstance(point, float)
            track.put(end_s // TICK_S, point)
        else:
            track.put(end_s // TICK_S, point)

    def advance(self, until_s: int) -> None:
        """Say that everything up to `until_s` has been put, and drop what is older than KEPT_S."""
        since_s = max(self._level.since_s, (until_s - KEPT_S) // MINUTE.step_s * MINUTE.step_s)
        if since_s != self._level.since_s:
            for series in [each for each, track in self._tracks.items() if track.newest * TICK_S <= since_s]:
                del self._tracks[series]
                self._bytes -= _cost(series)
        self._level = self._level._replace(since_s=since_s, until_s=max(until_s, self._level.until_s))

    def series(self) -> list[Series]:
        """Return the series that counted lately."""
        return list(self._tracks)

    def rows(self, series: Series, start_s: int, end_s: int) -> Iterator[Row]:
        """Yield the cells that end in (start_s, end_s], oldest first."""
        track = self._tracks.get(series)
        if track is not None:
            yield from track.rows(start_s // TICK_S + 1, end_s // TICK_S)

    def total(self, series: Series, start_s: int, end_s: int) -> float:
        """Return a counter's increase in (start_s, end_s]."""
        track = self._tracks.get(series)
        return track.total(start_s // TICK_S + 1, end_s // TICK_S) if isinstance(track, _Counter) else 0.0


def _cost(series: Series) -> int:
    return COUNTER_BYTES if series.kind == "counter" else ROWS_BYTES


def minute_end(end_s: int) -> int:
    """Return where the minute ends that a cell ending at `end_s` is part of."""
    return -(-end_s // MINUTE.step_s) * MINUTE.step_s
