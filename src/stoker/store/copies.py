"""A database as a file of its own, from one moment, while others write to it; and what its rows need besides."""

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Final

from stoker.store import audit, models, releases, schema
from stoker.store.engine import Connection, open_engine, schema_version, sqlite_url
from stoker.types.errors import Conflict, Unavailable
from stoker.types.ids import Digest

KEPT: Final = 3  # copies of before a migration; the oldest go


def copy(source: Path, target: Path) -> None:
    """Copy a database of SQLite as it is at one moment; who writes does not wait. Raises Unavailable."""
    try:
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new)
    except sqlite3.Error as failed:
        target.unlink(missing_ok=True)
        raise Unavailable(f"{source} could not be copied: {failed}") from failed
    target.chmod(0o600)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def copy_before(database: Path, version: str) -> Path:
    """Copy state.db before it is migrated from `version`, and return where to. Raises Unavailable; then do not migrate.

    A stoker of before starts from that copy.
    """
    target = database.with_name(f"{database.name}.schema-{version}")
    partial = target.with_name(f"{target.name}.partial")
    copy(database, partial)
    partial.rename(target)
    known = sorted(database.parent.glob(f"{database.name}.schema-[0-9]*[0-9]"), key=lambda each: each.name)
    for old in known[:-KEPT]:
        old.unlink(missing_ok=True)
    return target


def needed(database: Path) -> tuple[set[Digest], list[str]]:
    """Return which blobs a copy of state.db needs, and its audit's checkpoints. Raises Conflict, SchemaTooNew.

    Checkpoints are taken from there and not from their file: that may know of later rows.
    """
    engine = open_engine(sqlite_url(database))
    try:
        found = schema_version(engine)
        if found != schema.VERSION:
            raise Conflict(f"the database is at schema {found}, this stoker at {schema.VERSION}; start it once before")
        with engine.connect() as connection:
            return set(_digests(connection)), audit.lines(connection)
    finally:
        engine.dispose()


def is_whole(database: Path) -> bool:
    """Return whether a copy can be read from end to end, with every reference of its rows."""
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?immutable=1", uri=True)) as opened:
            said = opened.execute("PRAGMA quick_check").fetchall()
            return said == [("ok",)] and not opened.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.Error:
        return False


def _digests(connection: Connection) -> Iterable[Digest]:
    for version in models.everything(connection):
        for file in version.manifest.files:
            yield file.digest
    yield from releases.golden_digests(connection)
