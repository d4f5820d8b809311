"""Who must go so that another one can be placed, and that this ends."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.core.actions import DrainReplica
from stoker.core.capacity import Capacity, Demand, Held, fits, room
from stoker.core.conditions import PROGRESSING, find
from stoker.core.preemption import MadeRoom, make_room
from stoker.core.reconcile import Plan
from stoker.core.snapshot import Snapshot
from stoker.core.statuses import no_room
from stoker.types.ids import NodeName
from stoker.types.placement import PlacementSpec
from tests.core.test_place import DEMANDS, NODES, demand, fill, held, node
from tests.core.worlds import World

SHED, STANDARD, CRITICAL = (PlacementSpec(priority=each) for each in ("sheddable", "standard", "critical"))


def serving(world: World) -> dict[str, int]:
    found = dict.fromkeys(world.endpoints, 0)
    for each in world.assignments.values():
        found[each.endpoint] += each.phase == "wanted"
    return found


def test_one_goes_rather_than_two_and_of_two_the_less_valuable() -> None:
    wanted, nodes = demand(2.0, endpoint="urgent"), [node("a", 3.0), node("b", 3.0)]
    small = [held("a", demand(1.0), f"a{at}") for at in range(3)]
    large = [held("b", demand(1.0), "b0"), held("b", demand(2.0), "b1")]
    every = [*small, *large]
    assert make_room(wanted, nodes, every, every) == MadeRoom(NodeName("b"), (large[1],))
    assert make_room(wanted, nodes, every, small) == MadeRoom(NodeName("a"), (small[0], small[1]))
    assert make_room(demand(1.0), nodes, every, every[::-1]) == MadeRoom(NodeName("b"), (large[1],))
    assert make_room(wanted, nodes, every, ()) is None
    assert make_room(demand(9.0), nodes, every, every) is None


def test_nobody_goes_for_what_fits_already() -> None:
    there = held("a", demand(), "r1")
    assert make_room(demand(), [node("a")], [there], [there]) == MadeRoom(NodeName("a"), ())


def test_the_gpus_that_become_free_are_named() -> None:
    every = [held("a", demand(0.1, gpu=1.0), f"r{at}", (at,)) for at in range(3)]
    made = make_room(demand(0.1, gpu=2.0), [node("a", gpus=3)], every, every[1:])
    assert made == MadeRoom(NodeName("a"), (every[1], every[2]), (1, 2))


@given(NODES, st.lists(DEMANDS, max_size=9), DEMANDS, st.sets(st.integers(0, 8)))
def test_no_one_goes_in_vain_and_it_is_given_up_only_when_all_would_not_do(
    nodes: list[Capacity], demands: list[Demand], wanted: Demand, which: set[int]
) -> None:
    placed = fill(nodes, demands)
    may = [each for at, each in enumerate(placed) if at in which]

    def does(there: Capacity, go: tuple[Held, ...]) -> bool:
        left = [each for each in placed if each.node == there.node and each not in go]
        return there.pool == wanted.pool and fits(wanted, room(wanted, there, left))

    made = make_room(wanted, nodes, placed, may)
    assert (made is not None) == any(does(each, tuple(may)) for each in nodes)
    if made is not None:
        there = next(each for each in nodes if each.node == made.node)
        assert set(made.go) <= {each for each in may if each.node == made.node}
        assert does(there, made.go)
        assert not any(does(there, fewer) for fewer in combinations(made.go, max(len(made.go) - 1, 0)) if made.go)


def test_a_sheddable_replica_goes_for_a_standard_one_with_its_grace_and_waits_with_the_arithmetic() -> None:
    world = World(cores=(2.0,))
    world.apply("jobs", replicas=2, cpu=1.0, placement=SHED)
    world.settle()
    world.apply("shop", cpu=1.0)
    plan = world.turn()
    (gone,) = [each for each in plan.actions if isinstance(each, DrainReplica)]
    assert gone.because == "it is sheddable, and default.shop (standard) needs its room"
    said = "needs 1.0 core, largest free is 0.0 on node n0; sheddable replicas make room on node n0"
    assert no_room(world.status("shop")) == said
    assert gone.replica in world.processes["n0"], "it is told to gateways before it is stopped"
    world.settle()
    assert serving(world) == {"jobs": 1, "shop": 1}
    progress = find(world.status("jobs").conditions, PROGRESSING)
    assert progress is not None
    assert (progress.reason, progress.message) == (
        "Preempted",
        "default.shop (standard) took its room; needs 1.0 core, largest free is 0.0 on node n0",
    )
    world.delete("shop")
    world.settle()
    assert serving(world) == {"jobs": 2}


def test_the_room_of_several_is_kept_until_it_is_whole() -> None:
    world = World(cores=(3.0,))
    world.apply("jobs", replicas=3, cpu=1.0, placement=SHED)
    world.settle()
    world.apply("large", cpu=2.0, placement=CRITICAL)
    world.turn()
    leaves = [each for each in world.assignments.values() if each.phase != "wanted"]
    assert len(leaves) == 2
    for _ in range(3):
        world.turn()
        world.now_s += 0.6
    del world.processes["n0"][leaves[0].replica]  # the other one takes its time
    for _ in range(5):
        world.turn()
        world.now_s += 0.6
    assert leaves[0].replica not in world.assignments
    assert len(world.replicas("default.jobs-1")) == 2, "nobody comes into the half that is free"
    world.settle()
    assert serving(world) == {"jobs": 1, "large": 1}


def test_nobody_goes_where_it_would_not_help_and_sheddable_ones_make_nobody_go() -> None:
    world = World(cores=(2.0,))
    world.apply("shop", cpu=1.5)
    world.apply("jobs", cpu=0.5, placement=SHED)
    world.settle()
    world.apply("more", cpu=1.0)
    world.apply("other", cpu=0.5, placement=SHED)
    world.settle()
    assert serving(world) == {"shop": 1, "jobs": 1, "more": 0, "other": 0}


ASKED = st.lists(
    st.tuples(
        st.sampled_from(("a", "b", "c", "d")),
        st.integers(1, 2),
        st.integers(0, 3),
        st.sampled_from((0.5, 1.0, 2.0)),
        st.sampled_from((SHED, SHED, STANDARD, CRITICAL)),
        st.integers(0, 4),
    ),
    min_size=2,
    max_size=12,
)


@settings(max_examples=100)
@given(ASKED)
def test_preemption_ends_takes_sheddable_replicas_only_and_leaves_no_room_that_is_owed(script: list) -> None:
    world = World(cores=(3.0, 2.0))
    gone: list[str] = []

    def check(snapshot: Snapshot, decided: Plan, _world: World) -> None:
        priorities = {each.name: each.resource.spec.placement.priority for each in snapshot.endpoints}
        for each in decided.actions:
            if isinstance(each, DrainReplica) and each.because.startswith("it is sheddable"):
                assert priorities[each.endpoint] == "sheddable"
                gone.append(each.replica)

    for name, model, replicas, cpu, placement, turns in script:
        world.apply(name, model, replicas, cpu, placement=placement)
        for _ in range(turns):
            world.turn(checks=(check,))
            world.work()
            world.now_s += 0.6
    for _ in range(40):
        world.turn(checks=(check,))
        world.work()
        world.now_s += 90.0
    before = len(gone)
    for _ in range(20):
        world.turn(checks=(check,))
        world.work()
        world.now_s += 1.0
    assert len(gone) == before, "nothing goes round"
    assert len(set(gone)) == len(gone)
    for endpoint in world.endpoints.values():
        assert "make room" not in no_room(endpoint.status), "what was promised has come"
