"""What an operator would ask of the decisions about endpoints, case by case."""

import msgspec

from stoker.core.actions import CreateRevision, DrainReplica, SetServing, StartReplica, StopReplica, StopStray
from stoker.core.conditions import find
from stoker.core.gate.law import DossierState
from stoker.core.leaving import REVISIONS_KEPT, SETTLE_S, drain_seconds
from stoker.core.reconcile import plan
from stoker.types.process import ProcessStatus
from stoker.types.statuses import Condition
from tests.core.worlds import World


def kinds(decided: object) -> list[str]:
    return [type(each).__name__ for each in decided.actions]  # type: ignore[attr-defined]


def condition(world: World, name: str, kind: str) -> Condition:
    found = find(world.status(name).conditions, kind)
    assert found is not None
    return found


def test_a_new_endpoint_gets_a_revision_then_replicas_then_traffic() -> None:
    world = World()
    world.apply("a", replicas=2)
    assert kinds(world.turn()) == ["CreateRevision", "StartReplica", "StartReplica"]
    assert world.status("a").revision == "default.a-1"
    assert kinds(world.turn()) == []
    assert not condition(world, "a", "Ready").status
    world.work()
    world.work()
    decided = world.turn()
    assert kinds(decided) == ["SetServing"]
    assert decided.actions[0].because == "all 2 wanted replicas of default.a-1 are ready"
    world.turn()
    assert condition(world, "a", "Ready").message == "2 of 2 replicas of default.a-1 are ready"
    assert condition(world, "a", "Progressing").reason == "Complete"
    assert world.status("a").serving == "default.a-1"


def test_a_first_revision_takes_traffic_with_its_first_ready_replica() -> None:
    world = World()
    world.apply("a", replicas=2)
    world.turn()
    world.turn()
    first = world.replicas("default.a-1")[0]
    table = world.processes["n0"]
    table[first] = msgspec.structs.replace(table[first], phase="ready", ready_at_s=world.now_s)
    assert kinds(world.turn()) == ["SetServing"]


def test_a_version_asked_for_before_control_saw_the_first_one_ready_is_a_rollout_from_that() -> None:
    world = World()
    world.apply("a", model=1)
    world.turn()
    world.turn()
    world.work()
    world.work()  # gateways send to it from here on
    world.apply("a", model=2)
    assert kinds(world.turn()) == ["CreateRevision", "SetServing"]
    assert kinds(world.turn()) == ["BeginRollout", "StartReplica"]
    assert world.status("a").serving == "default.a-1"
    world.settle()
    assert world.status("a").serving == "default.a-2"


def test_a_version_asked_for_before_the_first_one_is_ready_takes_its_place() -> None:
    world = World()
    world.apply("a", model=1)
    world.turn()
    world.turn()
    world.apply("a", model=2)
    decided = kinds(world.turn())
    assert "SetServing" not in decided
    world.settle()
    assert world.status("a").serving == "default.a-2"


def test_a_new_version_starts_beside_the_old_one_which_goes_only_after_the_switch() -> None:
    world = World()
    world.apply("a", model=1)
    world.settle()
    old = world.replicas("default.a-1")
    world.apply("a", model=2)
    assert kinds(world.turn()) == ["CreateRevision", "BeginRollout", "StartReplica"]
    assert kinds(world.turn()) == []
    assert "default.a-1 serves until all are" in condition(world, "a", "Progressing").message
    world.work()
    world.work()
    assert kinds(world.turn()) == ["ChangeRollout", "SetServing"]
    drained = world.turn()
    assert kinds(drained) == ["DrainReplica"]
    waiting = world.turn()
    assert kinds(waiting) == []
    assert waiting.again_s is not None
    assert 0 < waiting.again_s <= SETTLE_S
    world.now_s += SETTLE_S
    stopped = world.turn()
    assert [each.replica for each in stopped.actions if isinstance(each, StopReplica)] == old
    world.work()
    world.now_s += 0.1
    assert kinds(world.turn()) == ["ForgetReplica"]
    assert plan(world.snapshot(), world.now_s).actions == ()


def test_without_room_beside_the_old_one_the_condition_has_the_arithmetic_and_the_old_one_serves() -> None:
    world = World(cores=(1.5,))
    world.apply("a", model=1, cpu=1.0)
    world.settle()
    world.apply("a", model=2, cpu=1.0)
    world.turn()
    world.turn()
    progressing = condition(world, "a", "Progressing")
    assert (progressing.status, progressing.reason) == (False, "NoCapacity")
    assert progressing.message == (
        "needs 1.0 core, largest free is 0.5 on node n0; default.a-1 has that room: `rollout.strategy: recreate` has "
        "it go first"
    )
    assert condition(world, "a", "Ready").status
    assert world.endpoints["a"].serving == "default.a-1"


def test_a_crashing_revision_that_still_serves_makes_room_for_its_fix() -> None:
    world = World(cores=(1.0,))
    world.apply("a", model=1)
    world.settle()
    world.broken.add(1)
    world.crash(0)
    for _ in range(3):
        world.work()
    world.apply("a", model=2)
    world.settle()
    assert world.endpoints["a"].serving == "default.a-2"
    assert condition(world, "a", "Ready").status


def test_a_crash_looping_revision_takes_no_traffic_and_says_why_in_its_own_words() -> None:
    world = World()
    world.apply("a", model=1)
    world.settle()
    world.broken.add(2)
    world.apply("a", model=2)
    for _ in range(6):
        world.turn()
        world.work()
        world.now_s += 1
    world.turn()
    progressing = condition(world, "a", "Progressing")
    assert (progressing.status, progressing.reason) == (False, "CrashLoop")
    assert progressing.message.startswith("replica crashed ")
    assert progressing.message.endswith("times loading: bad weights")
    assert condition(world, "a", "Ready").status
    assert world.endpoints["a"].serving == "default.a-1"


def test_an_endpoint_without_a_ready_replica_says_why_in_the_engines_words() -> None:
    world = World()
    world.broken.add(1)
    world.apply("a", model=1)
    world.turn()
    world.turn()
    world.work()
    world.turn()
    ready = condition(world, "a", "Ready")
    assert (ready.status, ready.reason) == (False, "Crashed")
    assert ready.message == "replica crashed 1 time loading: bad weights"
    world.work()
    world.work()
    world.turn()
    assert condition(world, "a", "Ready").reason == "CrashLoop"
    assert condition(world, "a", "Ready").message == "replica crashed 3 times loading: bad weights"


def test_a_start_that_failed_in_control_is_told() -> None:
    world = World()
    world.apply("a")
    world.turn(effects=False)
    world.start_failures = {world.replicas("default.a-1")[0]: "no space left on device"}
    world.turn(effects=False)
    ready = condition(world, "a", "Ready")
    assert (ready.reason, ready.message) == ("StartFailed", "replica could not be started: no space left on device")


def test_scaling_down_drains_a_starting_replica_and_never_the_ready_one_while_keeping_it() -> None:
    world = World()
    world.apply("a", replicas=1)
    world.settle()
    kept = world.replicas("default.a-1")
    world.apply("a", replicas=2)
    world.turn()
    world.apply("a", replicas=1)
    drained = [each.replica for each in world.turn().actions if isinstance(each, DrainReplica)]
    assert len(drained) == 1
    assert drained != kept


def test_scaling_down_keeps_a_young_ready_replica_rather_than_an_old_one_that_crashed() -> None:
    world = World()
    world.apply("a", replicas=2)
    world.settle()
    old = min(world.assignments.values(), key=lambda each: (each.created_at_s, each.replica)).replica
    table = world.processes["n0"]
    table[old] = msgspec.structs.replace(table[old], phase="backoff", crashes_in_row=1)
    world.apply("a", replicas=1)
    assert [each.replica for each in world.turn().actions if isinstance(each, DrainReplica)] == [old]


def test_changing_what_only_gateways_use_makes_no_revision() -> None:
    world = World()
    world.apply("a")
    world.settle()
    endpoint = world.endpoints["a"]
    limits = msgspec.structs.replace(endpoint.resource.spec.limits, timeout="9s", queue_max=7)
    spec = msgspec.structs.replace(endpoint.resource.spec, limits=limits)
    world.endpoints["a"] = msgspec.structs.replace(
        endpoint, generation=2, resource=msgspec.structs.replace(endpoint.resource, spec=spec)
    )
    decided = world.turn()
    assert kinds(decided) == []
    assert world.status("a").observed_generation == 2
    assert drain_seconds(world.endpoints["a"]) == 9.0


def test_returning_to_an_earlier_configuration_uses_its_revision_again() -> None:
    world = World()
    world.apply("a", model=1)
    world.settle()
    world.apply("a", model=2)
    world.settle()
    world.apply("a", model=1)
    world.settle()
    assert sorted(world.revisions) == ["default.a-1", "default.a-2"]
    assert world.endpoints["a"].serving == "default.a-1"


def test_a_replica_that_its_agent_lost_is_started_again_under_its_name() -> None:
    world = World()
    world.apply("a")
    world.settle()
    name = world.replicas("default.a-1")[0]
    world.lose(0)
    decided = world.turn()
    assert [(each.replica, each.is_new) for each in decided.actions if isinstance(each, StartReplica)] == [
        (name, False)
    ]


def test_a_crash_between_rows_and_agents_is_made_good() -> None:
    world = World()
    world.apply("a")
    world.turn(effects=False)
    world.turn(effects=False)
    assert not world.processes["n0"]
    world.settle()
    assert condition(world, "a", "Ready").status
    assert len(world.processes["n0"]) == 1


def test_a_process_nobody_knows_is_stopped() -> None:
    world = World()
    world.processes["n0"]["default.x-1-aaaaa"] = ProcessStatus(name="default.x-1-aaaaa", kind="replica", phase="ready")
    world.processes["n0"]["gateway-0"] = ProcessStatus(name="gateway-0", kind="gateway", phase="ready")
    assert [each.replica for each in world.turn().actions if isinstance(each, StopStray)] == ["default.x-1-aaaaa"]


def test_a_silent_node_changes_no_status_and_stops_nothing() -> None:
    world = World()
    world.apply("a")
    world.settle()
    before = world.status("a")
    world.silent.add("n0")
    decided = world.turn()
    assert decided.is_empty
    assert world.status("a") == before


def test_a_deleted_endpoint_drains_then_goes() -> None:
    world = World()
    world.apply("a", replicas=2)
    world.settle()
    world.delete("a")
    assert kinds(world.turn()) == ["DrainReplica", "DrainReplica"]
    assert condition(world, "a", "Ready").reason == "Deleting"
    world.settle()
    assert "a" not in world.endpoints
    assert not world.processes["n0"]


def test_an_endpoint_applied_while_it_is_deleted_lives_again() -> None:
    world = World()
    world.apply("a")
    world.settle()
    world.delete("a")
    world.turn()
    world.apply("a")
    world.settle()
    assert condition(world, "a", "Ready").status


def test_old_revisions_are_forgotten_but_never_one_in_use() -> None:
    world = World(cores=(4.0,))
    for cpu in range(1, REVISIONS_KEPT + 6):
        world.apply("a", cpu=cpu / 100)
        world.settle()
    assert len(world.revisions) == REVISIONS_KEPT
    assert world.endpoints["a"].serving in world.revisions


def test_what_served_before_is_kept_however_many_were_tried_in_vain_since() -> None:
    world = World(cores=(4.0,))

    def tried(cpus: range) -> None:
        for cpu in cpus:
            world.apply("a", cpu=cpu / 100)
            world.turn()

    world.apply("a")
    world.settle()
    first = world.endpoints["a"].serving
    tried(range(1, REVISIONS_KEPT + 4))
    world.settle()
    assert world.endpoints["a"].serving != first
    assert first in world.revisions, "the way back of the newest rollout"
    world.dossiers[first] = DossierState(has_served=True)
    tried(range(50, 50 + REVISIONS_KEPT + 4))
    world.settle()
    assert first in world.revisions, "it had the traffic once"
    assert len(world.revisions) <= REVISIONS_KEPT + 2


def test_a_version_that_cannot_be_served_leaves_what_serves_alone() -> None:
    world = World()
    world.apply("a")
    world.settle()
    snapshot = world.snapshot()
    gone = msgspec.structs.replace(snapshot, targets=dict.fromkeys(snapshot.targets))
    decided = plan(gone, world.now_s)
    assert not [each for each in decided.actions if not isinstance(each, CreateRevision | SetServing)]
    status = decided.statuses[0][1]
    assert find(status.conditions, "Ready").status  # type: ignore[union-attr]
    assert find(status.conditions, "Progressing").reason == "Unservable"  # type: ignore[union-attr]


def test_conditions_keep_the_moment_their_status_changed() -> None:
    world = World()
    world.apply("a", replicas=2)
    world.settle()
    since_s = condition(world, "a", "Ready").since_s
    world.crash(0)
    world.now_s += 5
    world.turn()
    assert condition(world, "a", "Ready").message.startswith("1 of 2")
    assert condition(world, "a", "Ready").since_s == since_s


def test_a_clock_that_was_set_back_holds_nothing_up() -> None:
    world = World()
    world.apply("a")
    world.settle()
    world.delete("a")
    world.turn()
    world.now_s -= 5000
    world.settle(turns=10)
    assert not world.processes["n0"]


def test_what_the_load_calls_for_runs_and_goes_again_within_the_bounds() -> None:
    world = World()
    world.apply("a", 1, 1, 0.5)  # one to two replicas
    world.settle()
    for called, runs in ((2, 2), (9, 2), (1, 1), (0, 1)):
        world.scale("a", called)
        world.settle()
        assert world.status("a").replicas_ready == runs
    world.scale("a", 2)
    world.settle()
    world.scaled = None  # a new control has not looked yet
    world.settle()
    assert world.status("a").replicas_ready == 2
