"""Control is told that somebody waits where nothing runs: once for a herd, and again after it was away."""

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from stoker.gateway.lane import Lane
from stoker.gateway.meters import Meters
from stoker.gateway.wakes import Wakes
from stoker.telemetry.metrics import Registry
from tests.gateway import rig as rigs
from tests.gateway.test_answers import TABLE
from tests.streams import serving

ANSWER = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"


class Control:
    """Takes what comes on its socket, and answers when it may."""

    def __init__(self) -> None:
        self.told = asyncio.Semaphore(0)
        self.heads: list[bytes] = []
        self.may_answer = asyncio.Event()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        self.told.release()
        await self.may_answer.wait()
        writer.write(ANSWER)
        await writer.drain()
        writer.close()


def test_a_herd_is_one_call_and_who_comes_during_it_is_another(tmp_path: Path) -> None:
    async def work() -> None:
        control, wakes = Control(), Wakes(tmp_path / "s")
        async with serving(control.take, tmp_path / "s"):
            telling = asyncio.create_task(wakes.run())
            for _ in range(200):
                wakes.ask()
            await control.told.acquire()
            wakes.ask()  # nobody knows whether control looked before or after this one came
            assert len(control.heads) == 1
            control.may_answer.set()
            await control.told.acquire()
            assert [head.split(b" HTTP")[0] for head in control.heads] == [b"POST /internal/v1/wake"] * 2
            telling.cancel()

    asyncio.run(asyncio.wait_for(work(), 20))


def test_a_control_that_is_away_is_told_when_it_is_back(tmp_path: Path) -> None:
    async def work() -> None:
        control, wakes = Control(), Wakes(tmp_path / "s")
        control.may_answer.set()
        telling = asyncio.create_task(wakes.run())
        wakes.ask()
        while wakes.is_asked:
            await asyncio.sleep(0)
        async with serving(control.take, tmp_path / "s"):
            wakes.ask()
            await control.told.acquire()
            telling.cancel()

    asyncio.run(asyncio.wait_for(work(), 20))


@pytest.mark.parametrize("sleeps", [True, False])
def test_only_who_waits_at_an_endpoint_that_sleeps_is_told_of(sleeps: bool) -> None:
    told: list[bool] = []
    route = msgspec.structs.replace(TABLE, holds=sleeps)
    lane = Lane(route, Meters(Registry("t"), "p", "e"), lambda *_: None, asleep=lambda: told.append(True))
    lane.cold()
    assert bool(told) is sleeps


@pytest.mark.parametrize(("opens_in_s", "again_s"), [(7200.0, 7200.0), (-5.0, 1.0)])
def test_who_comes_while_it_is_closed_hears_when_it_opens_and_does_not_wait(opens_in_s: float, again_s: float) -> None:
    route = msgspec.structs.replace(TABLE, revisions=(), closed="for the night", opens_at_s=time.time() + opens_in_s)
    lane = Lane(route, Meters(Registry("t"), "p", "e"), lambda *_: None)
    assert lane.is_down(time.monotonic())
    told = lane.unavailable()
    assert "is closed for the night" in str(told)
    assert told.retry_after_s == pytest.approx(again_s, abs=60)


def test_what_a_schedule_closes_out_is_refused_and_counted_and_no_objective_judges_it(tmp_path: Path) -> None:
    opens_at_s = time.time() + 7200
    with rigs.rig(tmp_path, replicas=0, closed="for the night", opens_at_s=opens_at_s) as rig:

        async def work() -> None:
            answer = await rigs.infer(rig, '{"n":1}')
            assert (answer.status, answer.headers["retry-after"]) == (503, "120")
            assert "closed for the night" in answer.body.decode()
            numbers = await rigs.counted(rig)
            assert numbers.total("stoker_requests_total", endpoint="digits") == 1
            assert numbers.total("stoker_first_attempts_total", endpoint="digits") == 0

        rigs.run(work)
