"""Gateways that share a port: the death of one is nothing to the clients of the other."""

import asyncio
from collections import Counter, defaultdict
from pathlib import Path

from tests.gateway import rig as rigs
from tests.gateway.rig import Client, client, run

CONNECTIONS = 24


def owner(request_id: str) -> str:
    """Return what tells gateways apart: the middle of the ids that they make."""
    return request_id.split("-")[1]


def test_a_gateway_killed_under_load_breaks_its_own_connections_and_no_other(tmp_path: Path) -> None:
    answers: Counter[str] = Counter()
    broken: dict[str, int] = defaultdict(int)
    wrong: list[int] = []
    stop = asyncio.Event()

    async def drive(one: Client) -> None:
        mine = ""
        while not stop.is_set():
            try:
                answer = await one.request("POST", "/v2/models/digits/infer", b"slow:0.01 x")
            except (ConnectionError, asyncio.IncompleteReadError):
                broken[mine] += 1
                return
            mine = owner(answer.headers["x-request-id"])
            answers[mine] += 1
            if answer.status != 200:
                wrong.append(answer.status)

    async def work() -> None:
        async with client(rig) as first:
            known = owner((await first.request("GET", "/healthz")).headers["x-request-id"])
            tasks: list[asyncio.Task[None]] = []
            clients: list[Client] = []
            for _ in range(CONNECTIONS):
                clients.append(Client(*await rigs.connect(rig)))
                tasks.append(asyncio.create_task(drive(clients[-1])))
            while len(answers) < 2 or min(answers.values()) < 20:  # bounded by run
                await asyncio.sleep(0.01)
            rig.kill("gateway-1")
            while not broken:
                await asyncio.sleep(0.01)
            (dead,) = broken
            (alive,) = set(answers) - {dead}
            until = answers[alive] + 200
            while answers[alive] < until:
                await asyncio.sleep(0.01)
            for _ in range(20):  # nobody is left behind the port that does not answer
                async with client(rig) as new:
                    assert owner((await new.request("GET", "/healthz")).headers["x-request-id"]) == alive
            stop.set()
            await asyncio.gather(*tasks)
            for each in clients:
                each.close()
            assert known in (dead, alive)
        assert wrong == []
        assert list(broken) == [dead]
        assert 0 < broken[dead] < CONNECTIONS

    with rigs.rig(tmp_path, replicas=2, gateways=2) as rig:
        run(work)
