"""A second replica for slow requests: each of three replicas pauses now and then. Real processes, both at once."""

import asyncio
import json
import random
import signal
import time
from collections.abc import Iterator

import pytest

from stoker.core.hedge import RATIO
from stoker.types.usage import Flag
from tests.gateway import rig as rigs
from tests.gateway.rig import KEY, TEAM_KEY, Rig, client, infer, kept, load_of, run, until
from tests.gateway.talkers import metric, metrics
from tests.gateway.usage_records import records

pytestmark = pytest.mark.alone  # it is about the slowest requests

PAUSE_S = 1.2  # longer than a busy machine holds anything up, shorter than a replica may be silent
PAUSES = ("r0", "r1", "r2")  # in turn, so that routing cannot learn whom to avoid
RATE = 80.0


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Three replicas; default/digits is hedged, team/secret on the same replicas is not."""
    with rigs.rig(tmp_path_factory.mktemp("hedging"), replicas=0) as made:
        table = made.table(["r0", "r1", "r2"])
        table["endpoints"] = [
            {**one, "hedge": one["endpoint"] == "digits"} for one in table["endpoints"] if one["task"] == "predict"
        ]
        (made.home.gateway / "routes.json").write_text(json.dumps(table))
        made.kill("gateway-0")
        for name in ("r0", "r1", "r2"):
            made.spawn_replica(name)
        made.start_gateway()
        until(lambda: asyncio.run(infer(made, "{}")).status == 200, "the first answer")
        yield made


async def arrive(rig: Rig, path: str, key: str, stop: asyncio.Event, seed: int) -> list[float]:
    """Send requests at random moments, RATE a second whatever the answers do; return how long each took."""
    draws, took_s, tasks = random.Random(seed), list[float](), list[asyncio.Task[None]]()
    idle: list[rigs.Client] = []

    async def one() -> None:
        conn = idle.pop() if idle else rigs.Client(*await asyncio.open_connection("127.0.0.1", rig.port))
        began_s = time.monotonic()
        answer = await conn.request("POST", path, b"slow:0.002", key=key)
        took_s.append(time.monotonic() - began_s)
        assert answer.status == 200
        idle.append(conn)

    while not stop.is_set():
        tasks.append(asyncio.create_task(one()))
        await asyncio.sleep(draws.expovariate(RATE))
    await asyncio.gather(*tasks)
    for conn in idle:
        conn.close()
    return took_s


async def pause_in_turn(rig: Rig, stop: asyncio.Event) -> None:
    """Hold one replica after the other up, while requests arrive, then set `stop`."""
    await asyncio.sleep(1.5)  # it is learned how long a request takes
    for name in PAUSES:
        rig.kill(name, signal.SIGSTOP)
        await asyncio.sleep(PAUSE_S)
        rig.kill(name, signal.SIGCONT)
        await asyncio.sleep(0.3)
    stop.set()


def test_replicas_that_pause_cost_the_tail_only_where_nothing_is_hedged(rig: Rig) -> None:
    async def work() -> None:
        paths = ("/v2/models/digits/infer", KEY), ("/v2/models/secret/infer", TEAM_KEY)
        stop = asyncio.Event()
        loads = [asyncio.create_task(arrive(rig, *path, stop, 1)) for path in paths]
        await pause_in_turn(rig, stop)
        hedged, plain = [sum(one > PAUSE_S * 2 / 3 for one in await load) for load in loads]
        assert hedged < plain / 2, f"beyond {PAUSE_S * 2 / 3} s: {hedged} hedged, {plain} plain"
        text = await metrics(rig)
        won, lost = (metric(text, "stoker_hedges_total", endpoint="digits", outcome=one) for one in ("won", "lost"))
        asked = metric(text, "stoker_requests_total", endpoint="digits", method="infer")
        assert won >= 2
        assert won + lost <= RATIO * asked
        assert metric(text, "stoker_hedges_total", endpoint="secret") == 0
        assert metric(text, "stoker_hedge_wasted_seconds_total", endpoint="digits") > 0
        tries = [each.tries for each in await kept(rig, endpoint="digits", limit=1000) if each.because == "hedged"]
        seen = {tuple((one.kind, one.outcome) for one in each) for each in tries}
        assert (("first", "lost"), ("hedge", "ok")) in seen
        assert seen <= {(("first", "lost"), ("hedge", "ok")), (("hedge", "lost"), ("first", "ok"))}
        assert all({one.replica for one in each} <= {"r0", "r1", "r2"} for each in tries)

    run(work)


async def in_flight(rig: Rig) -> float:
    return metric(await metrics(rig), "stoker_in_flight", endpoint="digits")


def test_a_request_whose_replica_hangs_is_answered_by_another_and_frees_its_place(rig: Rig) -> None:
    async def work() -> None:
        async with client(rig) as one:
            before = await load_of(rig)
            for _ in range(200):  # credit for what follows
                await one.request("POST", "/v2/models/digits/infer", b"{}")
            rig.kill("r2", signal.SIGUSR2)  # it takes requests, and answers pings only
            began_s = time.monotonic()
            answers = [await one.request("POST", "/v2/models/digits/infer", b"{}") for _ in range(12)]
            assert [answer.status for answer in answers] == [200] * 12
            assert time.monotonic() - began_s < 5  # long before the breaker knows
        load = await load_of(rig)
        assert load.arrived - before.arrived == load.served - before.served == 212, "a hedge is nobody who came"
        text = await metrics(rig)
        tries = sum(metric(text, "stoker_hedges_total", endpoint="digits", outcome=each) for each in ("won", "lost"))
        assert metric(text, "stoker_hedge_wasted_rows_total", endpoint="digits") == tries >= 1  # of a row each
        assert sum(each.flags & Flag.WASTED_HEDGE != 0 for each in records(rig)) == tries

    run(work)
    until(lambda: asyncio.run(in_flight(rig)) == 0, "no place is held any more")
