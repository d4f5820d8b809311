"""What is written to metrics.db: a minute's cells, their roll-ups, and the forgetting. Each in one transaction.

A roll-up is computed anew from its parts and put in place of what may be there, with the mark up to where it reaches;
killed between any two statements, it did not happen. Nothing is deleted that the next level has not taken up.
"""

import logging
import sqlite3
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Final, NamedTuple

import msgspec

from stoker.observe.history.levels import DAY_S, FIVE, HOUR, LEVELS, MINUTE, Level
from stoker.observe.history.points import Point, add, decode, encode
from stoker.observe.history.tables import bytes_used, labels_text, read_levels, transaction, write_level
from stoker.observe.port import Series
from stoker.telemetry.catalogue import MetricKind

SERIES_KEPT_MAX: Final = 5_000
PROCESSES_MAX: Final = 256  # of which it is known what they had counted
# A series that counted so lately is not given up for a new one.
ALIVE_S: Final = 2 * 3600
CUTS_MAX: Final = 20  # tenths cut off in one go when the file is too large
FREED_PAGES: Final = 2_000  # given back to the disk at once, 8 MB

Numbered = dict[int, tuple[MetricKind, Point]]
log = logging.getLogger(__name__)


class Counted(NamedTuple):
    """What a process had counted when it was last seen: an encoded Snapshot."""

    process: str
    boot: str
    seen_at_s: int
    snapshot: bytes


class Flush(NamedTuple):
    """What is to be written together: all that was counted up to the accounts in `processes`.

    cells: by the unix second their minute begins, oldest first; the oldest may have been written in part before.
    until_s: minutes before it are complete and are never written again.
    """

    cells: Mapping[int, Mapping[Series, Point]]
    processes: Iterable[Counted]
    until_s: int


def flush(connection: sqlite3.Connection, what: Flush, known: Mapping[Series, int]) -> tuple[dict[Series, int], int]:
    """Write cells and what processes had counted; return all series with their ids, and how many found no room."""
    with transaction(connection):
        minute, five, hour = read_levels(connection)
        if minute.until_s == 0:
            since_s = min(what.cells, default=what.until_s) // HOUR.step_s * HOUR.step_s
            minute, five, hour = (each._replace(since_s=since_s, until_s=since_s) for each in (minute, five, hour))
            for level in (five, hour):
                write_level(connection, level)
        ids = dict(known)
        refused = _name(connection, ids, what)
        oldest_s = min(what.cells, default=0)
        for at_s, cells in what.cells.items():
            numbered: Numbered = {ids[series]: (series.kind, point) for series, point in cells.items() if series in ids}
            if at_s == oldest_s:
                numbered = _with_stored(connection, at_s, numbered)
            connection.executemany(
                "INSERT OR REPLACE INTO minute VALUES (?, ?, ?, ?)",
                [(number, at_s, *encode(point)) for number, (_, point) in sorted(numbered.items())],
            )
        write_level(connection, minute._replace(until_s=max(minute.until_s, what.until_s)))
        _account(connection, what)
    return ids, refused


def roll_up(connection: sqlite3.Connection) -> None:
    """Write the five minutes and hours that are complete."""
    for finer, coarser in ((MINUTE, FIVE), (FIVE, HOUR)):
        with transaction(connection):
            held = {level.name: level for level in read_levels(connection)}
            source, target = held[finer.name], held[coarser.name]
            until_s = source.until_s // coarser.step_s * coarser.step_s
            if until_s <= target.until_s:
                continue
            _roll(connection, finer, coarser, target.until_s, until_s)
            write_level(connection, target._replace(until_s=until_s))
            if coarser is HOUR:
                connection.execute(
                    "UPDATE series SET newest = ? WHERE id IN (SELECT s.id FROM series s CROSS JOIN hour h"
                    " ON h.series = s.id WHERE h.at >= ?)",
                    (until_s, target.until_s),
                )


def forget(connection: sqlite3.Connection, bytes_max: int) -> None:
    """Delete what is older than its level keeps, then the oldest tenths while the rows take more than `bytes_max`.

    At most a day a call for age: a clock that jumps ahead for a moment costs no more.
    """
    for level in read_levels(connection):
        old_s = (level.until_s - level.kept_s) // HOUR.step_s * HOUR.step_s
        _cut(connection, level, min(old_s, level.since_s + DAY_S))
    for _ in range(CUTS_MAX):
        if bytes_used(connection) <= bytes_max:
            break
        for level in read_levels(connection):
            tenth_s = max((level.until_s - level.since_s) // 10 // HOUR.step_s, 1) * HOUR.step_s
            _cut(connection, level, level.since_s + tenth_s)
    minute, _, hour = read_levels(connection)
    with transaction(connection):
        connection.execute("DELETE FROM series WHERE newest < ?", (min(hour.since_s, minute.since_s),))
    connection.execute(f"PRAGMA incremental_vacuum({FREED_PAGES})").fetchall()


def _name(connection: sqlite3.Connection, ids: dict[Series, int], what: Flush) -> int:
    """Give every series of `what` an id; return for how many there was no room."""
    new = {series: at_s for at_s, cells in what.cells.items() for series in cells if series not in ids}
    if not new:
        return 0
    over = len(ids) + len(new) - SERIES_KEPT_MAX
    if over > 0:
        _evict(connection, ids, over, what)
    room = SERIES_KEPT_MAX - len(ids)
    for series, at_s in list(new.items())[:room]:
        cursor = connection.execute(
            "INSERT INTO series (metric, kind, labels, newest) VALUES (?, ?, ?, ?)",
            (series.metric, series.kind, labels_text(series), at_s),
        )
        assert cursor.lastrowid is not None
        ids[series] = cursor.lastrowid
    return max(len(new) - room, 0)


def _evict(connection: sqlite3.Connection, ids: dict[Series, int], count: int, what: Flush) -> None:
    """Delete those series that have been silent the longest."""
    rows = connection.execute(
        "SELECT id FROM series WHERE newest < ? ORDER BY newest, id LIMIT ?", (what.until_s - ALIVE_S, count)
    ).fetchall()
    gone = {number for (number,) in rows}
    writing = {ids[series] for cells in what.cells.values() for series in cells if series in ids}
    gone -= writing
    for number in gone:
        for level in LEVELS:
            connection.execute(f"DELETE FROM {level.name} WHERE series = ?", (number,))  # noqa: S608
        connection.execute("DELETE FROM series WHERE id = ?", (number,))
    for series in [series for series, number in ids.items() if number in gone]:
        del ids[series]


def _with_stored(connection: sqlite3.Connection, at_s: int, cells: Numbered) -> Numbered:
    merged = dict(cells)
    rows = connection.execute(
        "SELECT series, value, body FROM minute WHERE series IN (SELECT value FROM json_each(?)) AND at = ?",
        (msgspec.json.encode(list(cells)).decode(), at_s),
    )
    for number, value, body in rows.fetchall():
        kind, point = cells[number]
        try:
            merged[number] = (kind, add(decode(kind, value, body), point))
        except ValueError as odd:
            _left_out(number, odd)
    return merged


def _account(connection: sqlite3.Connection, what: Flush) -> None:
    connection.executemany("INSERT OR REPLACE INTO processes VALUES (?, ?, ?, ?)", what.processes)
    connection.execute(
        "DELETE FROM processes WHERE process NOT IN (SELECT process FROM processes ORDER BY seen_at DESC LIMIT ?)",
        (PROCESSES_MAX,),
    )


def _roll(connection: sqlite3.Connection, finer: Level, coarser: Level, start_s: int, until_s: int) -> None:
    rows = connection.execute(
        f"SELECT s.id, s.kind, c.at, c.value, c.body FROM series s CROSS JOIN {finer.name} c ON c.series = s.id"  # noqa: S608
        " WHERE c.at >= ? AND c.at < ? ORDER BY s.id, c.at",
        (start_s, until_s),
    )
    rolled = []
    for (number, kind, at_s), parts in groupby(rows, lambda row: (row[0], row[1], row[2] // coarser.step_s)):
        whole: Point | None = None
        for _, _, _, value, body in parts:
            try:
                point = decode(kind, value, body)
            except ValueError as odd:
                _left_out(number, odd)
                continue
            whole = point if whole is None else add(whole, point)
        if whole is not None:
            rolled.append((number, at_s * coarser.step_s, *encode(whole)))
    connection.executemany(f"INSERT OR REPLACE INTO {coarser.name} VALUES (?, ?, ?, ?)", rolled)  # noqa: S608


def _left_out(number: int, odd: ValueError) -> None:
    log.error("a row of metrics.db is left out", extra={"series": number, "reason": str(odd)})


def _cut(connection: sqlite3.Connection, level: Level, before_s: int) -> None:
    """Delete the level's cells before `before_s`, but none that the next level still needs."""
    following = {MINUTE.name: FIVE.name, FIVE.name: HOUR.name}.get(level.name)
    with transaction(connection):
        held = {each.name: each for each in read_levels(connection)}
        before_s = min(before_s, held[following].until_s if following else level.until_s)
        before_s = before_s // HOUR.step_s * HOUR.step_s
        if before_s <= level.since_s:
            return
        connection.execute(
            f"DELETE FROM {level.name} WHERE (series, at) IN (SELECT c.series, c.at FROM series s CROSS JOIN"  # noqa: S608
            f" {level.name} c ON c.series = s.id WHERE c.at < ?)",
            (before_s,),
        )
        write_level(connection, held[level.name]._replace(since_s=before_s))
