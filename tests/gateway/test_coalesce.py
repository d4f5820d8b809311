"""Equal requests in flight at once, through a real gateway before real processes: one call, and everybody's own end."""

import asyncio
import hashlib
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.core.retry import TRIES_MAX
from stoker.telemetry.metrics import subtract
from tests.gateway import rig as rigs
from tests.gateway.rig import KEY, Answer, Rig, ask, client, counted, keep_alive, run

OTHER_KEY = "stk_other000_0123456789012345678901234567890123456789012"
DIGITS = "/v2/models/digits/infer"
ENDPOINT = 'project="default",endpoint="digits"'


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("coalesce")
    with rigs.rig(folder, replicas=2) as made:
        made.kill("gateway-0")
        table = made.table(["r0", "r1"])
        digits = table["endpoints"][0]
        for each in table["endpoints"]:
            each["coalesce"] = True
        rules = {"ttl_s": 600.0, "max_bytes": 1 << 20, "shared": True}
        table["endpoints"] += [
            {**digits, "endpoint": "open", "cache": rules},
            {**digits, "endpoint": "plain", "coalesce": False},
        ]
        digest = hashlib.sha256(OTHER_KEY.encode()).hexdigest()
        table["keys"].append({"sha256": digest, "key": "other000", "project": "default"})
        (made.home.gateway / "routes.json").write_text(json.dumps(table))
        made.start_gateway()
        yield made


def test_the_phases_of_those_who_share_a_call_are_their_duration(rig: Rig) -> None:
    async def work() -> None:
        before = await counted(rig)
        answers = await asyncio.gather(*(infer(rig, "slow:0.05 phases") for _ in range(4)))
        assert {answer.status for answer in answers} == {200}
        now = subtract(await counted(rig), before)
        whose = {"project": "default", "endpoint": "digits"}
        phases = now.distribution("stoker_request_phase_seconds", **whose)
        assert 0.05 < phases.sum <= now.distribution("stoker_request_duration_seconds", **whose).sum * 1.001

    run(work)


def count(rig: Rig, start: str = "request") -> int:
    return sum(line.startswith(start) for name in ("r0", "r1") for line in rig.lines(name))


async def infer(rig: Rig, text: str, name: str = "digits", **more: Any) -> Answer:
    return await ask(rig, "POST", f"/v2/models/{name}/infer", text.encode(), **more)


async def number(rig: Rig, pattern: str) -> float:
    lines = (await ask(rig, "GET", "/metrics")).body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if re.match(pattern, line))


async def shared_by(rig: Rig, endpoint: str = "digits") -> float:
    """Return how many requests to an endpoint have shared a call."""
    return await number(rig, f'stoker_coalesced_total{{project="default",endpoint="{endpoint}"')


async def all_share(rig: Rig, wanted: float, endpoint: str = "digits") -> None:
    """Wait until so many requests to an endpoint have shared a call (bounded by run)."""
    while await shared_by(rig, endpoint) < wanted:
        await asyncio.sleep(0.02)


async def until(claim: Any) -> None:
    """Poll until `claim` holds (bounded by run)."""
    while not claim():
        await asyncio.sleep(0.01)


def test_two_thousand_equal_requests_are_one_call(rig: Rig, tmp_path: Path) -> None:
    async def work() -> None:
        before = count(rig)
        shared = await number(rig, f"stoker_coalesced_total{{{ENDPOINT}")
        rows = await number(rig, f"stoker_rows_total{{{ENDPOINT}")
        requests = await number(rig, f'stoker_requests_total{{{ENDPOINT},revision="default.digits-1".*code="200"')
        text, gate = f"who: until:{tmp_path / 'gate'}", tmp_path / "gate"
        tasks = [asyncio.create_task(infer(rig, text, x_request_id=f"n{at}")) for at in range(2000)]
        await all_share(rig, shared + 1999)
        gate.touch()
        answers = await asyncio.gather(*tasks)
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body for answer in answers}) == 1
        assert [answer.headers["x-request-id"] for answer in answers] == [f"n{at}" for at in range(2000)]
        assert count(rig) == before + 1
        assert await number(rig, f"stoker_coalesced_total{{{ENDPOINT}") == shared + 1999
        assert await number(rig, f"stoker_rows_total{{{ENDPOINT}") == rows + 1
        seen = await number(rig, f'stoker_requests_total{{{ENDPOINT},revision="default.digits-1".*code="200"')
        assert seen == requests + 2000
        assert await number(rig, f"stoker_in_flight{{{ENDPOINT}") == 0

    run(work)


def test_what_differs_is_not_shared(rig: Rig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    until_s = f"until:{gate}"

    async def work() -> None:
        before, shared = count(rig), await shared_by(rig, "mini")
        one = f"who: {until_s} one"
        messages = [{"role": "user", "content": f"{until_s} chat"}]
        chat = json.dumps({"model": "smol", "messages": messages, "temperature": 0}).encode()
        embed = json.dumps({"model": "mini", "input": f"{until_s} embed"}).encode()
        asked = [
            infer(rig, one),
            infer(rig, f"who: {until_s} two"),
            infer(rig, one, key=OTHER_KEY),
            infer(rig, one, cache_control="no-cache"),
            infer(rig, one, inference_header_content_length="5"),
            ask(rig, "POST", "/v2/models/digits/versions/1/infer", one.encode()),
            infer(rig, one, "plain"),
            infer(rig, one, "plain"),
            *(ask(rig, "POST", "/v1/chat/completions", chat) for _ in range(2)),
        ]
        tasks = [asyncio.create_task(each) for each in asked]
        tasks += [asyncio.create_task(ask(rig, "POST", "/v1/embeddings", embed)) for _ in range(3)]  # these are equal
        await all_share(rig, shared + 2, "mini")
        await until(lambda: count(rig) == before + len(asked) + 1)
        gate.touch()
        assert {answer.status for answer in await asyncio.gather(*tasks)} == {200}
        assert count(rig) == before + len(asked) + 1

    run(work)


def test_with_a_shared_cache_keys_share_a_call_and_its_answer_is_kept_once(rig: Rig, tmp_path: Path) -> None:
    async def work() -> None:
        before, shared = count(rig), await shared_by(rig, "open")
        keys, text = [KEY, OTHER_KEY] * 4, f"who: until:{tmp_path / 'gate'} keys"
        tasks = [asyncio.create_task(infer(rig, text, "open", key=key)) for key in keys]
        await all_share(rig, shared + len(keys) - 1, "open")
        (tmp_path / "gate").touch()
        answers = await asyncio.gather(*tasks)
        assert {answer.headers["x-stoker-cache"] for answer in answers} == {"miss"}
        assert len({answer.body for answer in answers}) == 1
        assert (await infer(rig, text, "open")).headers["x-stoker-cache"] == "hit"
        assert count(rig) == before + 1

    run(work)


def test_the_call_outlives_the_client_that_began_it(rig: Rig, tmp_path: Path) -> None:
    async def work() -> None:
        before, cancelled = count(rig), count(rig, "cancelled")
        text = f"who: until:{tmp_path / 'gate'}"
        async with client(rig) as leader:
            leader.send("POST", DIGITS, text.encode(), x_request_id="leader")
            await until(lambda: count(rig) == before + 1)
            shared = await number(rig, f"stoker_coalesced_total{{{ENDPOINT}")
            followers = [asyncio.create_task(infer(rig, text)) for _ in range(5)]
            await all_share(rig, shared + 5)
        (tmp_path / "gate").touch()
        answers = await asyncio.gather(*followers)
        assert {answer.status for answer in answers} == {200}
        assert all(b" leader " in answer.body for answer in answers)
        assert (count(rig), count(rig, "cancelled")) == (before + 1, cancelled)

    run(work)


def test_when_the_last_one_leaves_the_engine_is_told_and_who_comes_then_has_a_call_of_his_own(rig: Rig) -> None:
    async def work() -> None:
        before, cancelled = count(rig), count(rig, "cancelled")
        text = b"slow:200 nobody"
        clients = [rigs.Client(*await asyncio.open_connection("127.0.0.1", rig.port)) for _ in range(3)]
        for one in clients:
            one.send("POST", DIGITS, text)
        await until(lambda: count(rig) == before + 1)
        for one in clients:
            one.close()
        late = asyncio.create_task(infer(rig, text.decode(), x_request_timeout_ms="300"))
        assert (await late).status == 504
        await until(lambda: count(rig, "cancelled") == cancelled + count(rig) - before)
        assert await number(rig, f"stoker_in_flight{{{ENDPOINT}") == 0

    run(work)


def test_each_one_has_a_deadline_of_its_own(rig: Rig, tmp_path: Path) -> None:
    async def work() -> None:
        before, shared = count(rig), await shared_by(rig)
        text = f"until:{tmp_path / 'gate'} deadline"
        first = asyncio.create_task(infer(rig, text, x_request_timeout_ms="400"))  # it begins the call
        await until(lambda: count(rig) == before + 1)
        others = [asyncio.create_task(infer(rig, text)) for _ in range(3)]
        await all_share(rig, shared + 3)
        hasty = await infer(rig, text, x_request_timeout_ms="150")
        assert hasty.status == 504
        assert not any(other.done() for other in others), "it waited for the call"
        assert "not finished in 0.15 s" in hasty.json["error"]
        assert (await first).status == 504
        (tmp_path / "gate").touch()
        assert {answer.status for answer in await asyncio.gather(*others)} == {200}
        assert count(rig) == before + 1

    run(work)


def test_a_deadline_that_the_replica_could_not_meet_is_only_that_callers(rig: Rig) -> None:
    async def work() -> None:
        before = count(rig)
        answers = await asyncio.gather(*(infer(rig, "slow:0.2 refuse:deadline_exceeded") for _ in range(3)))
        assert {answer.status for answer in answers} == {504}
        assert count(rig) == before + 3  # each of them had time left and tried once itself

    run(work)


@pytest.mark.parametrize(
    ("code", "status", "tries"), [("invalid_input", 400, 1), ("engine_failed", 500, 1), ("unavailable", 503, TRIES_MAX)]
)
def test_everybody_is_told_the_fault_or_the_failure_after_the_tries_of_one(
    rig: Rig, tmp_path: Path, code: str, status: int, tries: int
) -> None:
    async def work() -> None:
        before, shared = count(rig), await shared_by(rig)
        refused = await number(rig, f"stoker_refused_total{{{ENDPOINT}")
        text = f"until:{tmp_path / 'gate'} refuse:{code}"
        tasks = [asyncio.create_task(infer(rig, text)) for _ in range(20)]
        await all_share(rig, shared + 19)
        (tmp_path / "gate").touch()
        answers = await asyncio.gather(*tasks)
        assert {answer.status for answer in answers} == {status}
        assert len({answer.body for answer in answers}) == 1
        assert len({answer.headers["x-request-id"] for answer in answers}) == 20
        assert count(rig) == before + tries
        assert await number(rig, f"stoker_refused_total{{{ENDPOINT}") == refused, "a replica saw them all"

    run(work)


def test_a_replica_killed_under_a_shared_call_costs_one_retry_and_a_suspect_is_shared_with_nobody(
    rig: Rig, tmp_path: Path
) -> None:
    async def work() -> None:
        before, text = count(rig), f"who: until:{tmp_path / 'gate'}"
        lines = {name: len(rig.lines(name)) for name in ("r0", "r1")}
        shared = await number(rig, f"stoker_coalesced_total{{{ENDPOINT}")
        tasks = [asyncio.create_task(infer(rig, text)) for _ in range(30)]
        await until(lambda: count(rig) == before + 1)
        name = next(name for name in lines if len(rig.lines(name)) > lines[name])
        await all_share(rig, shared + 29)
        rig.kill(name, signal.SIGKILL)
        await until(lambda: count(rig) == before + 2)  # its trial, alone
        more = [asyncio.create_task(infer(rig, text)) for _ in range(3)]
        await asyncio.to_thread(rig.start_replica, name)
        (tmp_path / "gate").touch()
        answers = await asyncio.gather(*tasks)
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body for answer in answers}) == 1
        assert {answer.status for answer in await asyncio.gather(*more)} == {200}
        assert await number(rig, f"stoker_coalesced_total{{{ENDPOINT}") == shared + 29
        assert count(rig) == before + 5

    run(work)


def test_a_request_that_kills_is_two_deaths_however_many_send_it(rig: Rig) -> None:
    async def work() -> None:
        stop, before = asyncio.Event(), count(rig, "died")
        keepers = [keep_alive(rig, name, stop) for name in ("r0", "r1")]
        killers = [asyncio.create_task(infer(rig, "please die now")) for _ in range(64)]
        innocents = [asyncio.create_task(infer(rig, f"slow:0.05 {at % 8}")) for at in range(64)]
        assert {answer.status for answer in await asyncio.gather(*innocents)} == {200}
        assert {answer.status for answer in await asyncio.gather(*killers)} == {422}
        assert count(rig, "died") == before + 2
        assert (await infer(rig, "please die now")).status == 422
        stop.set()
        await asyncio.gather(*keepers)

    run(work)
