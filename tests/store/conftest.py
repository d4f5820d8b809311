"""A fresh database a test, at the newest schema."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.store import migrate
from stoker.store.engine import Database, open_engine, sqlite_url


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    engine = open_engine(sqlite_url(path))
    migrate.upgrade(engine)
    database = Database(engine)
    yield database
    database.close()
