"""The history of all metrics: takes what processes say, keeps it, answers questions about it.

One thread writes (and may wait for the disk), two read beside it; the ring is behind a lock that is held for
microseconds. Whatever happens to the file, the ring goes on and control with it: a disk that is full is tried again
each minute with all that waits, a broken file is moved aside and a new one begun.
"""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from stoker.observe.history import ask, gather, tables, writes
from stoker.observe.history.accounts import Account, Accounts, Answer
from stoker.observe.history.ask import When
from stoker.observe.history.levels import HOUR, MINUTE
from stoker.observe.history.points import Point, add, decode
from stoker.observe.history.reading import Index, Reader, tick
from stoker.observe.history.ring import Ring
from stoker.observe.port import TICK_S, Chart, Selector, Series
from stoker.telemetry.histogram import Distribution
from stoker.telemetry.metrics import Snapshot, decode_snapshot, encode_snapshot
from stoker.types.errors import Unavailable

READERS: Final = 2
# Minutes that wait for a disk that cannot be written; then the oldest two become one, and only their edge is lost.
PENDING_MAX: Final = 60
BYTES_MAX: Final = 1 << 30
# What a process has forgotten is written before the minute is over, but no more often than this: tenants come and go.
EARLY_S: Final = 2 * TICK_S

_T = TypeVar("_T")
log = logging.getLogger(__name__)


class History:
    """See the package. `start` before anything else, `close` at the end; `clock` is unix time."""

    def __init__(self, path: Path, *, bytes_max: int = BYTES_MAX, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self.clock = clock
        self._writer = ThreadPoolExecutor(1, "history-write")
        self._readers = ThreadPoolExecutor(READERS, "history-read")
        self._lock = threading.Lock()
        self._ring = Ring(clock())
        self._index = Index()
        self._ids: dict[Series, int] = {}
        self._accounts = Accounts(ignores_first=True)  # until those that are stored are read
        self._connection: sqlite3.Connection | None = None
        self._reading = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._generation = 0  # of the file; a reader's connection to another one is opened anew
        self._pending: dict[int, dict[Series, Point]] = {}
        self._until_s = 0  # minutes before it are complete in the database
        self._tended_s = self._flushed_s = 0
        self._is_failing = False
        self.refused = 0  # series for which there was no room, counted each time
        self.failures = 0  # writes that failed
        self.bytes_used = 0

    @property
    def series_count(self) -> int:
        """How many series there are."""
        return len(self._ids)

    @property
    def written_s(self) -> float | None:
        """The end of the newest minute in the file (unix seconds); None while there is none."""
        return float(self._until_s) or None

    async def start(self) -> None:
        """Open the file and read the last 70 minutes. Raises nothing: without a file the ring serves alone."""
        await self._write(self._start)

    async def observe(self, answers: Iterable[Answer]) -> None:
        """Count what processes said just now. Written once a minute, and when a process forgot some of it."""
        await self._write(self._observe, list(answers))

    async def close(self) -> None:
        """Write what waits and close the file."""
        await self._write(self._close)
        self._writer.shutdown()
        self._readers.shutdown()

    # ── questions: see port.Questions ────────────────────────────────────────────────────────────────────────────

    async def sums(
        self, selectors: Sequence[Selector], windows_s: Sequence[float], *, now_s: float | None = None
    ) -> list[tuple[float, ...]]:
        """See port.Questions."""
        return await self._ask(lambda reader: ask.sums(reader, self._index, selectors, windows_s, self._at(now_s)))

    async def sums_by(
        self, selector: Selector, by: Sequence[str], windows_s: Sequence[float], *, now_s: float | None = None
    ) -> dict[tuple[str, ...], tuple[float, ...]]:
        """See port.Questions."""
        return await self._ask(
            lambda reader: ask.sums_by(reader, self._index, selector, by, windows_s, self._at(now_s))
        )

    async def distribution(self, selector: Selector, window_s: float, *, end_s: float | None = None) -> Distribution:
        """See port.Questions."""
        return await self._ask(
            lambda reader: ask.distribution(reader, self._index, selector, window_s, self._at(end_s))
        )

    async def series(
        self, selector: Selector, *, since_s: float, step_s: float, by: Sequence[str] = (), end_s: float | None = None
    ) -> Chart:
        """See port.Questions."""
        when = When.of(self._at(end_s), since_s, step_s)
        return await self._ask(lambda reader: ask.series(reader, self._index, selector, by, when))

    async def snapshots(self, selectors: Sequence[Selector], edges_s: Sequence[float]) -> list[Snapshot]:
        """See port.Questions."""
        return await self._ask(lambda reader: gather.snapshots(reader, self._index, selectors, edges_s))

    async def query(
        self,
        text: str,
        *,
        since_s: float = 0.0,
        step_s: float = 60.0,
        end_s: float | None = None,
        project: str | None = None,
    ) -> Chart:
        """See port.Questions."""
        when = When.of(self._at(end_s), since_s, step_s)
        return await self._ask(lambda reader: ask.query(reader, self._index, text, when, project))

    async def known(self, selector: Selector) -> list[dict[str, Any]]:
        """See port.Questions."""
        return [dict(series.labels) for series in self._index.select(selector)]

    # ── the writer's thread ──────────────────────────────────────────────────────────────────────────────────────

    def _start(self) -> None:
        stored: dict[str, Account] = {}
        try:
            is_new = self._open()
            assert self._connection is not None
            for process, boot, seen_s, counted in self._connection.execute("SELECT * FROM processes"):
                stored[process] = Account(boot, seen_s, decode_snapshot(counted))
            rows = self._connection.execute(
                "SELECT s.metric, s.kind, s.labels, m.at, m.value, m.body FROM series s CROSS JOIN minute m"
                " ON m.series = s.id WHERE m.at >= ? ORDER BY m.at",
                (self._ring.level.since_s,),
            )
            self._accounts = Accounts(stored, ignores_first=is_new)
            self._seed(rows)
        except (ValueError, OSError, sqlite3.Error) as problem:
            if isinstance(problem, ValueError) or tables.is_broken(problem):
                self._replace(problem)
            else:
                self._failed(problem)

    def _open(self) -> bool:
        self._connection, is_new = tables.open_for_writing(self._path, self._bytes_max)
        self._generation += 1
        ids = tables.read_series(self._connection)
        self._until_s = max(tables.read_levels(self._connection)[0].until_s, self._until_s)
        self.bytes_used = tables.bytes_used(self._connection)
        with self._lock:
            self._index.replace((*ids, *self._ring.series()))
            self._ids = ids
        return is_new

    def _seed(self, rows: Iterable[tuple[Any, ...]]) -> None:
        now_s = tick(self.clock())
        by_key = {(each.metric, each.kind, tables.labels_text(each)): each for each in self._ids}
        with self._lock:
            for metric, kind, labels, at_s, value, body in rows:
                try:
                    point = decode(kind, value, body)
                except ValueError:
                    continue  # the roll-up tells of it
                self._ring.put(by_key[metric, kind, labels], min(at_s + MINUTE.step_s, now_s), point)
            self._ring.advance(now_s)

    def _observe(self, answers: list[Answer]) -> None:
        now_s = self.clock()
        end_s = max(tick(now_s), self._ring.level.until_s)
        changes = self._accounts.take(answers, now_s)
        # A cell that ends with a minute is of that minute; what comes after a clock went back, of the newest one.
        minute_s = max((end_s - 1) // MINUTE.step_s * MINUTE.step_s, self._until_s, max(self._pending, default=0))
        with self._lock:
            for series, point in changes.items():
                self._ring.put(series, end_s, point)
            self._ring.advance(end_s)
        self._index.add(changes)
        held = self._pending.setdefault(minute_s, {})
        for series, point in changes.items():
            held[series] = add(held[series], point) if series in held else point
        is_minute_over = end_s // MINUTE.step_s * MINUTE.step_s > self._until_s
        if is_minute_over or (self._accounts.has_forgotten and end_s - self._flushed_s >= EARLY_S):
            self._flush(end_s)

    def _flush(self, end_s: int) -> None:
        """Write all that waits, roll up and forget; whatever fails is told and tried again with the next minute."""
        self._flushed_s = end_s
        try:
            if self._connection is None:
                self._open()
            assert self._connection is not None
            self._write_pending(self._connection, end_s)
            writes.roll_up(self._connection)
            self.bytes_used = tables.bytes_used(self._connection)
            if end_s - self._tended_s >= HOUR.step_s or self.bytes_used > self._bytes_max:
                self._tended_s = end_s
                self._tend(self._connection)
        except (OSError, sqlite3.Error) as problem:
            if tables.is_broken(problem):
                self._replace(problem)
            else:
                self._failed(problem)
        else:
            if self._is_failing:
                log.info("metrics.db is written again")
            self._is_failing = False
        while len(self._pending) > PENDING_MAX:
            self._join_oldest()

    def _write_pending(self, connection: sqlite3.Connection, end_s: int) -> None:
        until_s = max(end_s // MINUTE.step_s * MINUTE.step_s, self._until_s)
        processes = [
            writes.Counted(process, each.boot, int(each.seen_s), encode_snapshot(each.snapshot))
            for process, each in self._accounts.news().items()
        ]
        ids, refused = writes.flush(connection, writes.Flush(self._pending, processes, until_s), self._ids)
        self._accounts.stored()
        self.refused += refused
        self._ids = ids
        self._pending = {}
        self._until_s = until_s

    def _tend(self, connection: sqlite3.Connection) -> None:
        writes.forget(connection, self._bytes_max)
        self.bytes_used = tables.bytes_used(connection)
        ids = tables.read_series(connection)
        with self._lock:
            self._ids = ids
            self._index.replace((*ids, *self._ring.series()))

    def _join_oldest(self) -> None:
        first, second = sorted(self._pending)[:2]
        older, newer = self._pending.pop(first), self._pending.pop(second)
        for series, point in newer.items():
            older[series] = add(older[series], point) if series in older else point
        self._pending = dict(sorted({**self._pending, second: older}.items()))

    def _replace(self, problem: Exception) -> None:
        """Move the broken file aside and begin a new one; what waits is written to it with the next minute."""
        self.failures += 1
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        try:
            tables.move_aside(self._path, str(problem))
            self._open()
        except (OSError, sqlite3.Error) as again:
            self._failed(again)

    def _failed(self, problem: Exception) -> None:
        self.failures += 1
        if not self._is_failing:  # once, not each minute
            log.error(
                "metrics.db cannot be written; numbers are kept in memory and written when it can be: free some disk"
                " space",
                extra={"reason": str(problem)},
            )
        self._is_failing = True

    def _close(self) -> None:
        if self._pending and self._connection is not None:
            self._flush(tick(self.clock()))
        for connection in (*self._opened, self._connection):
            if connection is not None:
                connection.close()
        self._connection = None
        self._opened = []

    async def _write(self, change: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, change, *arguments)

    # ── the readers' threads ─────────────────────────────────────────────────────────────────────────────────────

    def _at(self, moment_s: float | None) -> int:
        return tick(self.clock() if moment_s is None else moment_s)

    async def _ask(self, question: Callable[[Reader], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._answer, question)

    def _answer(self, question: Callable[[Reader], _T]) -> _T:
        connection: sqlite3.Connection | None = None
        try:
            connection = self._reader_connection()
            if connection is not None:
                connection.execute("BEGIN")
            return question(Reader(connection, self._ring, self._ids, self._lock))
        except sqlite3.Error as problem:
            log.error("metrics.db could not be read", extra={"reason": str(problem)})
            if tables.is_broken(problem):
                generation = self._generation
                self._writer.submit(self._replace_unless, generation, problem)
            raise Unavailable(f"the history cannot be read: {problem}", retry_after_s=5.0) from problem
        finally:
            if connection is not None and connection.in_transaction:
                connection.execute("ROLLBACK")

    def _replace_unless(self, generation: int, problem: Exception) -> None:
        if generation == self._generation:
            self._replace(problem)

    def _reader_connection(self) -> sqlite3.Connection | None:
        if self._connection is None:
            return None
        held: tuple[int, sqlite3.Connection] | None = getattr(self._reading, "held", None)
        if held is not None and held[0] == self._generation:
            return held[1]
        if held is not None:
            held[1].close()
            self._opened.remove(held[1])
        generation, self._reading.held = self._generation, None
        connection = tables.open_for_reading(self._path)
        self._opened.append(connection)
        self._reading.held = (generation, connection)
        return connection
