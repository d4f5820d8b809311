"""What must never happen, whatever people, agents and crashes do; each named, each over generated histories."""

from hypothesis import given, settings

from stoker.core import actions, capacity, enforce
from stoker.core.leaving import SETTLE_S
from stoker.core.reconcile import Plan, plan
from stoker.core.snapshot import Assignment, Snapshot
from tests.core.worlds import SCRIPTS, Check, World, play

EXAMPLES = settings(max_examples=75)


def ready(snapshot: Snapshot, assignment: Assignment) -> bool:
    node = next((each for each in snapshot.nodes if each.name == assignment.node), None)
    process = node.processes.get(assignment.replica) if node is not None else None
    return process is not None and process.phase == "ready"


def seen(snapshot: Snapshot, assignment: Assignment) -> bool:
    return any(each.name == assignment.node for each in snapshot.nodes)


def by_replica(snapshot: Snapshot) -> dict[str, Assignment]:
    return {each.replica: each for each in snapshot.assignments}


def never_drains_a_ready_replica_of_the_serving_revision_before_the_next_is_ready(
    snapshot: Snapshot, decided: Plan, _world: World
) -> None:
    drained = {each.replica for each in decided.actions if isinstance(each, actions.DrainReplica)}
    for endpoint in snapshot.endpoints:
        if endpoint.is_deleting:
            continue
        wanted = [
            each
            for each in snapshot.assignments
            if each.revision == endpoint.serving and each.phase == "wanted" and ready(snapshot, each)
        ]
        kept = [each for each in wanted if each.replica not in drained]
        assert len(kept) >= min(len(wanted), endpoint.resource.spec.replicas.min), (endpoint.serving, drained)


def never_stops_a_replica_that_gateways_were_not_told_to_leave(snapshot: Snapshot, decided: Plan, world: World) -> None:
    for each in decided.actions:
        if isinstance(each, actions.StopReplica):
            assignment = by_replica(snapshot)[each.replica]
            assert assignment.phase != "wanted"
            told_long_ago = world.now_s - assignment.since_s >= SETTLE_S
            assert told_long_ago or assignment.phase == "stopping" or not ready(snapshot, assignment)


def traffic_never_moves_to_a_revision_without_ready_replicas(snapshot: Snapshot, decided: Plan, world: World) -> None:
    for each in decided.actions:
        if isinstance(each, actions.SetServing):
            endpoint = world.endpoints[each.endpoint]
            wanted = endpoint.resource.spec.replicas.min
            able = [
                one
                for one in snapshot.assignments
                if one.revision == each.revision and one.phase == "wanted" and ready(snapshot, one)
            ]
            old_ready = [
                one for one in snapshot.assignments if one.revision == endpoint.serving and ready(snapshot, one)
            ]
            assert len(able) >= wanted or (able and not [one for one in old_ready if one.phase == "wanted"])


def never_promises_more_cores_or_memory_than_a_node_has(_snapshot: Snapshot, _decided: Plan, world: World) -> None:
    for node, (cores, memory_bytes) in world.capacity.items():
        configs = [world.revisions[each.revision].config for each in world.assignments.values() if each.node == node]
        assert sum(capacity.milli(config.cpu) for config in configs) <= capacity.milli(cores)
        assert sum(config.memory_bytes for config in configs) <= memory_bytes


def never_decides_about_a_replica_whose_node_is_silent(snapshot: Snapshot, decided: Plan, _world: World) -> None:
    known = by_replica(snapshot)
    for each in decided.actions:
        if isinstance(each, actions.StopReplica | actions.ForgetReplica):
            assert seen(snapshot, known[each.replica])


def never_forgets_a_replica_whose_process_is_there(snapshot: Snapshot, decided: Plan, _world: World) -> None:
    for each in decided.actions:
        if isinstance(each, actions.ForgetReplica):
            assert all(each.replica not in node.processes for node in snapshot.nodes)


def every_action_says_why(_snapshot: Snapshot, decided: Plan, _world: World) -> None:
    assert all(each.because for each in decided.actions)


def never_gives_two_replicas_one_name() -> Check:
    names: list[str] = []

    def check(_snapshot: Snapshot, decided: Plan, _world: World) -> None:
        names.extend(each.replica for each in decided.actions if isinstance(each, actions.StartReplica) and each.is_new)
        assert len(set(names)) == len(names)

    return check


@settings(max_examples=150)
@given(SCRIPTS)
def test_what_must_never_happen_does_not_in_any_turn_of_any_history(script: list) -> None:
    play(
        script,
        never_drains_a_ready_replica_of_the_serving_revision_before_the_next_is_ready,
        never_stops_a_replica_that_gateways_were_not_told_to_leave,
        traffic_never_moves_to_a_revision_without_ready_replicas,
        never_promises_more_cores_or_memory_than_a_node_has,
        never_decides_about_a_replica_whose_node_is_silent,
        never_forgets_a_replica_whose_process_is_there,
        every_action_says_why,
        never_gives_two_replicas_one_name(),
    )


@EXAMPLES
@given(SCRIPTS)
def test_every_history_converges_once_agents_answer_and_a_settled_world_needs_nothing(script: list) -> None:
    world = play(script)
    world.silent.clear()
    world.broken.clear()
    world.asked = None  # what is in force stays
    world.scaled = world.scaled or {}
    world.settle(turns=40)
    decided = plan(world.snapshot(), world.now_s + 100)
    assert decided.is_empty, decided
    for endpoint in world.endpoints.values():
        status = endpoint.status
        bounds = endpoint.resource.spec.replicas
        usual = bounds.min if bounds.max == bounds.min else world.scaled.get(endpoint.key, 1)
        usual = min(max(usual, bounds.min), bounds.max)
        wanted = enforce.replicas(usual, bounds, status.moves)
        conditions = {each.type: each for each in status.conditions}
        if conditions["Progressing"].reason != "NoCapacity":
            assert status.replicas_ready == wanted
            assert endpoint.serving == status.revision
        assert status.observed_generation == endpoint.generation
    assert set(world.assignments) == {name for table in world.processes.values() for name in table}


@EXAMPLES
@given(SCRIPTS)
def test_deleting_everything_leaves_nothing(script: list) -> None:
    world = play(script)
    world.silent.clear()
    for name in list(world.endpoints):
        world.delete(name)
    world.settle(turns=20)
    assert not world.endpoints
    assert not world.revisions
    assert not world.assignments
    assert not any(world.processes.values())
