"""feedback.db: what is in it, and how it is opened.

Predictions by project, request and the revision that made them; labels that came before their prediction wait beside
them. It can be lost without harm to what runs: a file that is broken or of another version is moved aside.
"""

import sqlite3
from pathlib import Path
from typing import Final

from stoker.observe.history.tables import BUSY_TIMEOUT_S, WAL_BYTES_MAX, is_broken, move_aside, transaction

VERSION: Final = 1
BYTES_MAX: Final = 1 << 30
_SCHEMA: Final = (
    # at: unix time of the prediction. how, given, labelled: its core.feedback.Label; score, error: the Verdict.
    """CREATE TABLE predictions (
  project TEXT NOT NULL, id TEXT NOT NULL, endpoint TEXT NOT NULL, revision TEXT NOT NULL, at REAL NOT NULL,
  said ANY NOT NULL, confidence REAL, segment TEXT NOT NULL, tolerance REAL,
  how TEXT, given ANY, labelled REAL, score REAL, error REAL,
  PRIMARY KEY (project, id, endpoint, revision)
) STRICT, WITHOUT ROWID""",
    # Holds all that is summed up: a scan that fetched each row besides took 3.3 s instead of 0.4 s for 200,000.
    "CREATE INDEX by_time ON predictions (project, endpoint, at, segment, revision, labelled, score, error)",
    """CREATE INDEX by_confidence ON predictions (project, endpoint, at)
  WHERE score IS NOT NULL AND confidence IS NOT NULL""",
    """CREATE TABLE early (
  project TEXT NOT NULL, id TEXT NOT NULL, how TEXT NOT NULL, given ANY NOT NULL, at REAL NOT NULL, until REAL NOT NULL,
  PRIMARY KEY (project, id)
) STRICT, WITHOUT ROWID""",
    "CREATE INDEX by_end ON early (until)",
    f"PRAGMA user_version = {VERSION}",
)

# Of a file that an earlier release made these are missing; it is used on.
_LATER: Final = (
    """CREATE TABLE IF NOT EXISTS amounts (
  project TEXT NOT NULL, id TEXT NOT NULL, endpoint TEXT NOT NULL, name TEXT NOT NULL, amount REAL NOT NULL,
  at REAL NOT NULL, PRIMARY KEY (project, id, endpoint, name)
) STRICT, WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS amounts_by_time ON amounts (project, endpoint, at, name, amount)",
    """CREATE TRIGGER IF NOT EXISTS amounts_go AFTER DELETE ON predictions BEGIN
  DELETE FROM amounts WHERE project = OLD.project AND id = OLD.id AND endpoint = OLD.endpoint; END""",
)


def open_file(path: Path) -> sqlite3.Connection:
    """Return a connection to feedback.db, made if need be, for one thread at a time. Raises OSError, sqlite3.Error."""
    for attempt in (1, 2):
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection)
            path.chmod(0o600)
        except sqlite3.Error as problem:
            connection.close()
            if attempt == 2 or not is_broken(problem):
                raise
            move_aside(path, str(problem))
        else:
            return connection
    raise AssertionError("unreachable")


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Return a second connection, which sees what is committed and writes nothing. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, VERSION):
        problem = sqlite3.DatabaseError(f"it has schema {version}, this stoker knows {VERSION}")
        problem.sqlite_errorcode = sqlite3.SQLITE_NOTADB
        raise problem
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
    page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {BYTES_MAX // page_bytes}")
    if version == 0:
        with transaction(connection):
            for statement in _SCHEMA:
                connection.execute(statement)
    with transaction(connection):
        for statement in _LATER:
            connection.execute(statement)
