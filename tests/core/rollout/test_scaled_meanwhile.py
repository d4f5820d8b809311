"""A rollout and the load at once: who gets the traffic does not move with the number of replicas, nor the other way."""

import msgspec
import pytest

from stoker.types.resources import Replicas
from stoker.types.rollouts import Rollout
from tests.core.worlds import World


def rounds(world: World) -> None:
    for _ in range(20):
        world.turn()
        world.work()
        world.now_s += 1.0


def rolling(replicas: int, least: int = 1) -> World:
    """Return a canary at 20 % of an endpoint that has so many replicas by its load."""
    world = World((20.0,))
    rollout = Rollout(strategy="canary", steps=(20,), requests_min=50, dwell="600s")

    def apply(model: int) -> None:
        world.apply("a", model, rollout=rollout)
        state = world.endpoints["a"]
        spec = msgspec.structs.replace(state.resource.spec, replicas=Replicas(min=least, max=6))
        world.endpoints["a"] = msgspec.structs.replace(
            state, resource=msgspec.structs.replace(state.resource, spec=spec)
        )

    apply(1)
    world.scale("a", replicas)
    rounds(world)
    apply(2)
    rounds(world)
    assert (world.rollout.phase, world.rollout.weight) == ("stepping", 20)
    return world


def counts(world: World) -> tuple[int, int]:
    """Return the replicas of baseline and canary that are wanted."""
    wanted = [each.revision for each in world.assignments.values() if each.phase == "wanted"]
    return wanted.count("default.a-1"), wanted.count("default.a-2")


def test_more_load_grows_both_and_moves_no_traffic() -> None:
    world = rolling(2)
    before = counts(world)
    world.scale("a", 5)
    rounds(world)
    grown = counts(world)
    assert grown[0] == 5 > before[0]
    assert grown[1] >= before[1]
    assert (world.rollout.phase, world.rollout.weight) == ("stepping", 20)


@pytest.mark.parametrize("called", [1, 0])
def test_less_load_takes_no_replica_from_what_a_bad_canary_goes_back_to(called: int) -> None:
    world = rolling(4, least=0)
    before = counts(world)
    world.scale("a", called)
    rounds(world)
    assert counts(world) == before, "while it runs none goes, nor to zero"
    assert world.rollout.weight == 20
    world.count(canary=(60, 60), baseline=(240, 0))
    world.now_s += 1.0
    rounds(world)
    assert world.rollout.phase == "rolled-back"
    rounds(world)
    assert counts(world) == (called, 0), "what the load calls for holds again"
