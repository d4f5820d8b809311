"""An endpoint that sleeps, on a real platform: who comes meanwhile waits, is answered, and wakes it once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.control.rig import Rig, conditions, endpoint, infer, until
from tests.control.test_platform import READY_S, answers, apply, replica_processes

HERD = 200


def test_a_herd_that_comes_while_it_sleeps_is_answered_by_the_one_replica_that_it_wakes(
    rig: Rig, onnx_files: list[Path]
) -> None:
    rig.start_agent()
    rig.push("m", onnx_files[0])
    apply(rig, endpoint(model="m@1", replicas={"min": 0, "max": 2}, scaling={"idle_timeout": "2s"}))
    until(lambda: answers(rig), "it is awake at first", READY_S)
    until(lambda: not replica_processes(rig), "it sleeps", READY_S)
    before = starts(rig)
    barrier = threading.Barrier(HERD)

    def come(_: int) -> float:
        barrier.wait()
        return infer(rig)[0]

    with ThreadPoolExecutor(HERD) as pool:
        assert list(pool.map(come, range(HERD))) == [4.0] * HERD
    assert len(starts(rig)) == len(before) + 1, starts(rig)


def test_one_that_its_schedules_close_says_until_when_at_once_and_starts_nothing(
    rig: Rig, onnx_files: list[Path]
) -> None:
    rig.start_agent()
    rig.push("m", onnx_files[0])
    opens = datetime.now(UTC) + timedelta(hours=2)
    closing = {"begin": f"{opens + timedelta(minutes=1):%H:%M}", "end": f"{opens:%H:%M}", "max": 0}
    awake = {"model": "m@1", "replicas": {"min": 0, "max": 2}}
    apply(rig, endpoint(**awake))
    until(lambda: answers(rig), "it is awake at first", READY_S)
    apply(rig, endpoint(**awake, scaling={"schedules": [closing]}))
    until(lambda: not replica_processes(rig), "nothing runs", READY_S)
    before = starts(rig)
    with pytest.raises(
        AssertionError, match=rf"503.*a is closed until ... {opens:%H:%M} UTC: the maximum of the schedule"
    ):
        infer(rig, **{"x-request-timeout-ms": "60000"})
    assert starts(rig) == before
    assert conditions(rig)["Ready"].reason == "Closed"
    apply(rig, endpoint("b", model="m@1"))
    apply(rig, endpoint(**awake, scaling={"schedules": [closing]}, fallback=["b"]))
    until(lambda: answers(rig), "its fallback answers for it", READY_S)
    assert conditions(rig)["Ready"].reason == "Closed"
    apply(rig, endpoint(**awake))
    until(lambda: answers(rig), "it opens when the schedule is taken away", READY_S)


def test_a_revision_without_room_has_that_of_an_idle_one_and_takes_nobodys_traffic_before(
    rig: Rig, onnx_files: list[Path]
) -> None:
    rig.start_agent()
    for file in onnx_files:
        rig.push("m", file)
    cores = rig.client.nodes()[0].cores

    def give(version: int, share: float, least: int = 0) -> None:
        room = {"cpu": share * cores, "memory": "128Mi"}
        spec = {"replicas": {"min": least, "max": 2}, "scaling": {"idle_timeout": "2s"}, "resources": room}
        apply(rig, endpoint(model=f"m@{version}", **spec))

    give(1, 0.7)
    until(lambda: answers(rig), "it serves", READY_S)
    until(lambda: rig.client.endpoint("default", "a").status.serving == "default.a-1", "and control knows", READY_S)
    give(2, 0.4)
    until(lambda: rig.client.endpoint("default", "a").status.serving == "default.a-2", "nobody asks", READY_S)
    until(lambda: not replica_processes(rig), "it sleeps", READY_S)
    apply(rig, endpoint("b", model="m@1", resources={"cpu": 0.5 * cores, "memory": "128Mi"}))
    until(lambda: rig.client.endpoint("default", "b").status.replicas_ready, "another one has the room", READY_S)
    give(3, 0.6)
    until(lambda: conditions(rig)["Progressing"].reason == "NoCapacity", "it has none", READY_S)
    assert infer(rig, **{"x-request-timeout-ms": "60000"})[0] == 8.0
    give(3, 0.6, least=1)
    until(lambda: conditions(rig)["Progressing"].reason == "NoCapacity", "it has none now either", READY_S)
    until(lambda: rig.client.endpoint("default", "a").status.replicas_ready, "what served serves", READY_S)
    assert infer(rig)[0] == 8.0


def starts(rig: Rig) -> list[tuple[str, str]]:
    every = rig.client.journal(endpoint="a", limit=1000)
    return [(each.action, each.because) for each in every if each.action.startswith("StartReplica")]
