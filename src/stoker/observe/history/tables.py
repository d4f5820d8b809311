"""metrics.db: what is in it, how it is opened, and what happens when it cannot be.

One row a series and cell, and only in cells where something happened. SQLite in WAL with synchronous=NORMAL: a killed
process loses nothing committed, a power cut at most the last minutes, neither breaks the file. The numbers can be lost
without harm to what runs, so a file that is broken or of another version is moved aside and a new one begun.
"""

import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from stoker.observe.history.levels import LEVELS, Level
from stoker.observe.port import Series

VERSION: Final = 1
BUSY_TIMEOUT_S: Final = 5.0
CACHE_KIB: Final = 4000
WAL_BYTES_MAX: Final = 16 << 20  # what is left of the log file after it was larger
_CELLS: Final = """CREATE TABLE {} (
  series INTEGER NOT NULL, at INTEGER NOT NULL, value REAL NOT NULL, body BLOB, PRIMARY KEY (series, at)
) STRICT, WITHOUT ROWID"""
_SCHEMA: Final = (
    # labels: a JSON object, sorted. newest: when the series last counted, to the hour.
    """CREATE TABLE series (
  id INTEGER PRIMARY KEY AUTOINCREMENT, metric TEXT NOT NULL, kind TEXT NOT NULL, labels TEXT NOT NULL,
  newest INTEGER NOT NULL, UNIQUE (metric, kind, labels)
) STRICT""",
    *(_CELLS.format(level.name) for level in LEVELS),
    # The time that a level covers, from `since` until `until`. Moves in the transaction of the rows it speaks of.
    "CREATE TABLE levels (name TEXT PRIMARY KEY, since INTEGER NOT NULL, until INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    # What each process had counted when its last row was written: so a restart of control counts nothing twice.
    """CREATE TABLE processes (
  process TEXT PRIMARY KEY, boot TEXT NOT NULL, seen_at INTEGER NOT NULL, counted BLOB NOT NULL
) STRICT""",
    f"PRAGMA user_version = {VERSION}",
)
# SQLITE_CORRUPT, SQLITE_NOTADB, SQLITE_READONLY_DBMOVED (the file was deleted or replaced under us).
_BROKEN: Final = {11, 26, 1032}

log = logging.getLogger(__name__)


def is_broken(problem: BaseException) -> bool:
    """Return whether `problem` means that the file is not to be used any more (and not that the disk is full)."""
    code = getattr(problem, "sqlite_errorcode", 0) or 0
    return code in _BROKEN or code & 0xFF in {11, 26}


def open_for_writing(path: Path, bytes_max: int) -> tuple[sqlite3.Connection, bool]:
    """Return a connection to metrics.db, made if need be, and whether it is new. Raises OSError, sqlite3.Error.

    The connection is for one thread at a time, any.
    """
    for attempt in (1, 2):
        connection = _connect(path)
        try:
            is_new = _prepare(connection, bytes_max)
        except sqlite3.Error as problem:
            connection.close()
            if attempt == 2 or not is_broken(problem):
                raise
            move_aside(path, str(problem))
        else:
            path.chmod(0o600)
            return connection, is_new
    raise AssertionError("unreachable")


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Return a second connection, which sees what is committed and writes nothing. Raises sqlite3.Error."""
    connection = _connect(path)
    connection.execute("PRAGMA query_only = ON")
    return connection


def move_aside(path: Path, because: str) -> None:
    """Rename a file that cannot be used, and delete the one that was moved before it. Raises OSError."""
    aside = path.with_name(f"{path.name}.broken-{int(time.time())}")
    log.error("%s cannot be used; a new one is begun", path.name, extra={"reason": because, "kept_as": aside.name})
    for old in path.parent.glob(f"{path.name}.broken-*"):
        old.unlink(missing_ok=True)
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))


def read_levels(connection: sqlite3.Connection) -> tuple[Level, ...]:
    """Return the levels with the time they cover, from the finest; an empty file's cover none."""
    held = {name: (since, until) for name, since, until in connection.execute("SELECT name, since, until FROM levels")}
    return tuple(
        level._replace(since_s=held.get(level.name, (0, 0))[0], until_s=held.get(level.name, (0, 0))[1])
        for level in LEVELS
    )


def write_level(connection: sqlite3.Connection, level: Level) -> None:
    """Store the time that a level covers."""
    connection.execute("INSERT OR REPLACE INTO levels VALUES (?, ?, ?)", (level.name, level.since_s, level.until_s))


def bytes_used(connection: sqlite3.Connection) -> int:
    """Return what the rows take; what was deleted and waits to be used again does not count."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def labels_text(series: Series) -> str:
    """Return a series' labels as they are stored."""
    return msgspec.json.encode(dict(series.labels)).decode()


def read_series(connection: sqlite3.Connection) -> dict[Series, int]:
    """Return every series with its id."""
    rows = connection.execute("SELECT id, metric, kind, labels FROM series")
    return {
        Series(metric, kind, tuple(sorted(msgspec.json.decode(labels, type=dict[str, str]).items()))): number
        for number, metric, kind, labels in rows
    }


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return connection


def _prepare(connection: sqlite3.Connection, bytes_max: int) -> bool:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, VERSION):
        raise _other_version(version)
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # heard only before the first table
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
    # The last wall: `forget` keeps the rows under the maximum, and what would still pass it fails as a full disk does.
    page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {bytes_max // page_bytes * 5 // 4}")
    if version == VERSION:
        read_levels(connection)
        return False
    with transaction(connection):
        for statement in _SCHEMA:
            connection.execute(statement)
    return True


def _other_version(version: int) -> sqlite3.DatabaseError:
    problem = sqlite3.DatabaseError(f"it has schema {version}, this stoker knows {VERSION}")
    problem.sqlite_errorcode = 26
    return problem


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block, or none of it, however it ends."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # a full disk may have rolled back already
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
