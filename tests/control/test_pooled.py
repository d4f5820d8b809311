"""What pooling is told of endpoints that were never loaded, and what it makes of looks that saw too little."""

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec
import pytest

from stoker.control.observe import Observer, State
from stoker.control.scaling import pooled
from stoker.core.pooling import Standing
from stoker.core.scale.decide import Decision
from stoker.core.scale.memory import Memory
from stoker.core.scale.sight import Sight
from stoker.core.snapshot import Assignment, EndpointState, Revision
from stoker.placement.local import LocalDriver
from stoker.types.ids import Digest, EndpointName, ModelName, ProjectName
from stoker.types.models import ModelVersion
from stoker.types.placement import PlacementSpec
from stoker.types.process import NodeStatus
from stoker.types.resources import Replicas
from stoker.types.scaling import Scaling, Schedule
from tests.store.rows import assignment, endpoint, manifest, revision

NOW_S: Final = 1_800_000_000.0
VERSION: Final = ModelVersion(ModelName("m"), 1, Digest(f"sha256:{0:064x}"), manifest(), 1.0, 10)
RUNS: Final = Sight(NOW_S, ready=1, loaded_s=NOW_S - 100.0)
ASLEEP: Final = Sight(NOW_S)


class Nodes(LocalDriver):
    """One node with room for two replicas of 5 GiB."""

    def __init__(self) -> None:
        super().__init__("/nowhere")

    async def observe(self) -> tuple[NodeStatus, ...]:
        return (NodeStatus("local", 1, 8.0, 11 << 30, 11 << 30, ()),)


def scene(engines: Mapping[str, str], running: str) -> tuple[State, Observer]:
    """Return endpoints whose newest revisions have these engines, of which `running` run."""
    versions = {name: _revision(name, engine) for name, engine in engines.items()}
    states = tuple(
        EndpointState(ProjectName("default"), EndpointName(name), 1, endpoint(name), 1.0) for name in engines
    )
    held: tuple[Assignment, ...] = tuple(assignment(versions[name]) for name in running)
    observer = Observer(Nodes())
    asyncio.run(observer.look())
    return State(states, tuple(versions.values()), held, {}, {}), observer


def _revision(name: str, engine: str) -> Revision:
    one = revision(VERSION, name)
    return msgspec.structs.replace(one, config=msgspec.structs.replace(one.config, engine=engine, memory_bytes=5 << 30))


def seen(sight: Sight, standing: Standing) -> tuple[Decision, Sight]:
    return Decision(1, "", (), Memory(desired=1, pooled=standing), sleeps=True), sight


@pytest.mark.parametrize(("engine", "start_s"), [("onnx", 3), ("llamacpp", 9), ("python", 40)])
def test_one_that_was_never_loaded_is_taken_to_start_as_others_of_its_engine_do(engine: str, start_s: int) -> None:
    state, observer = scene({"a": "onnx", "b": "llamacpp", "c": engine}, running="ab")
    looked = {
        (ProjectName("default"), EndpointName(name)): found
        for name, found in {
            "a": seen(RUNS, Standing(cold_start_s=3.0)),
            "b": seen(RUNS, Standing(cold_start_s=9.0, arrivals=50.0)),
            "c": seen(msgspec.structs.replace(ASLEEP, waiting=1), Standing(NOW_S - 1.0, arrivals=1.0)),
        }.items()
    }
    found = pooled.turns(state, observer.nodes(), looked, NOW_S)
    slept = found[ProjectName("default"), EndpointName("a")]
    assert slept.count == 0
    assert f"against 0.0167 requests/s x about {start_s} s" in slept.because


def test_who_was_told_to_come_back_waits_for_room_as_others_do() -> None:
    state, observer = scene({"a": "onnx", "b": "onnx", "c": "onnx"}, running="ab")
    expected = Decision(1, "", (), Memory(desired=1), sleeps=True), msgspec.structs.replace(ASLEEP, is_expected=True)
    standing = pooled.standing(*expected, NOW_S)
    assert standing.waits_s == NOW_S
    looked = {
        (ProjectName("default"), EndpointName(name)): found
        for name, found in {
            "a": seen(RUNS, Standing(cold_start_s=3.0)),
            "b": seen(RUNS, Standing(cold_start_s=3.0, arrivals=50.0)),
            "c": seen(expected[1], standing),
        }.items()
    }
    assert pooled.turns(state, observer.nodes(), looked, NOW_S)[ProjectName("default"), EndpointName("a")].count == 0
    back = msgspec.structs.replace(RUNS, is_expected=True)  # loaded, and who it was loaded for is not yet there
    looked[ProjectName("default"), EndpointName("a")] = seen(back, Standing(cold_start_s=3.0))
    assert pooled.turns(state, observer.nodes(), looked, NOW_S)[ProjectName("default"), EndpointName("a")].count == 1


@pytest.mark.parametrize("schedules", [(), (Schedule("22:00", "06:00", min=0),)])
def test_for_one_that_comes_a_sheddable_one_that_may_not_sleep_now_is_preempted(
    schedules: tuple[Schedule, ...],
) -> None:
    state, observer = scene({"a": "onnx", "b": "onnx", "c": "onnx"}, running="ab")
    spec = msgspec.structs.replace(
        state.endpoints[0].resource.spec,
        placement=PlacementSpec(priority="sheddable"),
        replicas=Replicas(min=1, max=2),
        scaling=Scaling(schedules=schedules),
    )
    first = msgspec.structs.replace(
        state.endpoints[0], resource=msgspec.structs.replace(state.endpoints[0].resource, spec=spec)
    )
    state = msgspec.structs.replace(state, endpoints=(first, *state.endpoints[1:]))
    awake = Decision(1, "", (), Memory(desired=1, pooled=Standing(cold_start_s=3.0)))
    looked = {
        (ProjectName("default"), EndpointName(name)): found
        for name, found in {
            "a": (awake, RUNS),
            "b": seen(msgspec.structs.replace(RUNS, in_flight=1), Standing(cold_start_s=3.0, arrivals=50.0)),
            "c": seen(msgspec.structs.replace(ASLEEP, waiting=1), Standing(NOW_S - 1.0, arrivals=1.0)),
        }.items()
    }
    comes = pooled.turns(state, observer.nodes(), looked, NOW_S)[ProjectName("default"), EndpointName("c")]
    assert (comes.count, comes.is_waiting) == (1, False)


def test_a_look_that_saw_too_little_takes_nobody_s_place_in_the_line() -> None:
    waits = Standing(NOW_S - 5.0, arrivals=1.0, seen_s=NOW_S - 1.0)
    for blind in (Sight(NOW_S, failures=1), Sight(NOW_S, span_s=0.0)):
        assert pooled.standing(*seen(blind, waits), NOW_S).waits_s == NOW_S - 5.0
    assert pooled.standing(*seen(ASLEEP, waits), NOW_S).waits_s == 0.0, "nobody waits any more"
