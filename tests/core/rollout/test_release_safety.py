"""What must never happen in a rollout, whatever people, gateways, agents and crashes do; over generated histories."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.core import actions
from stoker.core.reconcile import Plan, plan
from stoker.core.rollout.state import RolloutState
from stoker.core.rollout.table import ENDED
from stoker.core.snapshot import Snapshot
from stoker.core.traffic import weights
from tests.core.test_reconcile_safety import ready
from tests.core.worlds import RELEASES, World, play

EXAMPLES = settings(max_examples=120)
TAKEN = ("returning", "rolled-back", "refused", "superseded")


def states(decided: Plan) -> list[RolloutState]:
    return [each.state for each in decided.actions if isinstance(each, actions.BeginRollout | actions.ChangeRollout)]


@EXAMPLES
@given(RELEASES)
def test_the_canary_has_traffic_only_with_a_ready_replica_behind_it_when_that_was_given(script: list) -> None:
    def check(snapshot: Snapshot, decided: Plan, _world: World) -> None:
        before = {each.number: each.weight for each in snapshot.rollouts}
        for state in states(decided):
            if state.weight > before.get(state.number, 0):
                able = [each for each in snapshot.assignments if each.revision == state.canary]
                assert any(each.phase == "wanted" and ready(snapshot, each) for each in able), state

    play(script, check)


@EXAMPLES
@given(RELEASES)
def test_what_was_taken_from_the_canary_is_never_given_back_in_the_same_rollout(script: list) -> None:
    taken: set[int] = set()

    def check(_snapshot: Snapshot, decided: Plan, world: World) -> None:
        for state in states(decided):
            if state.phase in TAKEN:
                taken.add(state.number or len(world.rollouts) + 1)
                assert state.weight == 0
            assert state.number not in taken or state.phase in TAKEN

    play(script, check)


@EXAMPLES
@given(RELEASES)
def test_a_rollout_that_ended_never_changes_and_no_two_of_an_endpoint_run(script: list) -> None:
    ended: dict[int, RolloutState] = {}

    def check(_snapshot: Snapshot, _decided: Plan, world: World) -> None:
        for state in world.rollouts:
            if state.number in ended:
                assert state == ended[state.number]
            if state.phase in ENDED:
                ended[state.number] = state
        assert sum(not each.is_ended for each in world.rollouts) <= 1

    play(script, check)


@EXAMPLES
@given(RELEASES)
def test_weights_are_always_all_of_the_traffic_and_grow_only_by_steps(script: list) -> None:
    def check(snapshot: Snapshot, decided: Plan, _world: World) -> None:
        for endpoint in snapshot.endpoints:
            if endpoint.is_deleting or not endpoint.serving:
                continue
            names = [str(each.revision) for each in snapshot.revisions]
            running = next((each for each in snapshot.rollouts if each.endpoint == endpoint.name), None)
            assert sum(weights(endpoint.serving, "", names, running).values()) == 100
        for state in states(decided):
            assert state.weight in (0, *state.spec.steps, 50, 100)

    play(script, check)


@EXAMPLES
@given(RELEASES)
def test_nothing_that_its_dossier_refuses_or_has_not_yet_let_go_takes_traffic(script: list) -> None:
    def check(snapshot: Snapshot, decided: Plan, _world: World) -> None:
        for each in decided.actions:
            if isinstance(each, actions.BeginRollout) and each.revision in snapshot.dossiers:
                is_let_go = snapshot.dossiers[each.revision].state == "complete"
                assert is_let_go or each.state.phase in ("gating", "refused")

    play([*script[:2], ("gate", "pending"), *script[2:]], check)


@EXAMPLES
@given(RELEASES, st.integers(0, 60))
def test_control_that_is_killed_anywhere_decides_as_if_it_had_lived(script: list, at: int) -> None:
    """What it stored is all it knows: the same history with a restart in it ends in the same state."""
    where = min(at, len(script))
    lived, died = play(script), play([*script[:where], ("restart",), *script[where:]])
    assert died.rollouts == lived.rollouts
    assert died.endpoints == lived.endpoints


@EXAMPLES
@given(RELEASES)
def test_counts_that_are_read_twice_or_late_change_nothing(script: list) -> None:
    world = play(script)
    world.silent.clear()
    world.turn()
    world.turn()
    first = msgspec.json.encode([each.memory for each in world.rollouts])
    world.turn()
    assert msgspec.json.encode([each.memory for each in world.rollouts]) == first


@EXAMPLES
@given(RELEASES)
def test_every_history_settles_with_one_revision_that_has_all_of_the_traffic(script: list) -> None:
    world = play(script)
    world.silent.clear()
    world.broken.clear()
    world.dossiers.clear()
    ordered = 0
    for _ in range(30):
        if len(world.rollouts) > ordered and not world.rollout.is_ended:
            ordered = len(world.rollouts)
            world.order("promote" if world.rollout.phase != "returning" else "abort")
        world.turn()
        world.work()
        world.now_s += 90.0  # together longer than a rollout may wait for room
    world.settle(turns=60)
    decided = plan(world.snapshot(), world.now_s + 1.0)
    assert decided.is_empty, decided
    for name, endpoint in world.endpoints.items():
        serving = endpoint.serving
        alive = {each.revision for each in world.assignments.values() if each.endpoint == name}
        assert alive <= {serving} or not world.rollouts[-1].is_ended, (alive, serving, world.rollouts[-1].phase)
