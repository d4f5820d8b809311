"""A key's limit over two gateways, through the command line, the API and real requests."""

import asyncio
import os
import signal
import time
from collections.abc import Callable

from stoker.core.shares import LEASE_S
from tests.gateway.rig import Client
from tests.whole.rig import WAIT_S, Platform, until

DIGITS = (
    b'{"inputs": [{"name": "pixels", "datatype": "FP32", "shape": [1, 64], "data": ['
    + b", ".join([b"0"] * 64)
    + b"]}]}"
)
RATE, BURST = 40.0, 40
CONNECTIONS = 32  # the kernel throws a coin for each: that all fall to one gateway happens once in 2^31
Answers = list[tuple[float, int]]  # when each came, in seconds from the beginning, and its status


async def hammer(demo: Platform, key: str, connections: int, enough: Callable[[Answers], bool]) -> Answers:
    """Ask over so many connections until the answers are `enough`; return them."""
    answers: Answers = []
    began_s = time.monotonic()

    async def one() -> None:
        client = Client(*await asyncio.open_connection("127.0.0.1", demo.port))
        while not enough(answers):
            answer = await client.request("POST", "/v2/models/digits/infer", DIGITS, key=key)
            answers.append((time.monotonic() - began_s, answer.status))
            if answer.status != 200:
                await asyncio.sleep(0.005)
        client.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return answers


def last_for(seconds: float) -> Callable[[Answers], bool]:
    return lambda answers: bool(answers) and answers[-1][0] >= seconds


def passed(answers: Answers, since_s: float = 0.0) -> int:
    return sum(status == 200 for at_s, status in answers if at_s >= since_s)


def holds_more_than_half(answers: Answers) -> bool:
    """Return whether the last second, not of the first two, brought clearly more than one gateway's even share."""
    return bool(answers) and answers[-1][0] >= 2.0 and passed(answers, answers[-1][0] - 1.0) >= RATE / 2 * 1.3


def test_two_gateways_together_let_through_what_the_key_may_and_no_more(demo: Platform) -> None:
    key = demo.new_key("limited", "--rps", f"{RATE:g}", "--burst", f"{BURST}")
    try:
        answers = asyncio.run(hammer(demo, key["key"], CONNECTIONS, last_for(2.0)))
        assert {status for _, status in answers} == {200, 429}
        assert RATE * 2.0 * 0.8 <= passed(answers) <= BURST + RATE * answers[-1][0] + 2

        # One connection is served by one gateway: within seconds that one holds nearly all of the limit.
        alone = asyncio.run(
            hammer(demo, key["key"], 1, lambda seen: holds_more_than_half(seen) or last_for(WAIT_S)(seen))
        )
        assert holds_more_than_half(alone)
        assert passed(alone) <= BURST + RATE * alone[-1][0] + 2

        demo.cli("keys", "limit", key["id"], "--rps", "0")
        free = asyncio.run(hammer(demo, key["key"], 2, last_for(0.3)))
        assert {status for _, status in free} == {200}
        assert "limited" in demo.cli("keys", "list")
    finally:
        demo.cli("keys", "revoke", key["id"])


def test_a_key_that_was_just_made_is_known_to_both_gateways_at_once(demo: Platform) -> None:
    admin = demo.client

    async def ask(key: str) -> list[int]:
        """Ask 20 times on each of new connections, which the kernel spreads over the gateways, all at once."""
        statuses = []

        async def one() -> None:
            client = Client(*await asyncio.open_connection("127.0.0.1", demo.port))
            found = [await client.request("GET", "/v2/models/digits", b"", key=key) for _ in range(20)]
            statuses.extend(each.status for each in found)
            client.close()

        await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
        return statuses

    def known_at_once() -> bool:
        """Make a key and use it at once; return whether the answer said that all know it: on a busy machine not all."""
        made = admin.create_key("default", "just made", admin=False, expires_in_s=None)
        try:
            if not made.behind:
                assert set(asyncio.run(ask(made.key))) == {200}
            return not made.behind
        finally:
            admin.revoke_key(made.id)

    for _ in range(3):
        until(known_at_once, "both gateways follow before the answer")
    stopped = demo.pid("gateway-1")
    os.kill(stopped, signal.SIGSTOP)
    try:
        made = admin.create_key("default", "while one hangs", admin=False, expires_in_s=None)
        assert "gateway-1" in made.behind
    finally:
        os.kill(stopped, signal.SIGCONT)
    admin.revoke_key(made.id)
    until(known_at_once, "both follow again")


def test_without_control_the_limit_holds_and_uneven_traffic_has_all_of_it_again_when_it_is_back(
    fresh: Callable[..., Platform], digits_model: str
) -> None:
    platform = fresh(gateways=2)
    platform.up()
    platform.cli("push", "digits", digits_model)
    platform.cli("deploy", "digits", "--model", "digits@1", "--cpu", "0.5", "--wait")
    key = platform.new_key("limited", "--rps", f"{RATE:g}", "--burst", f"{BURST}")["key"]

    def ask_alone(enough: Callable[[Answers], bool]) -> Answers:
        """Ask over one connection, which one gateway serves."""
        return asyncio.run(hammer(platform, key, 1, enough))

    assert holds_more_than_half(ask_alone(lambda seen: holds_more_than_half(seen) or last_for(WAIT_S)(seen)))
    platform.kill_for_good("control")

    # Both are asked while one falls back from nearly all to half, and the other keeps the little it had.
    answers = asyncio.run(hammer(platform, key, CONNECTIONS, last_for(LEASE_S + 7.0)))
    assert {status for _, status in answers} == {200, 429}
    assert passed(answers) <= BURST + RATE * answers[-1][0] + 2
    fallen_s = answers[-1][0] - (LEASE_S + 1.0)
    assert RATE / 2 * fallen_s * 0.8 <= passed(answers, LEASE_S + 1.0) <= RATE * 0.6 * fallen_s + 2

    platform.up()
    back = ask_alone(lambda seen: holds_more_than_half(seen) or last_for(WAIT_S)(seen))
    assert holds_more_than_half(back)
    assert passed(back) <= BURST + RATE * back[-1][0] + 2
