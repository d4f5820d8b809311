"""A fresh database a test, at the newest schema."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.store.engine import Database
from tests.databases import migrated


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    made = Database(migrated(path))
    yield made
    made.close()
