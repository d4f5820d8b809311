"""Any mixture of requests through a real socket and the batcher: each gets its own answer, exactly once."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stoker.core.turns import AHEAD, BEHIND
from stoker.protocol.frames import RequestHead
from stoker.protocol.link import Link
from stoker.runtime import batcher, busy, calls
from stoker.runtime.engines.port import Array
from stoker.runtime.predict import PredictWork
from stoker.types.errors import Busy, DeadlineExceeded, EngineFailed, StokerError
from stoker.types.models import Signature, TensorSpec
from tests.runtime.models import spec_of
from tests.runtime.rig import hosted, infer, infer_body

BAD, SLOW, RAW = -1.0, -2.0, -3.0
QUICK_S = 0.0001


class Clock:
    """The time that engine calls take, and no other: however busy the machine is."""

    now_s = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Have the batcher go by the time that the engine says."""
    made = Clock()
    for module in (batcher, busy, calls):
        monkeypatch.setattr(module, "monotonic", lambda: made.now_s)
    return made


class Doubler:
    """A PredictEngine that doubles, and does as the row says: fail, take its time, give bytes that are no text."""

    signature = Signature(
        (TensorSpec("input", "FP64", (-1, 1)),), (TensorSpec("y", "FP64", (-1, 1)), TensorSpec("t", "BYTES", (-1,)))
    )
    batches = True
    may_inline = True

    def __init__(self, clock: Clock | None = None) -> None:
        self.calls: list[int] = []
        self.slow_s = 0.004  # well over what runs in the loop
        self.goes_on = threading.Event()  # what a slow call waits for
        self.goes_on.set()
        self._clock = clock

    def predict(self, inputs: Mapping[str, Array], outputs: tuple[str, ...]) -> dict[str, Array]:
        x = inputs["input"]
        self.calls.append(len(x))
        if (x == BAD).any():
            raise EngineFailed("a bad row")
        is_slow = bool((x == SLOW).any())
        if is_slow:
            assert self.goes_on.wait(60), "it holds up whoever lets it go on"
        if self._clock is not None:
            self._clock.now_s += self.slow_s if is_slow else QUICK_S
        elif is_slow:
            time.sleep(self.slow_s)
        texts = np.empty(len(x), object)
        texts[:] = [b"\xff" if value == RAW else b"text" for value in x[:, 0]]
        return {"y": x * 2, "t": texts}

    def close(self) -> None:
        pass


@contextlib.asynccontextmanager
async def doubling(folder: Path, engine: Doubler, **changes: Any) -> Any:
    (folder / "model.onnx").touch()
    async with hosted(folder, engine, spec_of(folder, "onnx", **changes)) as both:
        yield both


async def idle(work: PredictWork) -> None:
    async with asyncio.timeout(60):
        while not work.is_idle:
            await asyncio.sleep(0.001)


request_kinds = st.tuples(
    st.integers(1, 20),  # rows
    st.sampled_from([1.0, 1.0, 1.0, 2.0, SLOW, BAD, RAW]),
    st.sampled_from(["wait", "wait", "wait", "alone", "cancel", "late"]),
)


@settings(max_examples=60)
@example(script=[[(1, 1.0, "wait"), (1, RAW, "wait")]])  # what cannot be written is one request's own trouble
@given(script=st.lists(st.lists(request_kinds, min_size=1, max_size=12), max_size=4))
def test_every_request_gets_its_own_answer_exactly_once(
    script: list[list[tuple[int, float, str]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    engine = Doubler()

    async def ask(link: Link, number: int, rows: int, value: float, how: str) -> None:
        given_ = np.arange(rows, dtype=np.float64).reshape(-1, 1) + number * 100
        given_[rows // 2] = value
        if how == "cancel":
            data = infer_body(given_)
            link.call(RequestHead("infer", body_bytes=len(data)), data).cancel()
            return
        try:
            found = await infer(link, given_, alone=how == "alone", timeout_s=1e-6 if how == "late" else 60.0)
        except DeadlineExceeded:
            assert how == "late"
        except EngineFailed as problem:
            cause = RAW if "UTF-8" in problem.message else BAD
            assert value == cause, problem.message  # noqa: PT017 - only some of the requests may fail
        else:
            assert how != "late"
            assert value not in (BAD, RAW)
            assert found["y"].tolist() == (given_ * 2).tolist()

    async def main() -> None:
        async with doubling(tmp_path_factory.mktemp("h"), engine, max_rows=8) as (work, link):
            number = 0
            for burst in script:
                number += len(burst)
                await asyncio.gather(*(ask(link, number - at, *request) for at, request in enumerate(burst)))
            await idle(work)
            assert work.stats().queued == work.stats().running == 0

    asyncio.run(main())
    assert all(rows <= 8 for rows in engine.calls)


def test_the_engines_busy_time_is_that_of_its_calls_wherever_they_run(tmp_path: Path, clock: Clock) -> None:
    engine = Doubler(clock)
    engine.slow_s = 0.05

    async def main() -> None:
        async with doubling(tmp_path, engine) as (work, link):
            for _ in range(30):
                await infer(link, [[1.0]])
            assert work._batcher.is_inline
            assert work.stats().busy_s == pytest.approx(30 * QUICK_S)
            for _ in range(4):
                await infer(link, [[SLOW]])
            assert not work._batcher.is_inline
            await idle(work)
            clock.now_s += 1.0  # in which nothing runs
            assert work.stats().busy_s == pytest.approx(30 * QUICK_S + 4 * engine.slow_s)

    asyncio.run(main())


def test_short_calls_run_in_the_loop_and_long_ones_do_not(tmp_path: Path, clock: Clock) -> None:
    engine = Doubler(clock)

    async def main() -> None:
        async with doubling(tmp_path, engine) as (work, link):
            assert not work._batcher.is_inline  # nothing is known yet
            for _ in range(30):
                await infer(link, [[1.0]])
            assert work._batcher.is_inline
            for _ in range(30):
                await infer(link, [[SLOW]])
            assert not work._batcher.is_inline
            engine.goes_on.clear()
            slow = asyncio.create_task(infer(link, [[SLOW]]))
            while len(engine.calls) < 61:
                await asyncio.sleep(0.001)
            assert not slow.done()
            engine.goes_on.set()  # which nobody would come to, were it in the loop
            await slow
            for _ in range(200):
                await infer(link, [[1.0]])
            assert work._batcher.is_inline

    asyncio.run(main())


def test_a_lone_request_is_not_held_back_to_fill_a_batch(tmp_path: Path) -> None:
    engine = Doubler()

    async def main() -> None:
        async with doubling(tmp_path, engine) as (work, link):
            work.warm_up()
            engine.calls.clear()
            for _ in range(20):
                await infer(link, [[1.0]])
            assert engine.calls == [1] * 20

    asyncio.run(main())


def test_what_the_socket_brings_at_once_goes_through_the_engine_at_once(tmp_path: Path) -> None:
    engine = Doubler()

    async def main() -> None:
        async with doubling(tmp_path, engine) as (work, link):
            work.warm_up()
            engine.calls.clear()
            await asyncio.gather(*(infer(link, [[1.0]]) for _ in range(64)))
            assert sum(engine.calls) == 64
            assert len(engine.calls) <= 4

    asyncio.run(main())


def test_a_full_queue_is_refused_at_once_and_says_when_to_come_back(tmp_path: Path) -> None:
    engine = Doubler()
    engine.slow_s = 0.0
    engine.goes_on.clear()

    async def main() -> None:
        async with doubling(tmp_path, engine, concurrency=1, max_rows=1) as (_, link):
            asked = [asyncio.create_task(infer(link, [[SLOW]])) for _ in range(7)]
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)  # while the engine is in its first call
            engine.goes_on.set()
            found = await asyncio.gather(*asked, return_exceptions=True)
            refused = [answer for answer in found if isinstance(answer, StokerError)]
            assert refused
            assert all(isinstance(answer, Busy) and answer.retry_after_s for answer in refused)
            assert len(found) - len(refused) >= 4

    asyncio.run(main())


def test_a_large_request_takes_turns_with_small_ones(tmp_path: Path) -> None:
    engine = Doubler()

    async def main() -> None:
        async with doubling(tmp_path, engine, max_rows=4) as (_, link):
            order: list[str] = []

            async def ask(name: str, rows: int) -> None:
                found = await infer(link, np.full((rows, 1), SLOW))
                assert found["y"].shape == (rows, 1)
                order.append(name)

            await asyncio.gather(ask("large", 40), ask("small", 1), ask("small", 1))
            assert order == ["small", "small", "large"]

    asyncio.run(main())


def test_the_answer_tells_what_the_engine_saw(tmp_path: Path) -> None:
    async def main() -> None:
        async with doubling(tmp_path, Doubler()) as (_, link):
            data = infer_body([[1.0], [2.0]])
            end, body = await link.call(RequestHead("infer", body_bytes=len(data)), data).answer()
            assert end.usage.rows == end.timings.batch_rows == 2
            assert end.timings.compute_s > 0
            assert json.loads(body)["model_name"] == "it"

    asyncio.run(main())


def test_a_call_takes_no_more_bytes_than_it_may_and_a_large_request_goes_in_parts(tmp_path: Path) -> None:
    engine = Doubler()

    async def main() -> None:
        async with doubling(tmp_path, engine, max_bytes=4 * 8) as (work, link):
            work.warm_up()
            assert max(engine.calls) == 4
            engine.calls.clear()
            rows = np.arange(10.0).reshape(-1, 1)
            found = await asyncio.gather(infer(link, rows), *(infer(link, [[1.0]]) for _ in range(20)))
            assert found[0]["y"].tolist() == (rows * 2).tolist()
            assert sum(engine.calls) == 30
            assert max(engine.calls) == 4

    asyncio.run(main())


def test_what_waits_is_bounded_by_a_part_of_the_replicas_memory(tmp_path: Path) -> None:
    engine = Doubler()
    engine.slow_s = 0.0
    engine.goes_on.clear()
    kilobytes = np.full((1000, 1), SLOW)  # 8 kB of tensors in a body of 5: what is held is the larger

    async def main() -> None:
        async with doubling(tmp_path, engine, memory_bytes=100_000, max_body_bytes=6000, max_rows=1000) as (work, link):
            asked = [asyncio.create_task(infer(link, kilobytes)) for _ in range(6)]
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            engine.goes_on.set()
            found = await asyncio.gather(*asked, return_exceptions=True)
            refused = [answer for answer in found if isinstance(answer, Busy)]
            assert 1 <= len(refused) <= 3  # one runs or all wait: three of 8 kB fit in a quarter of the memory
            assert all("bytes wait" in answer.message and answer.retry_after_s for answer in refused)
            await infer(link, kilobytes)  # and once they are gone there is room again
            assert work._batcher._queue_bytes == 0

    asyncio.run(main())


def test_what_cannot_make_its_deadline_is_told_when_to_come_back(tmp_path: Path, clock: Clock) -> None:
    engine = Doubler(clock)
    engine.slow_s = 0.05

    async def main() -> None:
        async with doubling(tmp_path, engine, max_rows=1) as (work, link):
            for _ in range(6):
                await infer(link, [[SLOW]])  # 50 ms a call is known now
            found = await asyncio.gather(
                *(infer(link, [[SLOW]], timeout_s=0.12) for _ in range(6)), return_exceptions=True
            )
            dropped = [answer for answer in found if isinstance(answer, DeadlineExceeded)]
            assert len(dropped) == 4
            assert all(answer.retry_after_s and answer.code == "deadline_exceeded" for answer in dropped)
            # Coming back cannot help where the engine alone takes longer than there is time.
            with pytest.raises(DeadlineExceeded) as never:
                await infer(link, [[SLOW]], timeout_s=0.01)
            assert never.value.retry_after_s is None
            assert work.is_idle

    asyncio.run(main())


def test_who_came_past_full_places_goes_with_the_next_call_and_who_goes_behind_fills_it_up(
    tmp_path: Path,
) -> None:
    engine = Doubler()
    engine.goes_on.clear()

    async def main() -> None:
        async with doubling(tmp_path, engine, max_rows=4) as (work, link):
            order: list[str] = []

            async def ask(name: str, turn: int, value: float = 1.0) -> None:
                await infer(link, [[value]], turn=turn)
                order.append(name)

            async def wait(name: str, turn: int, count: int = 1) -> list[asyncio.Task[None]]:
                wanted = work.stats().queued + count
                made = [asyncio.create_task(ask(name, turn)) for _ in range(count)]
                async with asyncio.timeout(60):
                    while work.stats().queued < wanted:
                        await asyncio.sleep(0.001)
                return made

            tasks = [asyncio.create_task(ask("runs", 0, SLOW))]
            while not engine.calls:
                await asyncio.sleep(0.001)
            tasks += await wait("behind", BEHIND, 2)
            tasks += await wait("plain", 0, 4)
            tasks += await wait("ahead", AHEAD, 2)
            engine.goes_on.set()
            await asyncio.gather(*tasks)
            assert order[0] == "runs"
            assert sorted(order[1:5]) == ["ahead", "ahead", "plain", "plain"]
            assert order[5:7] == ["plain", "plain"]  # calls had no four rows lately, so nobody fills these up
            assert order[7:] == ["behind", "behind"]
            await infer(link, [[1.0]])
            assert not work._batcher._has_turns, "nobody looks for turns any more"

    asyncio.run(main())
