"""What the rows of rollouts promise: one number each, a timeline within bounds, and orders that are obeyed once."""

import msgspec
import pytest

from stoker.core.rollout.state import Entry, RolloutState
from stoker.store import rollouts
from stoker.store.engine import Connection, Database
from stoker.types.errors import NotFound
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.rollouts import ArmCounts, Arms, Rollout


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
        assert [each.event for each in rollouts.timeline(connection, first.number)] == ["began", "ready"]
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
    told = {"judge": Arms(ArmCounts(60, {"judge": 30}), ArmCounts(60))}

    def work(connection: Connection) -> None:
        kept = rollouts.keep(connection, state())
        rollouts.post(connection, kept.number, told)
        rollouts.keep(connection, msgspec.structs.replace(kept, weight=50))
        assert rollouts.newest(connection)[0].posted == told

    database.write(work)


def test_a_timeline_that_is_full_loses_mere_looks_first(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "ENTRIES_MAX", 10)

    def work(connection: Connection) -> None:
        kept = rollouts.keep(connection, state(), (entry("began"),))
        for at in range(20):
            rollouts.keep(connection, kept, (entry("look", float(at)),))
        rollouts.keep(connection, kept, (entry("worse", 99.0),))
        events = rollouts.timeline(connection, kept.number)
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
        assert rollouts.timeline(connection, running.number)

    database.write(work)
