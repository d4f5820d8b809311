"""What a real gateway counts of real requests: phases that add up, tenants, replicas, tokens, pieces of streams."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from stoker import __version__
from stoker.gateway import exchange
from stoker.telemetry.metrics import subtract
from tests.gateway import rig as rigs
from tests.gateway.rig import Rig, ask, chat, counted, infer, run

DIGITS = {"endpoint": "digits", "project": "default"}
SMOL = {"endpoint": "smol", "project": "default"}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rigs.rig(tmp_path_factory.mktemp("numbers"), replicas=1) as made:
        yield made


def test_a_gateway_says_which_build_it_is_in_its_log_and_its_numbers(rig: Rig) -> None:
    async def work() -> None:
        (build,) = (await counted(rig)).values_of("stoker_gateway_build_info", "build")
        assert build == ("compiled" if exchange.__file__.endswith(tuple(EXTENSION_SUFFIXES)) else "interpreted")
        (line,) = [line for line in map(json.loads, rig.lines("gateway-0")) if line["message"] == "serving"]
        assert (line["build"], line["version"], line["port"]) == (build, __version__, rig.port)

    run(work)


def test_the_phases_of_requests_are_their_duration(rig: Rig) -> None:
    async def work() -> None:
        before = await counted(rig)
        answers = await asyncio.gather(*(infer(rig, f"slow:0.0{number % 5}") for number in range(20)))
        assert {answer.status for answer in answers} == {200}
        now = subtract(await counted(rig), before)
        phases = now.distribution("stoker_request_phase_seconds", **DIGITS)
        duration = now.distribution("stoker_request_duration_seconds", **DIGITS)
        assert duration.count == 20
        assert phases.sum == pytest.approx(duration.sum, rel=1e-6)
        for phase in ("auth", "admit", "route", "network"):
            assert now.distribution("stoker_request_phase_seconds", phase=phase, **DIGITS).count == 20, phase

    run(work)


def test_a_body_that_comes_late_is_no_blame_of_the_gateway(rig: Rig) -> None:
    async def work() -> None:
        before = await counted(rig)
        async with rigs.client(rig) as one:
            body = b"who: late"
            one.send("POST", "/v2/models/digits/infer", None, content_length=str(len(body)))
            await asyncio.sleep(0.3)
            one.writer.write(body)
            assert (await one.answer()).status == 200
        now = subtract(await counted(rig), before)
        assert now.distribution("stoker_request_phase_seconds", phase="receive", **DIGITS).sum >= 0.25
        assert now.distribution("stoker_request_phase_seconds", phase="auth", **DIGITS).sum < 0.25

    run(work)


def test_every_piece_of_a_stream_after_the_first_is_timed(rig: Rig) -> None:
    async def work() -> None:
        before = await counted(rig)
        await ask(rig, "POST", "/v1/chat/completions", chat("chunks:10 every:0.01", stream=True))
        now = subtract(await counted(rig), before)
        between = now.distribution("stoker_inter_token_latency_seconds", **SMOL)
        assert between.count == 9
        assert 0.08 < between.sum < 5.0
        assert now.distribution("stoker_prompt_tokens", **SMOL).sum == 2
        assert now.distribution("stoker_output_tokens", **SMOL).sum == 10

    run(work)


def test_an_answer_of_one_token_counts_as_empty(rig: Rig) -> None:
    async def work() -> None:
        before = await counted(rig)
        for pieces in (1, 10):
            await ask(rig, "POST", "/v1/chat/completions", chat(f"chunks:{pieces} every:0.001", stream=True))
        now = subtract(await counted(rig), before)
        assert now.total("stoker_empty_outputs_total", **SMOL) == 1

    run(work)


def test_an_answer_that_ends_in_a_loop_is_counted_once_however_many_choices_do(rig: Rig) -> None:
    async def work() -> None:
        before = await counted(rig)
        for loops in (0, 2):
            await ask(rig, "POST", "/v1/chat/completions", chat(f"chunks:5 loops:{loops}", stream=True))
        now = subtract(await counted(rig), before)
        assert now.total("stoker_repeating_outputs_total", **SMOL) == 1

    run(work)


def test_a_request_that_waits_for_a_replica_to_start_is_counted_as_cold(tmp_path: Path) -> None:
    with rigs.rig(tmp_path, replicas=1) as made:

        async def work() -> None:
            made.kill("r0")
            while not await rigs.all_see(made, 0):
                await asyncio.sleep(0.02)
            waiting = asyncio.create_task(infer(made, "early"))
            while not (await counted(made)).total("stoker_queue_depth", **DIGITS):
                assert not waiting.done(), waiting.result()
                await asyncio.sleep(0.02)
            await asyncio.to_thread(made.start_replica, "r0")
            assert (await waiting).status == 200
            assert (await infer(made, "late")).status == 200
            assert (await counted(made)).total("stoker_cold_requests_total", **DIGITS) == 1

        run(work)


def test_a_retry_of_the_client_is_counted_as_its_header_says(rig: Rig) -> None:
    async def work() -> None:
        before = await counted(rig)
        for count in ("0", "1", "2"):
            await ask(rig, "POST", "/v1/chat/completions", chat("hello"), x_stainless_retry_count=count)
        now = subtract(await counted(rig), before)
        assert now.total("stoker_client_retries_total", **SMOL) == 2

    run(work)


def test_tenants_are_told_apart_by_their_keys_and_the_rest_is_one(rig: Rig) -> None:
    async def work() -> None:
        before = await counted(rig)
        await infer(rig, "one")
        await infer(rig, "refuse:engine_failed one")
        await ask(rig, "POST", "/v2/models/secret/infer", b"two", key=rigs.TEAM_KEY)
        now = subtract(await counted(rig), before)
        assert now.total("stoker_tenant_requests_total", tenant="admin000", code="200", **DIGITS) == 1
        assert now.total("stoker_tenant_requests_total", tenant="admin000", code="500", **DIGITS) == 1
        assert now.total("stoker_tenant_requests_total", tenant="team0000", endpoint="secret") == 1

    run(work)


def test_tries_are_counted_where_they_were_made(rig: Rig) -> None:
    async def work() -> None:
        before = await counted(rig)
        await infer(rig, "fine")
        await infer(rig, "refuse:engine_failed")
        now = subtract(await counted(rig), before)
        assert now.total("stoker_replica_requests_total", replica="r0", code="200", **DIGITS) == 1
        assert now.total("stoker_replica_requests_total", replica="r0", code="500", **DIGITS) == 1
        assert now.distribution("stoker_replica_request_duration_seconds", replica="r0", **DIGITS).count == 2

    run(work)


def test_waiting_for_a_place_is_a_phase_and_told_of_its_tenant(tmp_path: Path) -> None:
    with rigs.rig(tmp_path, replicas=0) as rig:
        rig.write_table(["r0"])
        rig.kill("gateway-0")
        rig.start_replica("r0", "--state", "loading")
        rig.start_gateway()

        async def work() -> None:
            asking = asyncio.create_task(infer(rig, "who: waits"))
            while (await counted(rig)).total("stoker_queue_depth", **DIGITS) == 0:
                await asyncio.sleep(0.01)
            os.kill(rig.processes["r0"].pid, signal.SIGUSR1)
            assert (await asking).status == 200
            now = await counted(rig)
            queued = now.distribution("stoker_request_phase_seconds", phase="queue", **DIGITS)
            assert queued.count == 1
            tenant = now.distribution("stoker_tenant_queue_wait_seconds", tenant="admin000", **DIGITS)
            assert tenant.sum == queued.sum > 0

        run(work)


def test_a_gateway_says_what_its_process_uses(rig: Rig) -> None:
    async def work() -> None:
        now = await counted(rig)
        mine = {"process": "gateway-0"}
        assert now.total("process_resident_memory_bytes", **mine) > 10 << 20
        assert now.total("process_cpu_seconds_total", **mine) > 0
        assert 3 < now.total("process_open_fds", **mine) < now.total("process_max_fds", **mine)

    run(work)
