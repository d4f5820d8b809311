"""How control talks to its database: one writer at a time, readers beside it, and a write is done when it is on disk.

SQLite (the default) runs in WAL with synchronous=FULL: a committed write survives a power cut, readers never wait
for the writer. Another database is a URL away; what differs is in this file alone.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from stoker.store import audit, recording, schema
from stoker.types.audit import Row
from stoker.types.errors import StokerError, Unavailable

# The rooms above pass a connection on and never make one; they take its name from here.
__all__ = ["Connection", "Database", "SchemaTooNew", "open_engine", "schema_version", "sqlite_url"]

BUSY_TIMEOUT_S: Final = 5.0
READERS: Final = 2
# Pages in memory; the default of SQLite, said so that nobody wonders.
CACHE_KIB: Final = 2000

_T = TypeVar("_T")
_READ_ONLY: Final = {"stoker_read_only": True}


class SchemaTooNew(StokerError):
    """The database was written by a newer stoker."""

    code = "schema_too_new"
    status = 500


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return f"sqlite:///{path}"


def open_engine(url: str) -> Engine:
    """Return an engine for `url`; nothing is opened yet."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, pool_size=READERS + 1, max_overflow=0)
    engine = create_engine(
        url,
        pool_size=READERS + 1,
        max_overflow=0,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def schema_version(engine: Engine) -> str:
    """Return which migration the database is at; "" for an empty one. Raises SchemaTooNew."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return ""
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or ""
    if found > schema.VERSION:
        raise SchemaTooNew(
            f"the database is at schema {found}, this stoker knows {schema.VERSION}; start the newer stoker again"
        )
    return str(found)


class Database:
    """Reads and writes as functions of a connection: `database.write(lambda c: projects.put(c, …))`.

    A write returns after its commit, or raises and left nothing. A whole disk becomes Unavailable. Whoever acts
    (store/recording.py) is written down in the same transaction; `audited` hears of each row of the audit once it is
    stored, in the writer's thread.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.audited: Callable[[Row], None] = lambda _row: None
        # One writer: SQLite has one anyway, and here it waits in a queue instead of in a busy loop.
        self._writer = ThreadPoolExecutor(1, "store-write")
        self._readers = ThreadPoolExecutor(READERS, "store-read")

    def read(self, ask: Callable[[Connection], _T]) -> _T:
        """Return what `ask` finds, all of it from one moment."""
        with self.engine.connect().execution_options(**_READ_ONLY) as connection:
            return ask(connection)

    def write(self, change: Callable[[Connection], _T]) -> _T:
        """Run `change` in one transaction and return what it returned, after the commit."""
        try:
            with self.engine.begin() as connection:
                connection.info.pop(audit.APPENDED, None)
                result = recording.recorded(connection, change)
                row = connection.info.pop(audit.APPENDED, None)
        except OperationalError as failed:
            raise _told(failed) from failed
        if row is not None:
            self.audited(row)
        return result

    def trying(self, change: Callable[[Connection], _T]) -> _T:
        """Return what `change` would return, and undo it."""
        with self.engine.connect() as connection:
            result = change(connection)
            connection.rollback()
            return result

    async def reading(self, ask: Callable[[Connection], _T]) -> _T:
        """`read`, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read, ask)

    async def writing(self, change: Callable[[Connection], _T]) -> _T:
        """`write`, in the writer's thread. Cancelling the caller does not undo it."""
        context = copy_context()  # who acts
        return await asyncio.get_running_loop().run_in_executor(self._writer, context.run, self.write, change)

    def close(self) -> None:
        """Finish what runs and close every connection."""
        self._writer.shutdown()
        self._readers.shutdown()
        self.engine.dispose()


def _prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # The driver must not begin transactions by itself: `_begin` says which kind. See SQLAlchemy, "pysqlite
    # transactional behaviour".
    raw: Any = connection
    raw.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        f"busy_timeout={int(BUSY_TIMEOUT_S * 1000)}",
        "foreign_keys=ON",
        f"cache_size=-{CACHE_KIB}",
    ):
        raw.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    # A write takes the lock at once: one that began as a reader could only fail when it turns writer.
    read_only = connection.get_execution_options().get("stoker_read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _told(failed: DBAPIError) -> Exception:
    words = str(failed.orig)
    if "disk is full" in words or "disk I/O error" in words:
        return Unavailable(f"the state database cannot be written: {words}; free some disk space", retry_after_s=5.0)
    if "database is locked" in words:
        return Unavailable("the state database is held by another process", retry_after_s=1.0)
    return failed
