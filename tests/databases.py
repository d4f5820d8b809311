"""Databases at the newest schema: migrated once a process of tests, then copied; tests/store tries migrations."""

import functools
import tempfile
from pathlib import Path

from sqlalchemy import Engine

from stoker.store import migrate
from stoker.store.engine import open_engine, sqlite_url


def migrated(path: Path) -> Engine:
    """Write an empty database to `path` and return an engine for it."""
    path.write_bytes(_empty())
    return open_engine(sqlite_url(path))


@functools.cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.db"
        engine = open_engine(sqlite_url(path))
        migrate.upgrade(engine)
        engine.dispose()  # the last connection leaves all of it in the one file
        assert not list(Path(folder).glob("state.db-*"))
        return path.read_bytes()
