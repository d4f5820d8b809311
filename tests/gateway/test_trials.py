"""Requests that wait to be tried alone, because a replica died with one like them."""

import asyncio
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.gateway import rig as rigs
from tests.gateway.rig import Rig, infer, run
from tests.gateway.talkers import metric, metrics


@contextmanager
def another_holds_a_trial(rig: Rig) -> Iterator[None]:
    """Hold what another gateway of the machine would hold during its trial of digits."""
    name = hashlib.sha256(b"default/digits").hexdigest()[:16]
    file = os.open(rig.home.gateway / f"trial-{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


async def depth(rig: Rig) -> float:
    return metric(await metrics(rig), "stoker_queue_depth", endpoint="digits")


@pytest.mark.parametrize("limits", [{"queue_max": 2}, {"queue_max_bytes": 2500}], ids=["number", "bytes"])
def test_those_that_wait_for_a_trial_are_bounded(tmp_path: Path, limits: dict[str, Any]) -> None:
    gate = tmp_path / "gate"
    text = f"until:{gate} ".ljust(1000, "x")

    async def seen(name: str) -> bool:
        return any(line.startswith("request infer") for line in rig.lines(name))

    async def work() -> None:
        first = asyncio.create_task(infer(rig, text))
        while not (victims := [name for name in ("r0", "r1") if await seen(name)]):
            await asyncio.sleep(0.01)
        with another_holds_a_trial(rig):
            rig.kill(victims[0])
            while not metric(await metrics(rig), "stoker_retries_total", endpoint="digits"):
                await asyncio.sleep(0.01)
            waiting = [asyncio.create_task(infer(rig, text)) for _ in range(2)]
            while await depth(rig) < 2:
                await asyncio.sleep(0.01)
            refused = await infer(rig, text)
            assert refused.status == 429
            assert "2 requests wait to be tried alone" in refused.json["error"]
            assert int(refused.headers["retry-after"]) >= 1
            other = await infer(rig, "{}")
            assert other.status == 200, "nobody suspects this one"
        gate.touch()
        assert {answer.status for answer in await asyncio.gather(first, *waiting)} == {200}
        assert (await infer(rig, text)).status == 200

    with rigs.rig(tmp_path, replicas=2, **limits) as rig:
        run(work)
