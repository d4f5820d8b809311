"""A server of somebody else that is full: what it refuses waits in the gateway as long as it says, or is told so."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from aiohttp import web

from stoker.app.home import Home
from tests.engines_llm.upstream import ANSWER, USAGE, Upstream, chunk
from tests.gateway.beside import beside
from tests.gateway.rig import Answer, ask, run
from tests.gateway.talkers import metric, metrics
from tests.gateway.test_remote import CHAT, DoorRig, doors

TAKES_S = 0.05
HUGE = "more tokens than it ever takes"
JSON = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}  # goes through the replica


class Full(Upstream):
    """Works on `capacity` at once and refuses more. `seen_s`: by request, when it came, each time."""

    def __init__(self, capacity: int, retry_after_s: int, refuses_after_s: float = 0.0) -> None:
        self.capacity = capacity
        self.headers_429 = {"Retry-After": str(retry_after_s)}
        self.refuses_after_s = refuses_after_s
        self.running = 0
        self.refusals = 0
        self.seen_s: dict[str, list[float]] = {}
        super().__init__()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = body["messages"][0]["content"]
        self.seen_s.setdefault(text, []).append(time.monotonic())
        if self.running >= self.capacity or text == HUGE:
            self.refusals += 1
            await asyncio.sleep(self.refuses_after_s)
            return web.json_response({"error": {"message": "slow down"}}, status=429, headers=self.headers_429)
        self.running += 1
        try:
            await asyncio.sleep(TAKES_S)
        finally:
            self.running -= 1
        if body.get("stream"):
            events = [chunk("{}"), chunk(finish="stop"), USAGE, "[DONE]"]
            text = "".join(f"data: {event}\n\n" for event in events)
            return web.Response(text=text, content_type="text/event-stream")
        choice = {**ANSWER["choices"][0], "message": {"role": "assistant", "content": "{}"}}
        return web.json_response({**ANSWER, "choices": [choice], "usage": json.loads(USAGE)["usage"]})


@contextlib.contextmanager
def full(*how: Any) -> Iterator[Full]:
    server = Full(*how)
    try:
        yield server
    finally:
        server.close()


async def talk(rig: DoorRig, text: str, *, model: str = "smol", timeout_ms: int = 30_000, **fields: Any) -> Answer:
    body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
    return await ask(rig, "POST", CHAT, json.dumps(body).encode(), x_request_timeout_ms=str(timeout_ms))


@beside
def test_more_than_a_server_takes_at_once_waits_and_is_answered(folder: Path) -> None:
    all_wait_and_are_answered(folder, {})


@beside
def test_more_streams_than_a_server_takes_at_once_wait_and_are_answered(folder: Path) -> None:
    all_wait_and_are_answered(folder, {"stream": True})


@beside
def test_more_than_a_server_takes_at_once_waits_behind_its_replica_too(folder: Path) -> None:
    all_wait_and_are_answered(folder, {"response_format": JSON})


def all_wait_and_are_answered(folder: Path, fields: dict[str, Any]) -> None:
    with full(1, 1) as server, doors(folder, url=server.url, model="plain") as rig:

        async def work() -> None:
            answers = await asyncio.gather(*(talk(rig, str(number), **fields) for number in range(24)))
            assert [answer.status for answer in answers] == [200] * 24
            # 4 at once is the first guess; then 3, 2, 1: of each of them all but one are refused.
            assert 1 <= server.refusals <= 3 + 2 + 1
            retries = metric(await metrics(rig), "stoker_retries_total", endpoint="smol", reason="busy")
            assert retries == server.refusals
            for times in server.seen_s.values():
                assert all(later - sooner >= 0.99 for sooner, later in pairwise(times)), times

        run(work)


@beside
def test_who_would_wait_for_long_is_told_so_at_once_and_the_server_is_left_alone(folder: Path) -> None:
    with full(0, 60, 0.3) as server, doors(folder, url=server.url, model="plain") as rig:

        async def work() -> None:
            answers = await asyncio.gather(*(talk(rig, str(number)) for number in range(12)))
            answers.append(await talk(rig, "later"))
            assert [answer.status for answer in answers] == [429] * 13
            assert {answer.json["error"]["type"] for answer in answers} == {"rate_limit_error"}
            assert all(50 <= int(answer.headers["retry-after"]) <= 60 for answer in answers)
            assert server.refusals <= 4, "those that waited for a place were told by the refusal of the others"
            assert "later" not in server.seen_s
            told = [answer.json["error"]["message"] for answer in answers]
            assert any("slow down" in each for each in told)
            assert any("takes nothing for" in each for each in told)

        run(work)


@beside
def test_who_has_no_time_to_wait_is_told_so_and_who_has_it_waits(folder: Path) -> None:
    with full(0, 3) as server, doors(folder, url=server.url, model="plain") as rig:

        async def work() -> None:
            hasty = await talk(rig, "hasty", timeout_ms=1500)
            assert hasty.status == 429
            assert hasty.headers["retry-after"] == "3"
            patient = asyncio.create_task(talk(rig, "patient"))
            too_late = await talk(rig, "too late", timeout_ms=500)
            assert too_late.status == 429
            server.capacity = 1
            assert (await patient).status == 200
            assert set(server.seen_s) == {"hasty", "patient"}
            assert server.seen_s["patient"][0] - server.seen_s["hasty"][0] >= 2.99

        run(work)


@beside
def test_a_request_that_is_too_much_by_itself_holds_up_the_others_once(folder: Path) -> None:
    with full(8, 1) as server, doors(folder, url=server.url, model="plain") as rig:

        async def work() -> None:
            huge = asyncio.create_task(talk(rig, HUGE, timeout_ms=4500))
            count = 0
            while not huge.done():
                assert (await talk(rig, f"small {count}")).status == 200
                count += 1
            assert (await huge).status == 429
            tries = server.seen_s.pop(HUGE)
            assert len(tries) >= 3
            small = [times[0] for times in server.seen_s.values()]
            for sooner, later in pairwise(tries[1:]):
                assert sum(sooner < at < later for at in small) >= 3, "they were not held up again"

        run(work)


class SpillRig(DoorRig):
    """`smol` falls back to `backup`, which a fake replica serves."""

    def table(self, replicas: list[str], **limits: Any) -> dict[str, Any]:
        made = super().table(replicas, **limits)
        (smol,) = [each for each in made["endpoints"] if each["endpoint"] == "smol"]
        backup = json.loads(json.dumps({**smol, "endpoint": "backup"}))
        backup["revisions"][0].update(
            revision="default.backup-1", replicas=[{"replica": "b0", "address": self.home.address("b0")}]
        )
        smol["fallback"] = ["backup"]
        made["endpoints"].append(backup)
        return made


@beside
def test_an_endpoint_that_another_serves_for_does_not_wait(folder: Path) -> None:
    home = Home(folder / "home")
    home.make()
    rig = SpillRig(home)
    with full(0, 10) as server:
        try:
            rig.start_replica("b0")
            rig.write_table(["r0"])
            rig.start_door("r0", url=server.url, model="plain")
            rig.start_gateway()
            rig.ready(1)

            async def work() -> None:
                for text in ("first", "second"):
                    answer = await talk(rig, text)
                    assert answer.status == 200
                    assert answer.headers["x-stoker-served-by"] == "backup"
                assert set(server.seen_s) == {"first"}, "the second one knows that it is full"

            run(work)
        finally:
            rig.close()
