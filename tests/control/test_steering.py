"""What people may say to rollouts, what the journal keeps of it, and what they hear of what was taken back."""

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from stoker.cli import apply
from stoker.client.views import TakenBack
from stoker.control import specs, steering
from stoker.control.apply import write
from stoker.control.releases import needs
from stoker.control.steering import Word
from stoker.core.actions import ChangeRollout
from stoker.core.reconcile import Plan
from stoker.core.rollout.state import RolloutState
from stoker.core.rollout.table import Order, Phase
from stoker.store import endpoints, journal, models, projects, releases, revisions, rollouts
from stoker.store.engine import Connection, Database
from stoker.types.errors import Conflict
from stoker.types.ids import EndpointName, ModelName, ProjectName, RevisionId
from stoker.types.resources import Metadata
from stoker.types.rollouts import Rollout
from stoker.types.statuses import EndpointStatus
from tests.databases import migrated
from tests.store import rows

FROZEN = Word(frozen="objective 'answers': 0% of the error budget is left")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    engine = migrated(tmp_path / "state.db")
    made = Database(engine)
    yield made
    made.close()


def begun(connection: Connection, phase: Phase, **more: object) -> RolloutState:
    version, _ = models.add(connection, ModelName("m"), rows.manifest(), 1.0)
    projects.put(connection, rows.project(), 1.0)
    endpoints.put(connection, rows.endpoint(), version.number, 1.0)
    canary = rows.revision(version, number=2)
    revisions.add(connection, canary)
    state = RolloutState(
        rows.DEFAULT, canary.endpoint, "a-1", canary.revision, Rollout(), "canary", phase, "a test", 1.0, 1.0
    )
    return rollouts.keep(connection, msgspec.structs.replace(state, **more))


def journaled(connection: Connection) -> journal.Entry:
    return journal.last(connection, 1)[0]


@pytest.mark.parametrize(
    ("phase", "order", "is_return", "is_refused"),
    [
        ("stepping", "promote", False, True),
        ("paused", "promote", False, True),
        ("paused", "resume", False, True),
        ("reported", "promote", False, True),
        ("keeping", "promote", False, False),  # it has all of the traffic
        ("scaling", "promote", True, False),  # the way back
        ("stepping", "pause", False, False),
        ("stepping", "abort", False, False),
    ],
)
def test_a_freeze_forbids_what_brings_a_canary_on_and_nothing_else(
    database: Database, phase: Phase, order: Order, is_return: bool, is_refused: bool
) -> None:
    def work(connection: Connection) -> None:
        state = begun(connection, phase, is_return=is_return)
        if is_refused:
            with pytest.raises(Conflict, match=f"frozen: objective 'answers'.* `stoker rollouts {order}` insists with"):
                steering.say(connection, "default", "a", order, FROZEN, 2.0)
            assert rollouts.get(connection, "default", state.number).ordered == ""
        word = msgspec.structs.replace(FROZEN, insists=True, reason="the fix") if is_refused else FROZEN
        steering.say(connection, "default", "a", order, word, 2.0)
        assert rollouts.get(connection, "default", state.number).ordered == order
        over = f" (the fix); over the freeze of rollouts: {FROZEN.frozen}" if is_refused else ""
        assert journaled(connection).because == f"asked to {order}{over}"

    database.write(work)


def test_a_revision_is_not_tried_again_while_rollouts_are_frozen_unless_somebody_insists(
    database: Database,
) -> None:
    def work(connection: Connection) -> None:
        begun(connection, "rolled-back", ended_s=5.0)
        with pytest.raises(Conflict, match="`stoker rollouts retry` insists with --over-budget"):
            steering.retry(connection, "default", "a", FROZEN, 6.0)
        steering.retry(connection, "default", "a", msgspec.structs.replace(FROZEN, insists=True, reason="why"), 6.0)
        said = journaled(connection)
        assert said.action == "RetryRollout"
        over = f"over the freeze of rollouts: {FROZEN.frozen}"
        assert said.because == f"asked to try default.a-2 again (why); {over}; it was rolled back: a test"
        latest = rollouts.latest(connection, "default", "a")
        assert latest is not None
        assert latest.state.phase == "superseded"

    database.write(work)


def test_asking_again_for_what_was_taken_back_says_when_and_why_and_what_happens_now(database: Database) -> None:
    again = msgspec.structs.replace(rows.endpoint(), metadata=Metadata(name="a", labels={"by": "ada"}))

    def work(connection: Connection) -> None:
        back = begun(connection, "rolled-back", ended_s=5.0)
        (result,) = specs.apply(connection, [again], 6.0)
        assert result.action == "updated"
        assert result.taken_back == TakenBack(
            back.canary, "m@1", back.number, "rolled-back", "a test", 5.0, serving="", begins=False
        )
        said = click.unstyle(apply.result_lines([result], with_diff=False))
        assert "note: default.a-2 (m@1) was rolled back at" in said
        assert (
            f"(rollout {back.number}): a test\n  it does not begin again by itself: `stoker rollouts retry a`" in said
        )
        (unchanged,) = specs.apply(connection, [again], 7.0)
        assert (unchanged.action, unchanged.taken_back) == ("unchanged", result.taken_back)
        other = msgspec.structs.replace(back, number=0, canary="default.a-3", phase="promoted", ended_s=8.0)
        rollouts.keep(connection, other)
        (anew,) = specs.apply(connection, [again], 9.0)
        assert anew.taken_back is not None
        assert anew.taken_back.begins
        assert "it is tried again now" in apply.result_lines([anew], with_diff=False)
        rollouts.keep(connection, msgspec.structs.replace(back, number=0, phase="superseded", ended_s=9.0))
        assert specs.apply(connection, [again], 10.0)[0].taken_back is None

    database.write(work)


def test_what_was_refused_is_judged_again_only_once_somebody_has_it_tried_again(database: Database) -> None:
    """No replica of it runs, so its gates would wait for ever, in the place of others that could be judged."""

    def work(connection: Connection) -> None:
        back = begun(connection, "refused", ended_s=5.0)
        endpoints.set_serving(connection, back.project, back.endpoint, "default.a-1")
        endpoints.set_status(connection, back.project, back.endpoint, EndpointStatus(revision=back.canary))
        assert needs.find(connection) == []
        steering.retry(connection, back.project, back.endpoint, Word(), 6.0)
        assert [each.revision.revision for each in needs.find(connection)] == [back.canary]

    database.write(work)


@pytest.mark.parametrize("phase", ["returning", "rolled-back"])
def test_what_was_taken_back_takes_gates_and_steps_when_it_is_asked_for_again(database: Database, phase: Phase) -> None:
    """It had all of the traffic once, of a blue-green; asking for it later is no way back to what was good."""

    def work(connection: Connection) -> None:
        back = begun(connection, "keeping")
        releases.mark_served(connection, back.canary)
        assert releases.served(connection, back.project, back.endpoint) == {back.canary}
        state, project, name = msgspec.structs.replace(back, phase=phase), ProjectName(back.project), EndpointName("a")
        change = ChangeRollout(project, name, RevisionId(back.canary), state, (), "asked to roll back")
        write(connection, Plan((change,), ()), 6.0)
        assert releases.served(connection, back.project, back.endpoint) == set()

    database.write(work)
