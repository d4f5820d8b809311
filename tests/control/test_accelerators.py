"""How busy GPUs are is read from what nodes counted, and decides where a manifest lists the signal."""

import asyncio
from pathlib import Path
from typing import Final

import msgspec

from stoker.control.scaling.accelerators import Accelerators
from stoker.core.scale.decide import decide
from stoker.core.scale.memory import Memory
from stoker.core.scale.policy import Policy
from stoker.core.scale.sight import Sight
from stoker.core.snapshot import Assignment
from stoker.observe.history.history import History
from stoker.types.ids import NodeName
from tests.control.test_pooled import VERSION
from tests.observe.rig import START_S, Clock, Counting
from tests.store.rows import assignment, revision

USED: Final = {("n0", "0"): 0.97, ("n0", "1"): 0.91, ("n0", "2"): 0.02, ("n1", "0"): 0.40}


def on(node: str, *gpus: int) -> Assignment:
    return msgspec.structs.replace(assignment(revision(VERSION)), node=NodeName(node), gpus=gpus)


def seen(folder: Path) -> Accelerators:
    """Return what is known after two minutes in which every GPU was as busy as USED says."""

    async def work() -> Accelerators:
        clock, agent = Clock(), Counting("agent-n0")
        history = History(folder / "metrics.db", clock=clock)
        await history.start()
        for tick in range(24):
            clock.now_s = START_S + 5.0 * tick
            for (node, gpu), used in USED.items():
                agent.registry.gauge("stoker_gpu_utilization_ratio", node=node, gpu=gpu).set(used)
            await history.observe([agent.answer()])
        found = Accelerators(history)
        await found.look(clock.now_s)
        await history.close()
        return found

    return asyncio.run(work())


def test_the_gpus_that_its_replicas_have_count_each_once_and_no_others(tmp_path: Path) -> None:
    found = seen(tmp_path)
    assert round(found.of([on("n0", 0), on("n0", 0, 1)]) or 0.0, 3) == 0.94
    assert round(found.of([on("n1", 0)]) or 0.0, 3) == 0.4
    assert found.of([on("n1"), on("n2", 0)]) is None, "a replica without GPUs, and a node that does not count them"


def test_over_its_limit_one_more_is_called_for_only_where_the_signal_is_listed(tmp_path: Path) -> None:
    ratio = seen(tmp_path).of([on("n0", 0), on("n0", 1)])
    sight = Sight(at_s=START_S, ready=2, places=4.0, gpu_ratio=ratio)
    usual, listed = (
        decide(sight, Policy(max=5, signals=signals), Memory(desired=2), START_S)
        for signals in (("requests",), ("requests", "gpu"))
    )
    assert usual.desired == 2
    assert listed.desired == 3
    assert listed.because == "gpu: 94 % of its GPUs are busy, over 0.85: one more than 2"
