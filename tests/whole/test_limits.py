"""A key's limit over two gateways, through the command line, the API and real requests."""

import asyncio
import time

from tests.gateway.rig import Client
from tests.whole.rig import Platform

DIGITS = (
    b'{"inputs": [{"name": "pixels", "datatype": "FP32", "shape": [1, 64], "data": ['
    + b", ".join([b"0"] * 64)
    + b"]}]}"
)
RATE = 40.0


async def hammer(demo: Platform, key: str, connections: int, seconds: float) -> list[tuple[float, int]]:
    """Ask over so many connections for so long; return when each answer came and its status."""
    answers: list[tuple[float, int]] = []
    began_s = time.monotonic()

    async def one() -> None:
        client = Client(*await asyncio.open_connection("127.0.0.1", demo.port))
        while time.monotonic() - began_s < seconds:
            answer = await client.request("POST", "/v2/models/digits/infer", DIGITS, key=key)
            answers.append((time.monotonic() - began_s, answer.status))
            if answer.status != 200:
                await asyncio.sleep(0.005)
        client.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return answers


def test_two_gateways_together_let_through_what_the_key_may_and_no_more(demo: Platform) -> None:
    key = demo.json("keys", "create", "limited", "--rps", f"{RATE:g}", "--burst", "40")
    try:
        answers = asyncio.run(hammer(demo, key["key"], 16, 4.0))
        assert {status for _, status in answers} == {200, 429}
        passed = sum(status == 200 for _, status in answers)
        assert passed <= 40 + RATE * 4.2 + 2
        assert passed >= RATE * 4 * 0.8

        # One connection is served by one gateway: within seconds that one holds nearly all of the limit.
        alone = asyncio.run(hammer(demo, key["key"], 1, 6.0))
        late = sum(status == 200 for at_s, status in alone if at_s >= 4.0)
        assert late >= RATE * 2 * 0.5 * 1.3, "clearly more than its even share of two seconds"
        assert late <= RATE * 2.1 + 40

        demo.cli("keys", "limit", key["id"], "--rps", "0")
        free = asyncio.run(hammer(demo, key["key"], 2, 0.5))
        assert {status for _, status in free} == {200}
        assert "limited" in demo.cli("keys", "list")
    finally:
        demo.cli("keys", "revoke", key["id"])
