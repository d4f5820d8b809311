"""A replica that died and runs again is told in the journal, once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.control import deaths
from stoker.core.snapshot import Node
from stoker.store import journal
from stoker.store.engine import Database
from stoker.types.ids import NodeName
from stoker.types.process import ProcessStatus
from tests.databases import migrated

NOW_S = 10_000.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    engine = migrated(tmp_path / "state.db")
    database = Database(engine)
    yield database
    database.close()


def node(restarts: int, *, started_s: float = NOW_S - 1, crashes: int = 1, error: str = "answered no PING") -> Node:
    one = ProcessStatus(
        "default.a-1-x", "replica", "ready", started_at_s=started_s, restarts=restarts, crashes_in_row=crashes,
        last_exit="killed by SIGKILL", last_error=error, labels={"project": "default", "endpoint": "a"},
    )  # fmt: skip
    return Node(NodeName("local"), 4.0, 1 << 30, NOW_S, {one.name: one})


def told(database: Database) -> list[tuple[str, str, float]]:
    every = database.read(lambda each: journal.last(each, 10, "default", "a"))
    return [(one.action, one.because, one.at_s) for one in every]


def note(database: Database, seen: Node, before: dict[str, int], now_s: float = NOW_S) -> dict[str, int]:
    return database.write(lambda each: deaths.note(each, [seen], before, now_s))


def test_a_restart_is_told_once_with_its_reason_also_over_a_restart_of_control(database: Database) -> None:
    known = note(database, node(0), {})
    assert told(database) == []
    known = note(database, node(1), known)
    note(database, node(1), known)
    note(database, node(1), {})
    assert told(database) == [("ReplicaRestarted", "answered no PING", NOW_S - 1)]
    note(database, node(2, started_s=NOW_S + 30), known, NOW_S + 31)
    assert len(told(database)) == 2


def test_what_was_long_ago_and_what_crashes_again_and_again_is_not_told(database: Database) -> None:
    note(database, node(1, started_s=NOW_S - 3600), {})
    note(database, node(5, crashes=5), {})
    assert told(database) == []


def test_a_start_without_its_moment_yet_is_told_when_that_is_known(database: Database) -> None:
    known = note(database, node(1, started_s=0.0), {})
    assert told(database) == []
    note(database, node(1), known)
    assert len(told(database)) == 1
