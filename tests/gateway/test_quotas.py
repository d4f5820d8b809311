"""Rates and requests at once of keys, projects and the platform: the tightest holds, and no place is ever kept."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.app.home import Home
from stoker.gateway.quotas import Quotas
from stoker.types.errors import Busy, RateLimited, TooManyAtOnce
from stoker.types.ids import KeyId, ProjectName
from stoker.types.keys import KeyLimits
from stoker.types.routes import KeyRoute, QuotaRoute, RouteTable
from tests.gateway import rig as rigs
from tests.gateway.rig import Answer, Client, Rig, ask, chat, client, counted, run
from tests.gateway.test_budgets import start_control


def key(name: str = "k", project: str = "p", **limits: Any) -> KeyRoute:
    return KeyRoute("0" * 64, KeyId(name), ProjectName(project), limits=KeyLimits(**limits))


def held(*quotas: QuotaRoute, keys: tuple[KeyRoute, ...] = ()) -> Quotas:
    found = Quotas(1)
    found.apply(RouteTable(1, keys=keys or (key(),), quotas=quotas))
    return found


def take(quotas: Quotas, of: KeyRoute, now_s: float = 1000.0, tokens: float = 0.0) -> None:
    holding = quotas.find(of)
    assert holding is not None
    quotas.take(holding, tokens, now_s)


def test_a_key_without_any_limit_costs_a_look_up() -> None:
    quotas = held(keys=(key(), key("slow", requests_per_s=1)))
    assert quotas.find(key()) is None
    assert quotas.find(key("slow")) is not None


@given(
    st.integers(1, 6), st.integers(1, 6), st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40),
)  # fmt: skip
def test_of_key_project_and_platform_none_ever_has_more_running_than_it_may(
    of_key: int, of_project: int, of_all: int, events: list[tuple[str, bool]]
) -> None:
    keys = {
        "a": key("a", "p", requests_at_once=of_key),
        "b": key("b", "p", requests_at_once=of_key),
        "c": key("c", "other"),
    }
    quotas = held(
        QuotaRoute("p", requests_at_once=of_project), QuotaRoute("", requests_at_once=of_all), keys=tuple(keys.values())
    )
    running: Counter[str] = Counter()
    for name, begins in events:
        holding = quotas.find(keys[name])
        assert holding is not None
        if not begins:
            if running[name]:
                holding.release()
                running[name] -= 1
            continue
        fits = (
            (name == "c" or running[name] < of_key)
            and (name == "c" or running["a"] + running["b"] < of_project)
            and running.total() < of_all
        )
        try:
            quotas.take(holding, 0.0, 1000.0)
        except TooManyAtOnce:
            assert not fits
        else:
            assert fits
            running[name] += 1
    for name, count in running.items():
        holding = quotas.find(keys[name])
        assert holding is not None
        for _ in range(count):
            holding.release()
    assert set(quotas.running().values()) == {0}


def test_the_tightest_rate_refuses_and_takes_nothing_of_the_others() -> None:
    mine = key(requests_per_s=100)
    quotas = held(QuotaRoute("p", requests_per_s=2), QuotaRoute("", requests_per_s=50), keys=(mine,))
    take(quotas, mine)
    take(quotas, mine)
    with pytest.raises(RateLimited, match="project 'p' may ask for 2 requests a second") as refused:
        take(quotas, mine)
    assert refused.value.retry_after_s == pytest.approx(0.5)
    holding = quotas.find(mine)
    assert holding is not None
    lines = dict(line.split(": ") for line in holding.headers(quotas, 1000.0).decode().splitlines())
    assert lines["x-ratelimit-limit-requests"] == "2"
    assert lines["x-ratelimit-remaining-requests"] == "0"
    left = [rate.requests.left(1000.0) for rate in holding.accounts if rate.requests is not None]
    assert left == [98, 0, 48]


def test_tokens_of_a_project_are_shared_by_its_keys() -> None:
    one, two = key("one"), key("two")
    quotas = held(QuotaRoute("p", tokens_per_min=600), keys=(one, two))
    take(quotas, one, tokens=400)
    with pytest.raises(RateLimited, match="project 'p' may ask for 600 tokens a minute"):
        take(quotas, two, tokens=400)


def test_what_runs_keeps_its_place_through_a_new_table_and_through_a_limit_that_goes_and_comes_back() -> None:
    mine = key(requests_at_once=2)
    quotas = held(keys=(mine,))
    take(quotas, mine)
    holding = quotas.find(mine)
    assert holding is not None
    quotas.apply(RouteTable(2, keys=(key(),)))
    assert quotas.find(mine) is None
    quotas.apply(RouteTable(3, keys=(key(requests_at_once=1),)))
    with pytest.raises(TooManyAtOnce):
        take(quotas, mine)
    holding.release()
    take(quotas, mine)


# ---- at real gateways


PLACES = 4


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Two gateways with a control that splits limits between them."""
    home = Home(tmp_path_factory.mktemp("quotas") / "home")
    home.make()
    made = Rig(home)
    try:
        for name, at_once in (("four", PLACES), ("alone", 1)):
            made.add_key(name, requests_at_once=at_once)
        table = made.table(["r0", "r1"], hedge=True)
        table["quotas"] = [{"project": "team", "requests_at_once": 2}, {"project": "", "requests_at_once": 40}]
        table["version"] = 1000  # newer than what control makes of its empty platform
        (home.gateway / "routes.json").write_text(json.dumps(table))
        for name in ("r0", "r1"):
            made.spawn_replica(name)
        for index in range(2):
            made.spawn_gateway(index, 2)
        start_control(made, 2)
        rigs.until(made.accepts, "both accept")
        rigs.until(lambda: asyncio.run(rigs.all_see(made, 2)), "every gateway sees every replica")
        yield made
    finally:
        made.close()


def text_of(name: str) -> str:
    return f"stk_{name:0<8}_{'0' * 43}"


async def running(gate: Rig) -> float:
    """Return how many requests hold a place of a key, in both gateways."""
    names = ("gateway-0", "gateway-1")
    return sum([(await counted(gate, each)).total("stoker_quota_running", scope="key") for each in names])


async def at_one_moment(gate: Rig) -> float | None:
    """Return how many hold a place in both gateways at the same time; None: it changed while they were asked."""

    async def look(name: str) -> tuple[float, float]:
        seen = await counted(gate, name)
        return seen.total("stoker_quota_running", scope="key"), seen.total("stoker_requests_total", code="200")

    before, other = await look("gateway-0"), await look("gateway-1")
    return before[0] + other[0] if await look("gateway-0") == before else None


async def settled(gate: Rig) -> None:
    """Return when nothing holds a place any more (bounded by run)."""
    while await running(gate):
        await asyncio.sleep(0.02)


async def spread(gate: Rig, count: int) -> list[Client]:
    """Return connections to both gateways, as many as it takes."""
    found: list[Client] = []
    owners: set[str] = set()
    while len(found) < count or len(owners) < 2:
        one = Client(*await rigs.connect(gate))
        answer = await one.request("GET", "/healthz")
        owners.add(answer.headers["x-request-id"].split("-")[1])
        found.append(one)
    return found


def test_many_clients_of_two_gateways_never_have_more_running_than_the_key_may(gate: Rig) -> None:
    seen, answers = list[float](), Counter[int]()

    async def drive(one: Client, stop: asyncio.Event) -> None:
        while not stop.is_set():
            one.send("POST", "/v2/models/digits/infer", b"slow:0.1 x", text_of("four"))
            answer = await one.answer()
            answers[answer.status] += 1
            if answer.status == 429:
                assert answer.headers["retry-after"] == "1"
                assert "concurrency" in " ".join(answer.headers)
                await asyncio.sleep(0.02)

    async def work() -> None:
        stop, clients = asyncio.Event(), await spread(gate, 12)
        tasks = [asyncio.create_task(drive(one, stop)) for one in clients]
        while answers[200] <= 50 or len(seen) < 50:
            if (found := await at_one_moment(gate)) is not None:
                seen.append(found)
            await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*tasks)
        for one in clients:
            one.close()
        await settled(gate)

    run(work)
    assert answers[429] > 0
    assert 0 < max(seen) <= PLACES


def test_however_a_request_ends_its_place_is_free_again(gate: Rig) -> None:
    """A client that goes, a stream that is cut, errors, a replica that dies, requests cancelled at once."""

    async def gone(body: bytes, path: str = "/v1/chat/completions", wait_s: float = 0.1) -> None:
        async with client(gate) as one:
            one.send("POST", path, body, text_of("four"))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await one.reader.read(100)

    async def ended(body: bytes, path: str = "/v2/models/digits/infer") -> Answer:
        return await ask(gate, "POST", path, body, key=text_of("four"))

    async def work() -> None:
        stop = asyncio.Event()
        keepers = [rigs.keep_alive(gate, name, stop) for name in ("r0", "r1")]
        for _ in range(3):
            await gone(chat("chunks:50 every:0.05", stream=True))
            await gone(chat("slow:5", stream=True))
            await gone(b"slow:5 x", "/v2/models/digits/infer")
            await gone(b"hang", "/v2/models/digits/infer", wait_s=0.0)
            await ended(b"refuse:engine_failed at:r0")
            await ended(b"refuse:invalid_input")
            await ended(chat("chunks:5 cut-after:2 at:r0", stream=True), "/v1/chat/completions")
            await settled(gate)
        while not await rigs.all_see(gate, 2):  # it has somewhere to go on: one that only r0 could take is poison
            await asyncio.sleep(0.01)
        while (answer := await ended(b"at:r0 die")).status == 429:  # the places are at the other gateway
            await asyncio.sleep(0.05)
        assert answer.status in (200, 503), answer
        await settled(gate)
        stop.set()
        await asyncio.gather(*keepers)
        served = 0
        while served < PLACES:  # and all of them can be had, in a moment (bounded by run)
            served += (await ended(b"x")).status == 200
        await settled(gate)

    run(work)


def test_a_place_goes_to_the_gateway_where_it_is_asked_for(gate: Rig) -> None:
    async def work() -> None:
        for one in await spread(gate, 2):
            while (await one.request("POST", "/v2/models/digits/infer", b"x", text_of("alone"))).status != 200:
                await asyncio.sleep(0.1)
            one.close()

    run(work)


def test_a_killed_gateway_keeps_no_place_and_control_away_lets_nobody_over_the_limit(gate: Rig) -> None:
    async def work() -> None:
        clients = await spread(gate, 12)
        for one in clients:
            one.send("POST", "/v2/models/digits/infer", b"slow:200 x", text_of("four"))
        while await running(gate) < 2:
            await asyncio.sleep(0.02)
        gate.kill("control")
        gate.kill("gateway-1")
        gate.spawn_gateway(1, 2)
        rigs.until(gate.accepts, "it is back")
        for one in await spread(gate, 12):
            one.send("POST", "/v2/models/digits/infer", b"slow:200 x", text_of("four"))
            clients.append(one)
        ends_s = time.monotonic() + 1.5
        while time.monotonic() < ends_s:
            assert await running(gate) <= PLACES
            await asyncio.sleep(0.05)
        for one in clients:
            one.close()
        await settled(gate)

    run(work)


def test_keys_of_a_project_share_its_places(gate: Rig, tmp_path: Path) -> None:
    path = tmp_path / "gate"
    assert issubclass(TooManyAtOnce, Busy)

    async def work() -> None:
        clients = await spread(gate, 6)
        for one in clients:
            one.send("POST", "/v2/models/secret/infer", f"until:{path}".encode(), rigs.TEAM_KEY)
        answers = [asyncio.create_task(one.answer()) for one in clients]
        await rigs.holds(lambda: sum(each.done() for each in answers) >= len(clients) - 2)
        assert {each.result().status for each in answers if each.done()} == {429}
        path.touch()
        statuses = Counter([each.status for each in await asyncio.gather(*answers)])
        assert statuses[200] <= 2
        assert statuses[429] >= 4
        for one in clients:
            one.close()

    run(work)
