"""Usage by real gateways and a real control: every answered request is counted exactly once, whatever is killed."""

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from stoker.client.connection import Connection
from stoker.client.usage import usage
from stoker.core.usage import Report
from stoker.types.errors import StokerError
from tests.gateway.rig import Answer, Client, Rig, ask, chat, connect, infer, rig, run, until
from tests.ports import free_ports

CARD = {"input": 150_000_000, "cached": 75_000_000, "output": 600_000_000, "requests": 100_000_000, "compute": 0}


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(tmp_path_factory.mktemp("usage"), prices=[{"card": CARD}]) as made:
        yield made


def start_control(gate: Rig) -> None:
    """Start control on the gateway's state folder, and wait until its API answers."""
    (port,) = free_ports(1)
    argv = [sys.executable, "-m", "stoker.app.control_main", "--home", str(gate.home.root), "--api-port", str(port)]
    with (gate.home.logs / "control.log").open("ab") as log:
        gate.processes["control"] = subprocess.Popen(argv, stderr=log)
    until(lambda: answers(gate), "control answers")


def api(gate: Rig) -> Connection:
    key = json.loads(gate.home.credentials.read_text())["key"]
    return Connection(f"unix:{gate.home.run / 'control-api.sock'}", key)


def answers(gate: Rig) -> bool:
    if not gate.home.credentials.exists():
        return False
    with contextlib.suppress(StokerError):
        usage(api(gate), by="project")
        return True
    return False


def test_an_answer_tells_its_cost_and_a_stream_before_its_end(gate: Rig) -> None:
    async def work() -> None:
        whole = await ask(gate, "POST", "/v1/chat/completions", chat("hi there"))
        tokens = 3 * 150 + 5 * 600
        assert whole.headers["x-stoker-cost"] == f"0.000{100_000 + tokens}".rstrip("0")
        streamed = await ask(gate, "POST", "/v1/chat/completions", chat("hi there", stream=True))
        assert b"\n\n: x-stoker-cost 0.0001" in streamed.body
        assert streamed.body.endswith(b"data: [DONE]\n\n")
        refused = await infer(gate, "hello", x_stoker_tags="team")
        assert (refused.status, "x-stoker-cost" in refused.headers) == (400, False)

    run(work)


def test_every_answered_request_is_counted_once_over_kills_of_the_gateway_and_of_control(gate: Rig) -> None:
    numbers, answered = itertools.count(1), Counter[str]()
    costs: dict[str, str] = {}

    async def calls(stop: asyncio.Event) -> None:
        """Ask until `stop`, and note what was answered to its last byte."""
        while not stop.is_set():
            try:
                one = Client(*await connect(gate))
            except OSError:
                await asyncio.sleep(0.01)
                continue
            try:
                while not stop.is_set():
                    name = str(next(numbers))
                    answer: Answer = await one.request(
                        "POST", "/v1/chat/completions", chat("hi there", stream=int(name) % 2 == 0),
                        x_stoker_tags=f"n={name}",
                    )  # fmt: skip
                    if answer.status == 200:
                        answered[name] += 1
                        costs[name] = answer.headers.get("x-stoker-cost", "")
            except (OSError, EOFError, ValueError):  # cut anywhere: also where a piece's length should be
                pass
            finally:
                one.close()

    async def reached(count: int) -> None:
        goal = len(answered) + count
        while len(answered) < goal:
            await asyncio.sleep(0.01)

    async def work() -> None:
        stop = asyncio.Event()
        callers = [asyncio.create_task(calls(stop)) for _ in range(8)]
        await reached(100)
        gate.kill("gateway-0")
        await asyncio.to_thread(gate.start_gateway)
        await reached(100)
        gate.kill("control")
        await reached(100)
        gate.kill("gateway-0")
        stop.set()
        await asyncio.gather(*callers)

    start_control(gate)  # its route table is no newer than the gateway's, which keeps its own
    run(work)
    gate.start_gateway()
    start_control(gate)

    def told() -> dict[str, Any]:
        found: Report = usage(api(gate), by="tag:n")
        return {row.by["tag:n"]: row for row in found.items if row.by["tag:n"]}

    until(lambda: answered.keys() <= told().keys(), "all that was answered is settled")
    rows = told()
    assert {row.requests for row in rows.values()} == {1}
    assert set(answered.values()) == {1}
    assert all(rows[name].price_usd == cost for name, cost in costs.items() if cost)
    assert all(rows[name].price_nano_usd > 0 for name in answered)
    until(lambda: len(list(gate.home.usage.iterdir())) == 1, "only the living gateway has a journal")
