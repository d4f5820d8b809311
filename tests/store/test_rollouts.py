"""What the rows of rollouts promise: one number each, a timeline within bounds, and orders that are obeyed once."""

from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Column, MetaData, Table, insert

from stoker.core.rollout.state import Entry, Read, RolloutState
from stoker.core.verdict.judge import Finding, Line, Memory
from stoker.core.verdict.odds import Tally
from stoker.store import migrate, rollouts, schema
from stoker.store.engine import Connection, Database, open_engine, sqlite_url
from stoker.types.errors import InvalidInput, NotFound
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.rollouts import POSTED_MAX, WRONG, ArmCounts, Arms, Rollout, RolloutCounts


def state(canary: str = "default.a-2", endpoint: str = "a", **fields: object) -> RolloutState:
    begun = RolloutState(
        project=ProjectName("default"),
        endpoint=EndpointName(endpoint),
        baseline="default.a-1",
        canary=canary,
        spec=Rollout(),
        strategy="canary",
        phase="stepping",
        because="a test",
        began_s=1.0,
        since_s=1.0,
    )
    return msgspec.structs.replace(begun, **fields)


def entry(event: str, at_s: float = 1.0) -> Entry:
    return Entry(at_s, event, "stepping", "a test")


def test_a_rollout_keeps_its_number_and_what_is_stored_comes_back_whole(database: Database) -> None:
    def work(connection: Connection) -> None:
        first = rollouts.keep(connection, state(), (entry("began"),))
        other = rollouts.keep(connection, state("default.b-2", "b"))
        changed = msgspec.structs.replace(first, weight=10)
        assert rollouts.keep(connection, changed, (entry("ready"),)) == changed
        assert rollouts.get(connection, "default", first.number).state == changed
        assert [each.event for each in rollouts.timeline(connection, first.number)[0]] == ["began", "ready"]
        again = rollouts.keep(connection, state("default.a-3"))
        assert {each.state.number for each in rollouts.newest(connection)} == {other.number, again.number}
        assert [each.state.number for each in rollouts.everything(connection, "default", "a")] == [
            again.number,
            first.number,
        ]
        with pytest.raises(NotFound, match="no rollout 1 in project 'other'"):
            rollouts.get(connection, "other", first.number)

    database.write(work)


def test_an_order_waits_until_the_rollout_is_written_and_the_last_word_counts(database: Database) -> None:
    def work(connection: Connection) -> None:
        kept = rollouts.keep(connection, state())
        rollouts.order(connection, kept.number, "pause")
        rollouts.order(connection, kept.number, "abort")
        assert rollouts.newest(connection)[0].ordered == "abort"
        rollouts.keep(connection, kept)
        assert rollouts.newest(connection)[0].ordered == ""

    database.write(work)


def test_what_a_judge_told_outlives_what_the_loop_writes(database: Database) -> None:
    told = Arms(ArmCounts(60, {"judge": 30}), ArmCounts(60))

    def work(connection: Connection) -> None:
        kept = rollouts.keep(connection, state())
        assert rollouts.post(connection, kept.number, "judge", told, "first")
        rollouts.keep(connection, msgspec.structs.replace(kept, weight=50))
        assert rollouts.newest(connection)[0].posted == {"judge": told}

    database.write(work)


def test_what_is_told_again_under_its_id_counts_once_and_the_ids_are_bounded(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollouts, "POSTED_IDS_MAX", 3)
    told = Arms(ArmCounts(10, {"judge": 1}), ArmCounts(5))

    def work(connection: Connection) -> None:
        number = rollouts.keep(connection, state()).number
        counted = [rollouts.post(connection, number, "judge", told, id_) for id_ in ("a", "a", "b", "c", "b", "d", "a")]
        assert counted == [True, False, True, True, False, True, True]  # a was told three others ago
        kept = rollouts.newest(connection)[0].posted["judge"]
        assert (kept.canary.total, kept.canary.bad, kept.baseline.total) == (50, {"judge": 5}, 25)

    database.write(work)


def test_metrics_of_judges_are_bounded_and_one_place_is_kept_for_labels(database: Database) -> None:
    told = Arms(ArmCounts(1), ArmCounts(1))

    def work(connection: Connection) -> None:
        number = rollouts.keep(connection, state()).number
        for at in range(POSTED_MAX - 1):
            assert rollouts.post(connection, number, f"judge_{at}", told)
        with pytest.raises(InvalidInput, match="at most 7 metrics of judges"):
            rollouts.post(connection, number, "one_more", told)
        assert rollouts.post(connection, number, "judge_0", told)
        assert rollouts.grow(connection, number, WRONG, told)
        assert len(rollouts.newest(connection)[0].posted) == POSTED_MAX

    database.write(work)


def test_what_is_counted_anew_only_grows(database: Database) -> None:
    def work(connection: Connection) -> None:
        number = rollouts.keep(connection, state()).number
        steps = [(0, 0, True), (10, 3, True), (10, 3, False), (8, 5, True), (4, 1, False), (20, 1, True)]
        for total, bad, is_new in steps:
            now = Arms(ArmCounts(total, {WRONG: bad}), ArmCounts())
            assert rollouts.grow(connection, number, WRONG, now) is is_new, (total, bad)
        assert rollouts.newest(connection)[0].posted[WRONG].canary == ArmCounts(20, {WRONG: 5})

    database.write(work)


def test_the_newest_of_a_timeline_says_how_many_came_before(database: Database) -> None:
    def work(connection: Connection) -> None:
        kept = rollouts.keep(connection, state(), [entry("look", float(at)) for at in range(7)])
        for last, shown in ((0, []), (3, [4.0, 5.0, 6.0]), (50, [float(at) for at in range(7)])):
            found, earlier = rollouts.timeline(connection, kept.number, last)
            assert [each.at_s for each in found] == shown
            assert earlier == 7 - len(shown)

    database.write(work)


def test_only_what_has_not_ended_runs(database: Database) -> None:
    def work(connection: Connection) -> None:
        first = rollouts.keep(connection, state())
        rollouts.keep(connection, state("default.b-2", "b"))
        rollouts.keep(connection, msgspec.structs.replace(first, phase="promoted", ended_s=2.0))
        assert [each.state.endpoint for each in rollouts.running(connection)] == ["b"]

    database.write(work)


def test_a_timeline_that_is_full_loses_mere_looks_first(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "ENTRIES_MAX", 10)

    def work(connection: Connection) -> None:
        kept = rollouts.keep(connection, state(), (entry("began"),))
        for at in range(20):
            rollouts.keep(connection, kept, (entry("look", float(at)),))
        rollouts.keep(connection, kept, (entry("worse", 99.0),))
        events = rollouts.timeline(connection, kept.number)[0]
        assert len(events) == 10
        assert (events[0].event, events[-1].event) == ("began", "worse")
        assert [each.at_s for each in events[1:-1]] == [float(at) for at in range(12, 20)]

    database.write(work)


def test_old_rollouts_go_and_one_that_runs_never_does(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "KEPT", 3)

    def work(connection: Connection) -> None:
        running = rollouts.keep(connection, state(), (entry("began"),))
        for number in range(3, 9):
            rollouts.keep(connection, state(f"default.a-{number}", phase="promoted", ended_s=2.0), (entry("kept"),))
        left = [each.state.canary for each in rollouts.everything(connection, "default", "a")]
        assert left == ["default.a-8", "default.a-7", "default.a-6", "default.a-2"]
        assert rollouts.timeline(connection, running.number)[0]

    database.write(work)


def test_an_end_is_told_once_and_one_that_was_not_written_is_told_again(database: Database) -> None:
    def begin(connection: Connection) -> tuple[int, int]:
        ended = rollouts.keep(connection, state(phase="promoted", ended_s=5.0))
        return ended.number, rollouts.keep(connection, state(endpoint="b")).number

    def die(connection: Connection) -> None:
        assert rollouts.mark_told(connection, ended)
        raise OSError("a full disk")

    ended, runs = database.write(begin)
    with pytest.raises(OSError, match="full"):
        database.write(die)
    assert [each.number for each in database.read(rollouts.untold)] == [ended]
    assert database.write(lambda connection: rollouts.mark_told(connection, ended))
    assert not database.write(lambda connection: rollouts.mark_told(connection, ended))
    assert not database.write(lambda connection: rollouts.mark_told(connection, runs + 1))
    assert database.read(rollouts.untold) == []


def judged(number: int, ended_s: float) -> RolloutState:
    """Return a rollout that was judged by something."""
    seen = Finding("error", "", 3.0, 0.2, "a test")
    read = Read({"gateway": RolloutCounts(number, Arms(ArmCounts(20, {"error": 3}, {-32: 17}), ArmCounts(90)))})
    memory = Memory(lines=(Line("error", "", canary=Tally(3, 20), baseline=Tally(0, 90)),))
    phase = "promoted" if ended_s else "stepping"
    return state(number=number, phase=phase, ended_s=ended_s, read=read, memory=memory, findings=(seen,))


def test_the_evidence_of_a_rollout_that_ended_is_read_only_where_it_is_asked_for(database: Database) -> None:
    told = Arms(ArmCounts(60, {"judge": 30}), ArmCounts(60))

    def work(connection: Connection) -> None:
        number = rollouts.keep(connection, state()).number
        rollouts.post(connection, number, "judge", told)
        runs = judged(number, 0.0)
        rollouts.keep(connection, runs)
        assert rollouts.newest(connection) == [rollouts.Stored(runs, "", {"judge": told})]
        ended = judged(number, 9.0)
        rollouts.keep(connection, ended)
        (brief,) = rollouts.newest(connection)
        assert brief == rollouts.everything(connection, "default", "a")[0]
        assert (brief.posted, brief.state.read, brief.state.memory, brief.state.findings) == ({}, Read(), Memory(), ())
        whole = rollouts.Stored(ended, "", {"judge": told})
        assert rollouts.latest(connection, "default", "a") == rollouts.get(connection, "default", number) == whole
        assert rollouts.untold(connection) == [ended]
        rollouts.keep(connection, msgspec.structs.replace(brief.state, phase="superseded"))
        assert rollouts.get(connection, "default", number).state == msgspec.structs.replace(ended, phase="superseded")
        assert rollouts.latest(connection, "default", "b") is None

    database.write(work)


def test_a_rollout_of_before_evidence_had_a_column_keeps_it(path: Path) -> None:
    engine = open_engine(sqlite_url(path))
    migrate.upgrade(engine, "0010")
    was = judged(1, 9.0)
    row = {"project": "default", "endpoint": "a", "ended_at_s": 9.0, "ordered": "", "posted": "{}", "is_told": False}
    with engine.begin() as connection:
        old = [each for each in schema.rollouts.columns if each.name != "evidence"]
        table = Table("rollouts", MetaData(), *(Column(each.name, each.type) for each in old))
        connection.execute(insert(table).values(number=1, state=msgspec.json.encode(was).decode(), **row))
    migrate.upgrade(engine)
    with engine.begin() as connection:
        assert rollouts.get(connection, "default", 1).state == was
        assert rollouts.newest(connection)[0].state.memory == Memory()
    engine.dispose()
