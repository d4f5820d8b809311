"""A shadow gets copies of requests: nobody notices, and what it answers differently is counted. Real processes."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from stoker.types.usage import Flag
from tests.gateway.rig import Rig, chat, client, infer, run
from tests.gateway.rig import ask as asked_for
from tests.gateway.rollouts import counts, scene
from tests.gateway.talkers import metric, metrics
from tests.gateway.usage_records import records

MIRROR: dict[str, Any] = {"mirror": {"ratio": 1.0}}


def tensor(value: float) -> str:
    return json.dumps({"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [value]}]})


def seen(rig: Rig, name: str) -> int:
    return sum(line.startswith("request") for line in rig.lines(name))


async def copied(rig: Rig, count: int) -> dict[str, float]:
    """Wait until `count` copies ended; return how."""
    outcomes = ("agreed", "disagreed", "not_compared", "failed", "dropped")
    while True:
        text = await metrics(rig)
        found = {each: metric(text, "stoker_shadow_copies_total", endpoint="digits", outcome=each) for each in outcomes}
        if sum(found.values()) >= count:
            return {each: number for each, number in found.items() if number}
        await asyncio.sleep(0.02)


def test_copies_are_compared_and_counted_and_the_caller_gets_the_baselines_answer_alone(tmp_path: Path) -> None:
    with scene(tmp_path, ("r0", "c0"), (100, 0), {"mirror": {"ratio": 1.0, "in_flight_max": 1000}}) as rig:
        rig.kill("c0")
        rig.start_replica("c0", "--says", tensor(0.5))

        async def work() -> None:
            sent = 0
            while (await counts(rig)).arms.canary.total == 0:  # until it is connected again
                assert (await infer(rig, tensor(0.5))).body.decode() == tensor(0.5)
                sent += 1
            await copied(rig, sent)
            before = await counts(rig)
            for value in (0.5, 0.501, 0.7):
                answer = await infer(rig, tensor(value))
                assert answer.body.decode() == tensor(value), "the shadow says 0.5"
                assert answer.headers["x-stoker-revision"] == "default.digits-1"
            while (found := await counts(rig)).copies - before.copies < 3:
                await asyncio.sleep(0.01)
            assert found.disagreements - before.disagreements == 1
            assert found.arms.canary.total - before.arms.canary.total == 3
            assert found.arms.baseline.total - before.arms.baseline.total == 3
            text = await metrics(rig)
            assert metric(text, "stoker_requests_total", endpoint="digits", revision="default.digits-2") == 0
            assert metric(text, "stoker_shadow_wasted_seconds_total", endpoint="digits") > 0
            assert all("-shadow" in line for line in rig.lines("c0") if line.startswith("request"))
            copies = [each for each in records(rig) if each.flags & Flag.WASTED_COPY]
            assert len(copies) >= 3
            assert {each.revision for each in copies} == {"default.digits-2"}
            assert {each.price_nano_usd for each in copies} == {0}

        run(work)


def test_a_shadow_that_is_slow_fails_or_dies_costs_no_caller_anything(tmp_path: Path) -> None:
    with scene(tmp_path, ("r0", "c0"), (100, 0), {"mirror": {"ratio": 1.0, "in_flight_max": 2}}) as rig:

        async def work() -> None:
            async with client(rig) as one:
                began_s = time.monotonic()
                for n in range(30):
                    answer = await one.request("POST", "/v2/models/digits/infer", f"hang at:c0 n:{n}".encode())
                    assert answer.status == 200
                assert time.monotonic() - began_s < 5
                while seen(rig, "c0") < 2:  # copies go out of themselves, nobody waits for them; bounded by run
                    await asyncio.sleep(0.01)
                assert seen(rig, "c0") == 2, "more than in_flight_max are not copied"
                assert (await counts(rig)).arms.baseline.total == 2, "and of the baseline the same are counted"
            rig.kill("c0")
            while (await counts(rig)).arms.canary.bad.get("error", 0) < 2:
                await asyncio.sleep(0.01)
            assert {(await infer(rig, '{"n":1}')).status for _ in range(20)} == {200}

        run(work)


def test_what_the_shadow_does_badly_is_charged_to_it_and_a_callers_mistake_to_nobody(tmp_path: Path) -> None:
    with scene(tmp_path, ("r0", "c0"), (100, 0), MIRROR) as rig:

        async def work() -> None:
            assert (await infer(rig, "refuse:engine_failed at:c0")).status == 200
            assert await copied(rig, 1) == {"failed": 1}
            assert (await infer(rig, "hang at:c0", x_request_timeout_ms="1000")).status == 200
            assert await copied(rig, 2) == {"failed": 2}
            assert (await infer(rig, "refuse:invalid_input")).status == 400
            assert (await infer(rig, "refuse:engine_failed at:r0")).status == 500
            assert await copied(rig, 3) == {"failed": 2, "not_compared": 1}
            found = await counts(rig)
            assert found.arms.canary.bad == {"error": 1, "timeout": 1}
            assert found.arms.canary.total == 3
            assert found.arms.baseline.bad == {"error": 1}
            assert found.arms.baseline.total == 3
            assert found.copies == 0
            assert seen(rig, "c0") == 3

        run(work)


def test_streams_are_collected_and_compared_too(tmp_path: Path) -> None:
    with scene(tmp_path, ("r0", "c0"), (100, 0), MIRROR) as rig:

        async def work() -> None:
            answer = await asked_for(rig, "POST", "/v1/chat/completions", chat("chunks:4", stream=True))
            assert answer.status == 200
            while (found := await counts(rig, "smol")).copies < 1:
                await asyncio.sleep(0.01)
            assert found.disagreements == 0
            assert found.arms.canary.total == found.arms.baseline.total == 1

        run(work)


def test_a_shadow_without_replicas_is_copied_nothing(tmp_path: Path) -> None:
    with scene(tmp_path, ("r0",), (100, 0), MIRROR) as rig:

        async def work() -> None:
            assert (await infer(rig, '{"n":1}')).status == 200
            assert await copied(rig, 1) == {"dropped": 1}

        run(work)
