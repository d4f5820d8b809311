"""What is written down in a transaction, who closes the audit with what, and what may go when."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, text

from stoker.control import remedies, steering
from stoker.control.audit.auditor import DAY_US, Auditor
from stoker.control.audit.copies import copy_to
from stoker.control.releases.keys import Signer
from stoker.control.steering import Word
from stoker.core.alerts import Alert
from stoker.core.audit import chain
from stoker.core.diagnose import incident as life
from stoker.core.notices import AlertMemory
from stoker.core.rollout.state import Entry
from stoker.store import (
    alerts,
    audit,
    audit_project,
    incidents,
    journal,
    projects,
    recording,
    rollouts,
    schema,
    schema_audit,
)
from stoker.store.engine import Connection, Database
from stoker.telemetry.metrics import Registry
from stoker.types.audit import AuditEvent, Hold
from stoker.types.errors import Conflict
from stoker.types.remedies import Act
from stoker.types.rollouts import ArmCounts, Arms
from tests.control.test_steering import begun
from tests.databases import migrated
from tests.store import rows

ANN = recording.Actor("ann", "PUT /x", "10.0.0.1", "r1", ("project default",))
NOW_US = 2_000 * DAY_US


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    engine = migrated(tmp_path / "state.db")
    made = Database(engine)
    yield made
    made.close()


def auditor(database: Database, folder: Path, *, place: str = "", keep_days: int = 400) -> Auditor:
    signer = Signer(folder / "platform.key")
    return Auditor(
        database, signer, folder / "audit.checkpoints", copy_to(place, database), keep_days, Registry("control")
    )


def events(database: Database) -> list[AuditEvent]:
    return database.read(lambda connection: [chain.event_of(row) for row in audit.everything(connection)])


def act(database: Database, number: int, at_us: int = 0) -> None:
    """Write a row down, as of a moment."""
    made = recording.Actor("ann", "PUT /x", resources=(f"endpoint p{number % 2}/a",)).act("done")
    database.write(
        lambda connection: audit.append(connection, msgspec.structs.replace(made, at_us=at_us or made.at_us))
    )


# ── what a transaction leaves ────────────────────────────────────────────────────────────────────────────────────────


def test_every_table_is_recorded_or_has_a_reason_not_to_be() -> None:
    known = {*recording.RECORDED, *recording.UNRECORDED}
    assert {table.name for table in schema.metadata.tables.values()} == {table.name for table in known}
    assert not recording.RECORDED.keys() & recording.UNRECORDED.keys()


def test_what_is_undone_leaves_no_row_and_what_nobody_asked_for_neither(database: Database) -> None:
    def half(connection: Connection) -> None:
        projects.put(connection, rows.project(), 1.0)
        raise KeyError

    with recording.acting(ANN), pytest.raises(KeyError):
        database.write(half)
    with recording.acting(ANN):
        database.trying(lambda connection: projects.put(connection, rows.project(), 1.0))
        database.write(lambda connection: journal.add(connection, journal.Entry(1.0, "Test", "because")))
        with recording.acting(None):
            database.write(lambda connection: projects.put(connection, rows.project(), 1.0))
    database.write(lambda connection: projects.put(connection, rows.project("b"), 1.0))
    assert events(database) == []


def test_who_acts_follows_an_operation_into_the_writers_thread_and_no_other(database: Database) -> None:
    async def one(name: str) -> None:
        with recording.acting(named(name)):
            await database.writing(lambda connection: projects.put(connection, rows.project(name), 1.0))

    async def all_at_once() -> None:
        await asyncio.gather(*(one(f"p{number}") for number in range(20)))

    asyncio.run(all_at_once())
    assert {each.actor: each.changes[0].what for each in events(database)} == {
        f"p{number}": f"project p{number}" for number in range(20)
    }


def named(name: str) -> recording.Actor:
    return recording.Actor(name, "PUT /x")


def test_many_statements_on_a_row_are_one_change_from_before_the_first_to_after_the_last(database: Database) -> None:
    def change(connection: Connection) -> None:
        for second in (1.0, 2.0):
            projects.put(connection, rows.project(), second)
        projects.put(connection, rows.project("gone"), 1.0)
        projects.remove(connection, "gone")
        journal.add(connection, journal.Entry(1.0, "ApplyProject", "asked to"))

    with recording.acting(ANN):
        database.write(change)
    (event,) = events(database)
    assert (event.actor, event.origin, event.request, event.because) == (
        "ann",
        "10.0.0.1",
        "r1",
        "ApplyProject: asked to",
    )
    assert [(each.what, each.did) for each in event.changes] == [("project default", "create")]
    assert event.resources == ("project default",)


@pytest.mark.parametrize("told", ["rollout", "judged", "ack"])
def test_what_is_said_to_a_rollout_or_an_alert_is_told_before_and_after(database: Database, told: str) -> None:
    alert = Alert("a", {}, "page", "firing", "s", "b", "", 1.0, 1.0)
    database.write(lambda connection: begun(connection, "stepping"))
    database.write(lambda connection: alerts.save(connection, alerts.WatchMemory(AlertMemory({"a": alert}))))
    taken = msgspec.structs.replace(alert, state="acknowledged", acknowledged_by="ann")
    name = str(rows.endpoint().metadata.name)
    ways: dict[str, Callable[[Connection], Any]] = {
        "rollout": lambda each: steering.say(each, "default", name, "pause", Word(), 1.0),
        "judged": lambda each: steering.judged(each, "default", name, "bleu", Arms(ArmCounts(1), ArmCounts(1)), "i"),
        "ack": lambda each: alerts.save(each, alerts.WatchMemory(AlertMemory({"a": taken}))),
    }
    with recording.acting(ANN):
        database.write(ways[told])
    (event,) = events(database)
    (change,) = event.changes
    fields = {each.field: (each.before, each.after) for each in change.fields}
    if told == "ack":
        assert fields["value.alerts.alerts.a.state"] == ("firing", "acknowledged")
    elif told == "rollout":
        assert fields.keys() == {"ordered", "posted"}  # and who said it, for the next turn
        assert fields["ordered"] == ("", "pause")
    else:
        assert list(fields) == ["posted"]


def test_what_the_platform_does_by_itself_is_written_down_and_its_looks_are_not(database: Database) -> None:
    state = database.write(lambda connection: begun(connection, "stepping"))
    back = msgspec.structs.replace(state, phase="returning")
    look, worse = Entry(2.0, "look", "stepping", "fine"), Entry(3.0, "worse", "returning", "errors")
    database.write(lambda connection: rollouts.keep(connection, state, (look,)))
    database.write(lambda connection: rollouts.keep(connection, back, (worse,)))
    one = database.write(lambda each: incidents.add(each, life.opened("default", "a", "test", 1.0)))
    remedy = Act(1, "restart", "a-1-x", "it hangs", 1.0)
    database.write(lambda each: remedies._note(each, one, "Remedy", "restart", remedy, 1.0))
    found = events(database)
    assert [(each.actor, each.action) for each in found] == [("platform", "rollout returning"), ("platform", "Remedy")]
    assert found[0].because.endswith(": errors")


# ── checkpoints ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_audit_is_closed_after_each_row_and_what_a_killed_control_left_is_completed(
    database: Database, tmp_path: Path
) -> None:
    async def work() -> None:
        mine = auditor(database, tmp_path)
        task = asyncio.create_task(mine.run())
        path = tmp_path / "audit.checkpoints"
        for number in range(1, 4):
            await asyncio.to_thread(act, database, number)
            while not (path.exists() and path.read_text().count("\n") == number):
                await asyncio.sleep(0.01)
        assert (await mine.verdict()).problems == ()
        task.cancel()
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])  # as a control that is killed leaves it
        again = auditor(database, tmp_path)
        await again.seal()
        assert path.read_bytes() == b"".join(lines)
        path.write_bytes(b"".join(lines[1:]))
        bent = auditor(database, tmp_path)
        await bent.seal()
        assert path.read_bytes() == b"".join(lines[1:])  # somebody's hand: it is told, and left as it is
        assert "line 1 of the file is not" in (await bent.verdict()).problems[0]

    asyncio.run(work())


def test_rows_that_another_hand_wrote_are_not_signed_for(database: Database, tmp_path: Path) -> None:
    async def work() -> None:
        mine = auditor(database, tmp_path)
        task = asyncio.create_task(mine.run())
        await asyncio.sleep(0)  # it listens
        await asyncio.to_thread(act, database, 1)
        await mine.seal()
        forged = database.read(lambda each: audit.get(each, 1))
        row = chain.row(recording.Actor("mallory", "PUT /x").act("done"), 2, forged.hash)
        with closing(sqlite3.connect(tmp_path / "state.db")) as other, other:
            values = [
                getattr(row, name) for name in ("sequence", "at_us", "actor", "action", "resources", "event", "hash")
            ]
            other.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        with pytest.raises(Conflict, match="not the one that was written"):
            await mine.seal()
        assert (await mine.verdict()).sealed == 1
        task.cancel()

    asyncio.run(work())


def test_a_second_place_gets_every_checkpoint_once_also_after_it_was_away(database: Database, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere" / "copy"

    async def work() -> None:
        mine = auditor(database, tmp_path, place=str(place))
        copy = copy_to(str(place), database)
        assert copy is not None
        for number in range(3):
            act(database, number)
            await mine.seal()
            if number == 0:
                assert await mine._send(copy)  # there is no such folder yet
                place.parent.mkdir()
            else:
                assert not await mine._send(copy)
        assert place.read_text().splitlines() == await mine.lines()

    asyncio.run(work())


# ── what may go ──────────────────────────────────────────────────────────────────────────────────────────────────────


def aged(database: Database, mine: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten rows, one a day, each closed, the last now."""
    for number in range(10):
        at_us = NOW_US - (9 - number) * DAY_US
        act(database, number, at_us)
        monkeypatch.setattr(time, "time_ns", lambda at_us=at_us: at_us * 1000)
        asyncio.run(mine.seal())


@pytest.mark.parametrize(("held", "left"), [("", 7), ("p1", 1), ("p0", 0), ("*", 0), ("p7", 7)])
def test_old_rows_go_up_to_a_signed_root_unless_they_are_held(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: str, left: int
) -> None:
    mine = auditor(database, tmp_path, keep_days=3)
    aged(database, mine, monkeypatch)
    if held:
        database.write(lambda each: audit.hold(each, Hold(held, "a court asks", 1.0, "ann")))
    gone = 6 if left == 7 else left
    assert asyncio.run(mine.let_go(NOW_US)) == gone
    found = asyncio.run(mine.verdict())
    assert (found.problems, found.first) == ((), gone + 1)
    assert asyncio.run(mine.let_go(NOW_US)) == 0
    if gone:
        (told,) = [each for each in events(database) if each.action == "drop old rows"]
        assert told.because == f"rows up to {gone} were older than 3 days and nothing held them"
        assert found.checkpoints == 2
    database.write(lambda each: each.execute(text(f"DELETE FROM audit WHERE sequence = {gone + 1}")))
    assert asyncio.run(mine.verdict()).problems


def strewn(database: Database, *sequences: int) -> None:
    """Write rows about the project `p` at these places, as if there were others between."""
    act = recording.Actor("ann", "PUT /x", resources=("endpoint p/a",), within="p").act("done")

    def change(connection: Connection) -> None:
        made = [chain.row(msgspec.structs.replace(act, at_us=each), each, chain.ROOT) for each in sequences]
        connection.execute(insert(schema_audit.audit), [msgspec.structs.asdict(each) for each in made])

    database.write(change)


def looked(database: Database, before: str = "", **asked: Any) -> tuple[audit_project.Look, int]:
    """Return a page, and in how many stretches it was read."""
    question = audit.Question(**asked)
    look = database.read(lambda connection: audit_project.begin(connection, "p", question, 0, before))
    stretches = 0
    while not look.is_over:
        database.read(lambda connection: audit_project.go_on(connection, look))
        stretches += 1
    return look, stretches


def test_a_projects_rows_are_found_a_stretch_at_a_time_however_far_they_lie_apart(database: Database) -> None:
    far = audit_project.STRETCH
    strewn(database, 1, 2, far, far + 1, 3 * far)
    whole, stretches = looked(database)
    assert ([each.at_us for each in whole.found], whole.has_more) == ([3 * far, far + 1, far, 2, 1], False)
    assert stretches <= 4
    first, _ = looked(database, limit=3)
    assert ([each.at_us for each in first.found], first.has_more) == ([3 * far, far + 1, far], True)
    rest, _ = looked(database, before=first.last, limit=3)
    assert ([each.at_us for each in rest.found], rest.has_more) == ([2, 1], False)


def test_a_filter_that_finds_nothing_ends_a_page_and_says_where_to_go_on(database: Database) -> None:
    strewn(database, *range(1, audit_project.LOOK_MAX + 3))
    none, _ = looked(database, actor="bob")
    assert (none.found, none.looked, none.has_more) == ([], audit_project.LOOK_MAX, True)
    rest, _ = looked(database, before=none.last, actor="ann")
    assert [each.at_us for each in rest.found] == [2, 1]
