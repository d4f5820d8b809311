"""An endpoint that sleeps, on a real platform: who comes meanwhile waits, is answered, and wakes it once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.control.rig import Rig, endpoint, infer, until
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


def starts(rig: Rig) -> list[tuple[str, str]]:
    every = rig.client.journal(endpoint="a", limit=1000)
    return [(each.action, each.because) for each in every if each.action.startswith("StartReplica")]
