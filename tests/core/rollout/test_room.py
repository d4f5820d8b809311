"""A rollout that has no room: an idle endpoint lets the new revision have its own, an asked one goes on serving."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.core import conditions
from stoker.types.resources import Replicas
from stoker.types.rollouts import Rollout, Strategy
from tests.core.worlds import World

OLD, NEW = "default.a-1", "default.a-2"


def apply(world: World, model: int, cpu: float, least: int = 0, strategy: Strategy = "auto") -> None:
    world.apply("a", model, cpu=cpu, rollout=Rollout(strategy=strategy))
    state = world.endpoints["a"]
    spec = msgspec.structs.replace(state.resource.spec, replicas=Replicas(min=least, max=2))
    world.endpoints["a"] = msgspec.structs.replace(state, resource=msgspec.structs.replace(state.resource, spec=spec))


def rounds(world: World, count: int = 15) -> None:
    for _ in range(count):
        world.turn()
        world.work()
        world.now_s += 1.0


def awake(cpu: float = 1.0) -> World:
    """Return an endpoint whose one replica serves on a node of 1.5 cores."""
    world = World(cores=(1.5,))
    apply(world, 1, cpu)
    world.scale("a", 1)
    rounds(world)
    assert running(world) == (1, 0)
    return world


def asleep() -> World:
    world = awake()
    world.scale("a", 0)
    rounds(world)
    assert running(world) == (0, 0)
    return world


def running(world: World) -> tuple[int, int]:
    """Return how many replicas of the old and of the new revision are wanted."""
    wanted = [each.revision for each in world.assignments.values() if each.phase == "wanted"]
    return wanted.count(OLD), wanted.count(NEW)


def said(world: World, kind: str) -> tuple[str, str]:
    found = conditions.find(world.status("a").conditions, kind)
    assert found is not None
    return found.reason, found.message


@pytest.mark.parametrize("strategy", ["auto", "direct", "canary", "blue-green"])
def test_an_idle_endpoint_lets_a_revision_without_room_have_its_own_at_once(strategy: Strategy) -> None:
    world = awake()
    apply(world, 2, 1.2, strategy=strategy)
    rounds(world)
    assert running(world) == (1, 0), "while somebody asks, what serves stays"
    assert said(world, "Progressing")[1].endswith(
        "largest free is 0.5 on node n0; default.a-1 has that room: `rollout.strategy: recreate` has it go first"
    )
    world.scale("a", 0)
    rounds(world, 30)
    assert (world.rollout.phase, world.endpoints["a"].serving) == ("promoted", NEW)
    assert [each.event for each in world.timeline if each.event == "idle"] == ["idle"]
    assert running(world) == (0, 0), "and sleeps, for nobody asks"
    assert said(world, "Ready")[0] == "ScaledToZero"


def test_one_that_crashes_in_the_room_it_was_let_gives_it_back() -> None:
    world = awake()
    world.broken.add(2)
    apply(world, 2, 1.2)
    rounds(world)
    world.scale("a", 0)
    rounds(world, 4)
    world.scale("a", 1)
    rounds(world, 30)
    assert (world.rollout.phase, world.endpoints["a"].serving) == ("rolled-back", OLD)
    assert running(world) == (1, 0)
    assert said(world, "Ready")[0] == "ReplicasReady"


def test_an_idle_endpoint_sleeps_also_where_the_new_revision_would_not_fit_without_it_and_wakes() -> None:
    world = awake()
    world.apply("b", cpu=0.4)
    rounds(world)
    apply(world, 2, 1.4)
    rounds(world)
    world.scale("a", 0)
    rounds(world)
    assert running(world) == (0, 0)
    assert said(world, "Ready") == (
        "ScaledToZero",
        "nobody asks; the next request wakes default.a-1, for default.a-2 has no room",
    )
    assert said(world, "Progressing")[0] == "NoCapacity"
    world.scale("a", 1)
    rounds(world)
    assert running(world) == (1, 0)
    assert said(world, "Ready")[0] == "ReplicasReady"
    world.delete("b")
    world.scale("a", 0)
    rounds(world, 30)
    assert world.endpoints["a"].serving == NEW, "it goes on when there is room"


def test_an_a_b_is_not_decided_by_nobody_asking() -> None:
    world = awake()
    apply(world, 2, 1.2, strategy="a-b")
    rounds(world)
    world.scale("a", 0)
    rounds(world)
    assert (running(world), world.endpoints["a"].serving) == ((1, 0), OLD)


@pytest.mark.parametrize("least", [0, 1])
def test_what_sleeps_wakes_in_the_place_of_a_revision_that_has_no_room(least: int) -> None:
    world = asleep()
    world.apply("b", cpu=0.4)
    rounds(world)
    apply(world, 2, 1.4, least=least)
    rounds(world)
    assert world.endpoints["a"].serving == OLD, "nor is it promoted in its sleep"
    assert said(world, "Progressing")[0] == "NoCapacity"
    world.scale("a", 1)
    rounds(world)
    assert running(world) == (1, 0)
    assert said(world, "Ready")[0] == "ReplicasReady"
    world.capacity["n0"] = (4.0, world.capacity["n0"][1])
    rounds(world, 2)
    assert running(world) == (1, 1), "it serves on while the new one loads in the room that came"
    rounds(world)
    assert (running(world), world.endpoints["a"].serving) == ((0, 1), NEW)


def test_what_leaves_already_is_not_asked_to_make_room() -> None:
    world = awake()
    world.scale("a", 0)
    world.turn()
    assert running(world) == (0, 0)
    apply(world, 2, 1.2)
    rounds(world)
    assert (world.rollout.strategy, world.endpoints["a"].serving) == ("direct", NEW)


def test_a_sleeping_one_still_takes_a_revision_that_has_room() -> None:
    world = asleep()
    apply(world, 2, 1.2)
    rounds(world)
    assert (running(world), world.endpoints["a"].serving) == ((0, 0), NEW)


_STEP = st.one_of(
    st.tuples(st.just("scale"), st.integers(0, 2)),
    st.tuples(
        st.just("apply"),
        st.sampled_from((0.5, 1.0, 1.2, 1.4)),
        st.integers(0, 1),
        st.sampled_from(("auto", "direct", "canary", "blue-green", "shadow", "recreate")),
    ),
    st.tuples(st.just("beside"), st.sampled_from((0.2, 0.4, 0.9))),
    st.tuples(st.just("rounds"), st.integers(1, 12)),
)


@settings(max_examples=100)
@given(st.lists(_STEP, min_size=2, max_size=12))
def test_whatever_was_asked_for_an_asked_endpoint_ends_with_a_replica_and_an_idle_one_without(
    script: list[tuple[Any, ...]],
) -> None:
    """Of revisions that can start, whatever room there is beside them; but for one that is just compared."""
    world, model = awake(0.5), 1
    for operation, *arguments in script:
        match operation:
            case "scale":
                world.scale("a", arguments[0])
            case "apply":
                model += 1
                apply(world, model, *arguments)
            case "beside":
                world.apply("b", cpu=arguments[0])
            case _:
                rounds(world, arguments[0])
    least = world.endpoints["a"].resource.spec.replicas.min
    world.delete("b")
    world.scale("a", 1)
    for _ in range(8):
        rounds(world, 10)
        world.now_s += 700.0  # whatever waits for its time is over
    assert said(world, "Ready")[0] == "ReplicasReady"
    world.scale("a", least)
    for _ in range(8):
        rounds(world, 10)
        world.now_s += 700.0
    wanted = [each for each in world.assignments.values() if each.phase == "wanted"]
    is_compared = bool(world.rollouts) and world.rollout.phase == "stepping"  # it has the room for both
    assert is_compared or bool(wanted) == bool(least), world.rollouts
