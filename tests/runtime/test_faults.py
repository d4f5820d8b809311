"""Faults that a replica puts into itself: they are felt, and nothing is left of them afterwards."""

import asyncio
import resource
import signal
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import Link, connect
from stoker.runtime import faults
from stoker.telemetry.metrics import Snapshot, decode_snapshot
from stoker.types.errors import Conflict, EngineFailed, InvalidInput
from stoker.types.faults import BAD_REVISION, METHOD, BadRevision
from tests.runtime.models import python_spec
from tests.runtime.rig import Process, drive, infer, running, until

# Answers what the wall clock says, a monotonic clock, and what this process takes of memory.
CLOCKS = """
import datetime, time
from pathlib import Path


class Model:
    inputs = {"input": ("FP64", [-1, 1])}
    outputs = {"wall_s": ("FP64", [-1]), "monotonic_s": ("FP64", [-1]), "pages": ("INT64", [-1])}

    def load(self, folder):
        pass

    def predict(self, inputs):
        rows = len(inputs["input"])
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return {"wall_s": [time.time()] * rows, "monotonic_s": [time.monotonic()] * rows, "pages": [pages] * rows}
"""


async def tell(link: Link, **fault: object) -> None:
    body = msgspec.json.encode(fault) if fault else b""
    await link.call(RequestHead(METHOD, body_bytes=len(body)), body, kind=Kind.CALL).answer()


async def seen(link: Link) -> dict[str, float]:
    return {name: float(value.flat[0]) for name, value in (await infer(link, [[0.0]])).items()}


async def becomes(link: Link, name: str, low: float, high: float) -> None:
    async with asyncio.timeout(60):
        while not low <= (await seen(link))[name] <= high:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("ends", ["by its clock", "by whoever asked", "with the connection"])
def test_the_wall_clock_is_another_and_right_again_and_no_other_clock_is_touched(ends: str, tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link, agent = await process.ready(), await process.connect()
        for seconds in (0.3, 3.0, 30.0) if ends == "by its clock" else (600.0,):
            await tell(agent, kind="clock", step_s=-5000.0, seconds=seconds)
            told = await seen(link)
            if told["wall_s"] < time.time() - 60:
                break  # else it was over before a busy machine came to ask
        assert abs(told["wall_s"] + 5000 - time.time()) < 60
        assert abs(told["monotonic_s"] - time.monotonic()) < 60
        if ends == "by whoever asked":
            await tell(agent)
            await tell(agent)  # again changes nothing
        elif ends == "with the connection":
            agent.close()
        await becomes(link, "wall_s", time.time() - 60, time.time() + 60)

    with running(python_spec(tmp_path / "model", CLOCKS), tmp_path) as process:
        drive(process, body)


def test_memory_grows_over_the_limit_and_is_given_back(tmp_path: Path) -> None:
    limit = 300 << 20

    async def body(process: Process) -> None:
        link = await process.ready()
        before = (await seen(link))["pages"]
        await tell(link, kind="memory", seconds=600)
        await becomes(link, "pages", limit / 4096, limit * 1.6 / 4096)
        await tell(link)
        await becomes(link, "pages", 0, before + (16 << 20) / 4096)

    with running(python_spec(tmp_path / "model", CLOCKS, memory_bytes=limit), tmp_path) as process:
        drive(process, body)


def test_a_fault_that_cannot_be_here_is_refused_with_what_would_be_needed(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        with pytest.raises(Conflict, match=r"spec\.resources\.memory"):
            await tell(link, kind="memory")
        with pytest.raises(Conflict, match="calls no server"):
            await tell(link, kind="dependency")
        with pytest.raises(Conflict, match="by the agent"):
            await tell(link, kind="hang")
        with pytest.raises(InvalidInput):
            await tell(link, kind="melt")
        await tell(link, kind="clock")
        with pytest.raises(Conflict, match="already"):
            await tell(link, kind="network")

    with running(python_spec(tmp_path / "model", CLOCKS), tmp_path) as process:
        drive(process, body)


def test_a_node_without_the_memory_is_not_brought_down(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        with pytest.raises(Conflict, match="stay free"):
            await tell(link, kind="memory")

    with running(python_spec(tmp_path / "model", CLOCKS, memory_bytes=1 << 50), tmp_path) as process:
        drive(process, body)


def test_a_bad_network_is_late_each_way_for_every_connection_and_then_no_more(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link, other = await process.ready(), await process.connect()
        await tell(other, kind="network", delay_s=0.2, loss_ratio=0.0, seconds=600)
        began_s = time.monotonic()
        await asyncio.gather(*(seen(each) for each in (link, other)))
        assert time.monotonic() - began_s >= 0.4
        fresh = await connect(process.spec.address)
        process.links.append(fresh)
        began_s = time.monotonic()
        await seen(fresh)
        assert time.monotonic() - began_s >= 0.4
        await tell(other)
        took_s = 1.0
        async with asyncio.timeout(60):
            while took_s >= 0.2:  # what is on its way still arrives late
                began_s = time.monotonic()
                await asyncio.gather(*(seen(each) for each in (link, other, fresh)))
                took_s = time.monotonic() - began_s

    with running(python_spec(tmp_path / "model", CLOCKS), tmp_path) as process:
        drive(process, body)


def test_a_stop_amid_a_bad_network_loses_no_answer(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        await tell(link, kind="network", delay_s=0.1, loss_ratio=0.5, seconds=600)
        asked = asyncio.ensure_future(infer(link, [[0.0]]))
        await until(await process.connect(), lambda stats: stats.finished > 0, process)
        process.signal(signal.SIGTERM)
        assert "wall_s" in await asked

    with running(python_spec(tmp_path / "model", CLOCKS), tmp_path) as process:
        drive(process, body)


def test_a_bad_revision_fails_the_same_requests_everywhere_and_only_until_its_time() -> None:
    def failed(requests: int, bad: BadRevision) -> set[int]:
        found = set()
        failing = faults.failing(msgspec.json.encode(bad).decode())
        assert failing is not None
        for number in range(requests):
            try:
                failing.check(f"request-{number}")
            except EngineFailed:
                found.add(number)
        return found

    bad = BadRevision(time.time() + 600, 0.3)
    assert failed(2000, bad) == failed(2000, bad)
    assert np.isclose(len(failed(2000, bad)) / 2000, 0.3, atol=0.05)
    assert not failed(2000, BadRevision(time.time() - 1, 1.0))
    assert faults.failing("") is None
    with pytest.raises(InvalidInput, match=BAD_REVISION):
        faults.failing("yes")


async def numbers(link: Link) -> Snapshot:
    _, body = await link.call(RequestHead("metrics"), kind=Kind.CALL).answer()
    return decode_snapshot(body)


def test_a_replica_says_that_its_clock_was_set_and_that_it_can_write_to_no_file(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        unwritable, stepped = "stoker_replica_unwritable", "stoker_replica_clock_stepped_seconds_total"
        before = await numbers(link)
        assert (before.total(unwritable), before.total(stepped)) == (0.0, 0.0)
        await tell(link, kind="clock", step_s=-5000.0, seconds=600)
        assert (await numbers(link)).total(stepped) == pytest.approx(5000, abs=1)
        await tell(link)
        assert (await numbers(link)).total(stepped) == pytest.approx(10_000, abs=2)
        _, hard = resource.prlimit(process.popen.pid, resource.RLIMIT_FSIZE)
        for most, is_refused in ((0, 1.0), (resource.RLIM_INFINITY, 0.0)):
            resource.prlimit(process.popen.pid, resource.RLIMIT_FSIZE, (most, hard))
            async with asyncio.timeout(60):
                while (await numbers(link)).total(unwritable) != is_refused:
                    await asyncio.sleep(0.01)

    with running(python_spec(tmp_path / "model", CLOCKS), tmp_path) as process:
        drive(process, body)
