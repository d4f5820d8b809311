"""What a manifest says of placement, from the spec to the nodes and to the condition."""

from stoker.core.actions import StartReplica
from stoker.core.statuses import no_room
from stoker.types.placement import PlacementSpec
from tests.core.worlds import World


def nodes(world: World, endpoint: str) -> list[str]:
    return sorted(each.node for each in world.assignments.values() if each.endpoint == endpoint)


def test_replicas_are_put_on_the_nodes_of_their_pool_and_move_to_another_one_as_a_new_revision() -> None:
    world = World(cores=(4.0, 2.0))
    world.pools["n1"] = "batch"
    world.apply("a", cpu=1.0)
    world.apply("b", cpu=1.0, placement=PlacementSpec(pool="batch"))
    world.settle()
    assert (nodes(world, "a"), nodes(world, "b")) == (["n0"], ["n1"])
    world.apply("a", cpu=1.0, placement=PlacementSpec(pool="batch"))
    world.settle()
    assert nodes(world, "a") == ["n1"]
    assert world.endpoints["a"].serving == "default.a-2"


def test_a_pool_without_a_node_is_said_at_once_and_what_serves_goes_on() -> None:
    world = World()
    world.apply("a")
    world.settle()
    world.apply("a", placement=PlacementSpec(pool="big"))
    world.turn()
    world.turn()
    assert no_room(world.status("a")) == "no node is in pool big; there is default (1 node)"
    assert world.endpoints["a"].serving == "default.a-1"
    assert nodes(world, "a") == ["n0"]


def test_a_required_spread_waits_for_another_node_rather_than_share_one() -> None:
    world = World(cores=(4.0, 4.0))
    world.apply("a", replicas=3, placement=PlacementSpec(spread="required"))
    for _ in range(4):
        world.turn()
        world.work()
    assert nodes(world, "a") == ["n0", "n1"]
    assert no_room(world.status("a")).startswith("has room on node n0, n1, but spread is required")
    world.apply("a", replicas=3)
    world.settle()
    assert len(nodes(world, "a")) == 3
    assert world.endpoints["a"].serving == "default.a-1", "another spread makes no revision"


def test_endpoints_kept_apart_share_no_node_and_nothing_that_runs_is_moved() -> None:
    world = World(cores=(2.0, 1.0))
    world.apply("loud", cpu=0.5)
    world.settle()
    (beside,) = nodes(world, "loud")
    world.apply("shy", cpu=0.5, placement=PlacementSpec(apart=("loud",)))
    world.settle()
    assert nodes(world, "shy") == [{"n0": "n1", "n1": "n0"}[beside]]
    world.apply("third", cpu=0.5)
    world.settle()
    world.apply("third", cpu=0.5, placement=PlacementSpec(apart=("loud", "shy")))
    before = set(world.assignments)
    world.settle()
    assert set(world.assignments) == before


def test_gpus_are_given_once_kept_over_a_restart_and_free_when_their_replica_has_gone() -> None:
    world = World(cores=(8.0,))
    world.gpus["n0"] = 2
    world.apply("half", replicas=2, cpu=0.5, gpu=0.5)
    world.apply("whole", cpu=0.5, gpu=1)
    world.now_s += 1.0
    world.apply("late", cpu=0.5, gpu=1)
    for _ in range(4):
        world.turn()
        world.work()
    given = {each.endpoint: each.gpus for each in world.assignments.values()}
    assert sorted(given.values()) == [(0,), (1,)]
    assert [each.gpus for each in world.assignments.values() if each.endpoint == "half"] == [given["half"]] * 2
    assert no_room(world.status("late")) == "needs 1 GPU, largest free is 0.0 on node n0"
    world.processes["n0"].clear()
    started = [each for each in world.turn().actions if isinstance(each, StartReplica)]
    assert {each.endpoint: each.gpus for each in started} == given
    world.delete("whole")
    world.settle()
    assert {each.endpoint: each.gpus for each in world.assignments.values()}["late"] == given["whole"]
