"""The audit in a file: a copy of state.db, or an export, read without a platform and without changing anything."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from stoker.store import schema_audit
from stoker.types.audit import Row
from stoker.types.errors import InvalidInput

_MAGIC: Final = b"SQLite format 3\0"


def is_database(path: Path) -> bool:
    """Return whether a file is a database of SQLite. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a copy of state.db, by their sequence. Raises InvalidInput."""
    names = ", ".join(column.name for column in schema_audit.audit.columns)
    for found in _read(path, f"SELECT {names} FROM audit ORDER BY sequence"):  # noqa: S608 - names of our own
        yield Row(*found)


def lines(path: Path) -> list[str]:
    """Return the checkpoints that are kept with the rows. Raises InvalidInput."""
    return [str(line) for (line,) in _read(path, "SELECT line FROM audit_checkpoints ORDER BY number")]


def _read(path: Path, ask: str) -> Iterator[tuple[Any, ...]]:
    try:
        with closing(_opened(path)) as database:
            database.text_factory = _text
            yield from database.execute(ask)
    except sqlite3.Error as wrong:
        raise InvalidInput(f"the audit of {path} cannot be read: {wrong}") from wrong


def _opened(path: Path) -> sqlite3.Connection:
    """Return a connection that cannot write; to a copy without its log, or on a disk that is read-only, too."""
    where = path.resolve().as_uri()
    database = sqlite3.connect(f"{where}?mode=ro", uri=True)
    try:
        database.execute("SELECT 1 FROM audit LIMIT 1")
    except sqlite3.OperationalError:
        database.close()
        database = sqlite3.connect(f"{where}?immutable=1", uri=True)
    return database


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")  # what is no text was changed: its hash says so
