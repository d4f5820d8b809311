"""What must never happen in a rollout, whatever people, gateways, agents and crashes do; over generated histories."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.core import actions
from stoker.core.reconcile import Plan, plan
from stoker.core.rollout.state import RolloutState
from stoker.core.rollout.table import ENDED, PHASES
from stoker.core.snapshot import Snapshot
from stoker.core.traffic import weights
from tests.core.test_reconcile_safety import ready
from tests.core.worlds import RELEASES, Check, World, play

EXAMPLES = settings(max_examples=120)
TAKEN = ("returning", "rolled-back", "refused", "superseded")


def states(decided: Plan) -> list[RolloutState]:
    return [each.state for each in decided.actions if isinstance(each, actions.BeginRollout | actions.ChangeRollout)]


def the_canary_has_traffic_only_with_a_ready_replica_behind_it_when_that_was_given(
    snapshot: Snapshot, decided: Plan, _world: World
) -> None:
    before = {each.number: each.weight for each in snapshot.rollouts}
    for state in states(decided):
        if state.weight > before.get(state.number, 0):
            able = [each for each in snapshot.assignments if each.revision == state.canary]
            assert any(each.phase == "wanted" and ready(snapshot, each) for each in able), state


def what_was_taken_from_the_canary_is_never_given_back_in_the_same_rollout() -> Check:
    taken: set[int] = set()

    def check(_snapshot: Snapshot, decided: Plan, world: World) -> None:
        for state in states(decided):
            if state.phase in TAKEN:
                taken.add(state.number or len(world.rollouts) + 1)
                assert state.weight == 0
            assert state.number not in taken or state.phase in TAKEN

    return check


def a_rollout_that_ended_never_changes_and_no_two_of_an_endpoint_run() -> Check:
    ended: dict[int, RolloutState] = {}

    def check(_snapshot: Snapshot, _decided: Plan, world: World) -> None:
        for state in world.rollouts:
            if state.number in ended:
                assert state == ended[state.number]
            if state.phase in ENDED:
                ended[state.number] = state
        assert sum(not each.is_ended for each in world.rollouts) <= 1

    return check


def weights_are_always_all_of_the_traffic_and_grow_only_by_steps(
    snapshot: Snapshot, decided: Plan, _world: World
) -> None:
    for endpoint in snapshot.endpoints:
        if endpoint.is_deleting or not endpoint.serving:
            continue
        names = [str(each.revision) for each in snapshot.revisions]
        running = next((each for each in snapshot.rollouts if each.endpoint == endpoint.name), None)
        assert sum(weights(endpoint.serving, "", names, running).values()) == 100
    for state in states(decided):
        assert state.weight in (0, *state.spec.steps, 50, 100)


def nothing_that_its_dossier_refuses_or_has_not_yet_let_go_takes_traffic(
    snapshot: Snapshot, decided: Plan, _world: World
) -> None:
    for each in decided.actions:
        if isinstance(each, actions.BeginRollout) and each.revision in snapshot.dossiers:
            found = snapshot.dossiers[each.revision]
            swaps = found.swaps and each.state.strategy == "recreate"
            asks = found.swaps and each.state.phase == "awaiting"
            may = ("gating", "refused", "clearing") if swaps else ("gating", "refused")
            assert found.state == "complete" or asks or each.state.phase in may
    for state in states(decided):
        if state.strategy == "recreate" and state.weight and not state.is_return:
            was = next((each.weight for each in snapshot.rollouts if each.number == state.number), 0)
            dossier = snapshot.dossiers.get(state.canary)
            assert was or dossier is None or dossier.state == "complete", state


def what_somebody_must_approve_takes_no_traffic_before_and_what_was_denied_never(
    _snapshot: Snapshot, decided: Plan, _world: World
) -> None:
    for state in states(decided):
        if state.holds:
            assert state.weight == 0
            assert state.phase in ("gating", "awaiting", *TAKEN), state
        if state.because.startswith("deny"):
            assert state.phase == "refused"
        assert not state.approved or state.approved.startswith("approve"), state


FIRST = [[], [("gate", "pending")], [("release", "a", 3, 2, "canary")]]  # its gates have not run; somebody must approve


@pytest.mark.parametrize("first", FIRST, ids=str)
@EXAMPLES
@given(script=RELEASES)
def test_what_must_never_happen_does_not_in_any_turn_of_any_history(first: list, script: list) -> None:
    play(
        [*script[:2], *first, *script[2:]],
        the_canary_has_traffic_only_with_a_ready_replica_behind_it_when_that_was_given,
        what_was_taken_from_the_canary_is_never_given_back_in_the_same_rollout(),
        a_rollout_that_ended_never_changes_and_no_two_of_an_endpoint_run(),
        weights_are_always_all_of_the_traffic_and_grow_only_by_steps,
        nothing_that_its_dossier_refuses_or_has_not_yet_let_go_takes_traffic,
        what_somebody_must_approve_takes_no_traffic_before_and_what_was_denied_never,
    )


@EXAMPLES
@given(RELEASES, st.integers(0, 60))
def test_control_that_is_killed_anywhere_decides_as_if_it_had_lived(script: list, at: int) -> None:
    """What it stored is all it knows: the same history with a restart in it ends in the same state."""
    where = min(at, len(script))
    lived, died = play(script), play([*script[:where], ("restart",), *script[where:]])
    assert died.rollouts == lived.rollouts
    assert died.endpoints == lived.endpoints


OVER_EVERY_PHASE: tuple[tuple[tuple, ...], ...] = (
    (("gate", "complete"), ("round", 4), ("count", (60, 1), (540, 9), "g0"), ("wait", 61.0), ("round", 6),
     ("order", "pause"), ("round", 2), ("order", "resume"), ("round", 4), ("order", "promote"), ("round", 12)),
    (("release", "a", 3, 2, "canary"), ("round", 6), ("order", "approve"), ("round", 6),
     ("order", "abort"), ("round", 9)),
    (("release", "a", 3, 2, "canary"), ("round", 6), ("order", "deny"), ("round", 4)),
    (("release", "a", 3, 2, "canary"), ("round", 6), ("wait", 700.0), ("round", 6)),
    (("release", "a", 2, 2, "a-b"), ("round", 6), ("count", (300, 3), (300, 3), "g0"), ("wait", 61.0), ("round", 4),
     ("order", "promote"), ("round", 12)),
    (("gate", "swaps"), ("release", "a", 2, 2, "recreate"), ("round", 14), ("gate", "refused"), ("round", 20)),
    (("gate", "swaps"), ("release", "a", 2, 2, "recreate"), ("round", 14), ("gate", "complete"), ("round", 9)),
    (("release", "a", 2, 2, "blue-green"), ("round", 12), ("wait", 700.0), ("round", 9)),
    (("gate", "pending"), ("release", "a", 2, 2, "canary"), ("round", 3),
     ("release", "a", 1, 2, "canary"), ("round", 5)),
)  # fmt: skip
SERVES = (("release", "a", 1, 2, "direct"), ("round", 6))


def test_control_that_is_killed_in_any_phase_of_the_table_goes_on_as_if_it_had_lived() -> None:
    """Each phase that there is, before each of its turns, in the order of a history."""
    seen: set[str] = set()
    for rest in OVER_EVERY_PHASE:
        script = [*SERVES, ("release", "a", 2, 2, "canary"), *rest]
        single = [one for each in script for one in ([("round", 1)] * each[1] if each[0] == "round" else [each])]
        lived = play(single, lambda _s, _d, world: seen.update(each.phase for each in world.rollouts), cores=(2.5, 2.5))
        for at in range(len(single)):
            died = play([*single[:at], ("restart",), *single[at:]], cores=(2.5, 2.5))
            assert died.rollouts == lived.rollouts, (at, single[at])
            assert died.endpoints == lived.endpoints
    assert seen == set(PHASES)


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
