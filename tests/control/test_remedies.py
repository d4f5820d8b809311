"""What an incident does by itself, on a real database and history: once, with its reason, and over any kill."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stoker.control.remedies import ROUND_S
from stoker.core import actions
from stoker.core.remedies import HOLD_S
from stoker.store import endpoints, incidents, journal, leases, revisions
from stoker.store.engine import Connection
from stoker.store.leases import LeaseLost
from tests.control.remedy_scene import BAD, GOOD, START_S, Scene, play

ROOT = Path(__file__).parents[2]


def killed(folder: Path, moment: str) -> float:
    """Have a control decide and be killed; return the moment at which it was."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.control.remedy_scene", str(folder), moment],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    scene = Scene(folder)
    (one,) = scene.database.read(lambda each: incidents.newest(each, 1))
    scene.database.close()
    return one.opened_at_s + 2 * ROUND_S + leases.TTL_S


def test_a_bad_replica_is_replaced_once_and_the_record_says_why_and_what_it_helped(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.make("restart")
        await scene.got_slow()
        await scene.rounds(1)
        assert scene.acts == (), "one look is not enough"
        await scene.rounds(3)
        (act,) = scene.acts
        assert (act.number, act.kind, act.subject) == (1, "restart", BAD)
        assert act.is_in_force
        assert f"replica {BAD} takes 2.0 s a request, its peers 100 ms" in act.because
        assert scene.woken == 1
        scene.turn()
        assert scene.database.read(lambda each: endpoints.get(each, "default", "a")).status.out == (BAD,)
        scene.database.write(lambda each: revisions.unassign(each, BAD))
        await scene.minute()
        await scene.rounds()
        (act,) = scene.acts
        assert act.outcome == "it was replaced"
        assert act.after is None, "what it changed is not known yet"
        await scene.minute()
        await scene.rounds()
        (act,) = scene.acts
        assert act.after is not None
        assert act.after.latency_s < act.before.latency_s
        (one,) = scene.database.read(lambda each: incidents.newest(each, 1))
        said = [moment.text for moment in one.timeline if moment.kind == "action"]
        assert said[0].startswith(f"act 1 begins: restart {BAD}, for bad_replica (replica {BAD})")
        assert said[1].endswith(f"(restart {BAD}): it was replaced")
        assert said[2].endswith("0 % of the requests failed and they took 1.0 s; now 0 % and 100 ms")
        assert len(said) == 3
        assert scene.journaled("Remedy", "RemedyEnded") == ["Remedy", "RemedyEnded"]
        text = scene.metrics.snapshot()
        assert text.total("stoker_remedies_total", act="restart", event="begun") == 1
        assert text.total("stoker_remedies_total", act="restart", event="ended") == 1
        assert text.total("stoker_remedies_in_force", act="restart") == 0

    play(Scene(tmp_path), scenario)


def test_a_replica_that_its_agent_started_again_is_judged_by_what_it_did_since(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.make("restart")
        await scene.got_slow()
        scene.started[BAD] = scene.now_s
        await scene.minute()
        await scene.rounds(3)
        assert scene.acts == (), "it is well since"
        for _ in range(2):
            await scene.minute(slow=20.0)
        await scene.rounds(3)
        assert [act.subject for act in scene.acts] == [BAD]

    play(Scene(tmp_path), scenario)


def test_what_is_not_allowed_is_only_advised(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.make()
        await scene.got_slow()
        await scene.rounds(3)
        assert scene.acts == ()
        found = await scene.remedies.advice(await scene.incidents.why("default", "a"), "default", "a")
        assert (found.next_act, found.next_because) == ("", "the manifest allows none (spec.remedies)")

    play(Scene(tmp_path), scenario)


def test_why_says_what_would_be_done_and_then_what_is(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.make("restart")
        await scene.got_slow()
        found = await scene.remedies.advice(await scene.incidents.why("default", "a"), "default", "a")
        assert found.next_act == f"restart {BAD}"
        await scene.rounds()
        found = await scene.remedies.advice(await scene.incidents.why("default", "a"), "default", "a")
        assert found.next_act == ""
        assert "is in force" in found.next_because
        assert found.acts == scene.acts

    play(Scene(tmp_path), scenario)


def test_a_control_that_is_killed_before_it_has_decided_has_decided_nothing(tmp_path: Path) -> None:
    now_s = killed(tmp_path, "before")

    async def scenario(scene: Scene) -> None:
        assert scene.acts == ()
        assert scene.journaled("Remedy") == []
        assert scene.remedies.in_force() is None
        await scene.rounds()
        assert [(act.number, act.subject) for act in scene.acts] == [(1, BAD)]
        assert scene.journaled("Remedy") == ["Remedy"]

    play(Scene(tmp_path, now_s), scenario)


def test_a_control_that_is_killed_between_decision_and_effect_neither_repeats_nor_loses_the_act(
    tmp_path: Path,
) -> None:
    now_s = killed(tmp_path, "after")

    async def scenario(scene: Scene) -> None:
        decided = scene.acts
        assert [(act.number, act.subject) for act in decided] == [(1, BAD)]
        assert len(scene.database.read(revisions.assignments)) == 2, "nothing was made true"
        await scene.rounds(3)
        assert scene.acts == decided
        assert scene.journaled("Remedy") == ["Remedy"]
        first = scene.turn()
        assert [type(each) for each in first.actions] == [actions.StartReplica]
        for _ in range(4):
            scene.turn()
        phases = {str(each.replica): each.phase for each in scene.database.read(revisions.assignments)}
        assert phases.pop(BAD) in ("draining", "stopping")
        assert phases.pop(GOOD) == "wanted"
        assert list(phases.values()) == ["wanted"], "one replacement, however often it was decided on"

    play(Scene(tmp_path, now_s), scenario)


def test_a_way_back_is_one_change_of_the_spec_in_the_transaction_that_decides(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.make("roll-back", serving=2)

        def served(connection: Connection) -> None:
            for number, at_s in ((1, 5.0), (2, START_S + 570.0)):
                entry = journal.Entry(at_s, "SetServing", "ready", "default", "a", f"default.a-{number}")
                journal.add(connection, entry)

        scene.database.write(served)
        await scene.got_slow(others=20.0)
        before = scene.database.read(lambda each: endpoints.get(each, "default", "a"))
        await scene.rounds(5)
        after = scene.database.read(lambda each: endpoints.get(each, "default", "a"))
        assert [(act.kind, act.subject) for act in scene.acts] == [("roll-back", "default.a-1")]
        assert after.generation == before.generation + 1
        assert after.resource.spec.model == "m@1"
        assert after.resource.spec.remedies == before.resource.spec.remedies
        assert scene.journaled("Remedy", "Rollback") == ["Remedy", "Rollback"]

    play(Scene(tmp_path), scenario)


def test_an_act_ends_with_its_incident_and_one_that_is_not_allowed_any_more_at_once(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.make("eject")
        await scene.got_slow()
        await scene.rounds()
        (one,) = scene.database.read(lambda each: incidents.newest(each, 1))
        assert scene.acts[0].is_in_force
        await scene.incidents.close(one.number, "looked at by a person")
        await scene.rounds(1)
        assert scene.acts[0].outcome == "the incident is over"
        assert scene.remedies.in_force() == {}
        assert HOLD_S["eject"] > 2 * ROUND_S

    play(Scene(tmp_path), scenario)


def test_who_lost_the_lease_does_nothing_and_knows_nothing(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.make("restart")
        await scene.got_slow()
        await scene.rounds(1)
        later_s = scene.now_s + leases.TTL_S + 1
        scene.database.write(lambda each: leases.acquire(each, "control", "another", later_s))
        with pytest.raises(LeaseLost):
            await scene.remedies.look()
        assert scene.acts == ()

    play(Scene(tmp_path), scenario)
