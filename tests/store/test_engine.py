"""What a write promises, and which database is opened."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from stoker.store import migrate, schema, settings
from stoker.store.engine import Database, SchemaTooNew, open_engine, schema_version, sqlite_url
from stoker.types.errors import Unavailable

MIGRATE = """
import sys
from pathlib import Path
from stoker.store import migrate
from stoker.store.engine import open_engine, sqlite_url
sys.stdin.readline()
migrate.upgrade(open_engine(sqlite_url(Path(sys.argv[1]))))
"""


def test_the_migrations_make_exactly_the_schema(database: Database) -> None:
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    assert schema_version(database.engine) == schema.VERSION


def test_an_empty_database_says_so_and_migrating_twice_changes_nothing(path: Path) -> None:
    engine = open_engine(sqlite_url(path))
    assert schema_version(engine) == ""
    migrate.upgrade(engine)
    migrate.upgrade(engine)
    assert schema_version(engine) == schema.VERSION
    engine.dispose()


def test_processes_that_migrate_at_once_make_one_schema(path: Path) -> None:
    racers = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, str(path)], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write(b"go\n")
        racer.stdin.flush()
    for racer in racers:
        assert racer.communicate(timeout=60)[1] == b""
        assert racer.returncode == 0
    engine = open_engine(sqlite_url(path))
    assert schema_version(engine) == schema.VERSION
    engine.dispose()


def test_a_database_from_the_future_is_refused_with_what_to_do(database: Database) -> None:
    database.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num='9999'")))
    with pytest.raises(SchemaTooNew, match="start the newer stoker again"):
        schema_version(database.engine)


def test_a_commit_is_on_disk_and_readers_do_not_wait_for_the_writer(database: Database) -> None:
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 5000
    with database.engine.begin() as writing:
        settings.put(writing, "a", "1")
        assert database.read(lambda connection: settings.get(connection, "a")) is None
    assert database.read(lambda connection: settings.get(connection, "a")) == "1"


def test_a_write_that_raises_leaves_nothing(database: Database) -> None:
    def half(connection: object) -> None:
        settings.put(connection, "a", "1")  # type: ignore[arg-type]
        raise KeyError("b")

    with pytest.raises(KeyError):
        database.write(half)
    assert database.read(lambda connection: settings.get(connection, "a")) is None


def test_a_trial_returns_what_would_be_and_leaves_nothing(database: Database) -> None:
    def change(connection: object) -> str | None:
        settings.put(connection, "a", "1")  # type: ignore[arg-type]
        return settings.get(connection, "a")  # type: ignore[arg-type]

    assert database.trying(change) == "1"
    assert database.read(lambda connection: settings.get(connection, "a")) is None


def test_a_reference_to_nothing_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError):
        database.write(
            lambda connection: connection.execute(
                schema.aliases.insert().values(name="nothing", alias="prod", number=1)
            )
        )


def test_writes_from_many_tasks_all_happen(database: Database) -> None:
    def count(connection: object) -> int:
        value = int(settings.get(connection, "n") or 0) + 1  # type: ignore[arg-type]
        settings.put(connection, "n", str(value))  # type: ignore[arg-type]
        return value

    async def race() -> list[int]:
        return await asyncio.gather(*(database.writing(count) for _ in range(50)))

    assert sorted(asyncio.run(race())) == list(range(1, 51))


def test_a_full_disk_is_told_in_words(path: Path, database: Database) -> None:
    with database.engine.connect() as connection:
        pages = int(connection.exec_driver_sql("PRAGMA page_count").scalar() or 0)

    def fill(connection: object) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")  # type: ignore[attr-defined]
        settings.put(connection, "big", "x" * 1_000_000)  # type: ignore[arg-type]

    with pytest.raises(Unavailable, match="free some disk space"):
        database.write(fill)
    assert database.read(lambda connection: settings.get(connection, "big")) is None
