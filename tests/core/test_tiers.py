"""Endpoints with backends in the loop: no replicas of their own, conditions about others, a change without a gap."""

from stoker.core.conditions import find
from stoker.types.routes import EndpointRoute
from tests.core.test_traffic import table
from tests.core.worlds import World


def route(world: World, name: str) -> EndpointRoute | None:
    return next((each for each in table(world).endpoints if each.endpoint == name), None)


def claims(world: World, name: str) -> dict[str, tuple[bool, str, str]]:
    return {each.type: (each.status, each.reason, each.message) for each in world.status(name).conditions}


def test_a_tier_makes_no_revision_and_is_ready_when_one_backend_is() -> None:
    world = World()
    world.apply("a")
    world.stand_for("t", "a", "b")
    world.turn()
    assert claims(world, "t")["Ready"] == (False, "NoBackendReady", "none of its backends is ready: a, b")
    assert claims(world, "t")["Progressing"][:2] == (True, "WaitingForBackends")
    world.settle()
    assert claims(world, "t")["Ready"] == (True, "BackendsReady", "1 of 2 backends ready: a")
    assert claims(world, "t")["Progressing"][:2] == (False, "Complete")
    assert [revision.endpoint for revision in world.revisions.values()] == ["a"]
    world.crash(0)
    world.turn()
    assert claims(world, "t")["Ready"][0] is False, "in the turn that sees it"


def test_a_tier_of_tiers_is_ready_when_a_leaf_is() -> None:
    world = World()
    world.stand_for("u", "t")
    world.stand_for("t", "a")
    world.apply("a")
    world.settle()
    world.turn()
    assert claims(world, "u")["Ready"][0]
    assert claims(world, "t")["Ready"][0]


def test_gateways_are_told_of_backends_with_the_task_of_the_first_that_says_one() -> None:
    world = World()
    world.stand_for("t", "a")
    world.turn()
    assert route(world, "t") is None, "nobody knows what it does"
    world.apply("a")
    world.turn()
    found = route(world, "t")
    assert found is not None
    assert (found.task, found.revisions, [each.endpoint for each in found.backends]) == ("predict", (), ["a"])


def test_a_model_serves_until_a_backend_is_ready_and_its_replicas_then_leave_the_table_before_they_stop() -> None:
    world = World()
    world.apply("t", model=1)
    world.settle()
    world.stand_for("t", "a")
    world.turn()
    found = route(world, "t")
    assert found is not None
    assert not found.backends
    assert len(found.revisions[0].replicas) == 1
    world.apply("a")
    world.turn()
    world.work()
    while not claims(world, "t")["Ready"][0]:
        world.turn()
        world.work()
    found = route(world, "t")
    assert found is not None
    assert found.backends
    assert found.revisions == ()
    assert any(name.startswith("default.t-1") for name in world.processes["n0"]), "it finishes what it holds"
    world.settle()
    assert not any(name.startswith("default.t-1") for name in world.processes["n0"])


def test_a_tier_becomes_a_model_and_is_deleted_like_any_other() -> None:
    world = World()
    world.apply("a")
    world.stand_for("t", "a")
    world.settle()
    world.apply("t", model=2)
    world.settle()
    found = route(world, "t")
    assert found is not None
    assert not found.backends
    assert find(world.status("t").conditions, "Ready").reason == "ReplicasReady"  # type: ignore[union-attr]
    world.stand_for("t", "a")
    world.settle()
    world.delete("t")
    world.settle()
    assert "t" not in world.endpoints
