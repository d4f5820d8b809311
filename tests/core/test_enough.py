"""A project without GPU-hours keeps what it has, can go back, and gets nothing more on GPUs."""

from stoker.core.conditions import find
from tests.core.worlds import World

WHY = "project 'default' has used 10.0 of 10 GPU-hours of this month"


def world(*, replicas: int = 1) -> World:
    made = World(cores=(8.0,), memory_bytes=8 << 30)
    made.gpus["n0"] = 4
    made.apply("a", replicas=replicas, gpu=1.0)
    made.settle()
    return made


def started(decided: object) -> int:
    return sum(type(each).__name__ == "StartReplica" for each in decided.actions)  # type: ignore[attr-defined]


def test_what_runs_goes_on_and_does_not_grow_until_the_hours_begin_anew() -> None:
    made = world()
    made.spent = {"default": WHY}
    made.apply("a", replicas=3, gpu=1.0)
    assert started(made.turn()) == 0
    made.settle()
    assert len(made.replicas("default.a-1")) == 1
    assert made.status("a").serving == "default.a-1"
    made.spent = {}
    made.settle()
    assert len(made.replicas("default.a-1")) == 3


def test_a_new_endpoint_on_gpus_gets_no_replica_and_says_why_and_one_without_gpus_does() -> None:
    made = world()
    made.spent = {"default": WHY}
    made.apply("b", gpu=1.0)
    made.apply("c")
    made.settle()
    assert not [each for each in made.revisions if each.startswith("default.b")]
    conditions = made.status("b").conditions
    assert any("GPU-hours" in each.message for each in conditions), conditions
    assert made.status("c").serving == "default.c-1"
    assert find(made.status("a").conditions, "Ready").status  # type: ignore[union-attr]


def test_no_new_revision_starts_and_the_way_back_is_open() -> None:
    made = world()
    made.apply("a", model=2, gpu=1.0)
    made.settle()
    assert made.status("a").serving == "default.a-2"
    made.spent = {"default": WHY}
    made.apply("a", model=3, gpu=1.0)
    made.settle()
    assert made.status("a").serving == "default.a-2"
    assert "default.a-3" not in made.revisions
    made.apply("a", model=1, gpu=1.0)  # as a rollback asks for it
    made.settle()
    assert made.status("a").serving == "default.a-1"
    assert len(made.replicas("default.a-1")) == 1


def test_a_replica_that_is_lost_is_replaced() -> None:
    made = world(replicas=2)
    made.spent = {"default": WHY}
    lost = made.replicas("default.a-1")[0]
    del made.processes["n0"][lost]
    made.settle()
    assert len(made.replicas("default.a-1")) == 2
