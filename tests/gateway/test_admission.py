"""Who is let in, and who goes first, when there is more than a replica can do: keys, bands, tenants, deadlines."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from stoker.app.home import Home
from stoker.gateway.meters import GONE_KEPT_S, Meters
from stoker.gateway.tenants import ATTEMPTS, DURATION, FIRST_TOKEN, PROMISED, TENANTS_MAX, TURN_S
from stoker.telemetry.metrics import Registry
from tests.gateway.rig import Answer, Rig, ask, chat, infer, run, until

NAMES = ("urgent", "noisy", "quiet", "rates", "tokens", "background")


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    return {}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, str]) -> Iterator[Rig]:
    """One gateway and one replica that works on two requests at once, and is given no third; 30 may wait."""
    folder = tmp_path_factory.mktemp("admission")
    home = Home(folder / "home")
    home.make()
    made = Rig(home)
    try:
        limits = {
            "urgent": {"priority": "critical"},
            "noisy": {},
            "quiet": {},
            "rates": {"requests_per_s": 0.01, "burst": 10},  # no further one comes while a test runs
            "tokens": {"tokens_per_min": 600},
            "background": {"priority": "sheddable"},
        }
        keys.update({name: made.add_key(name, **limits[name]) for name in NAMES})
        made.write_table(["r0"], queue_max=30, concurrency=2, promised_to=["quiet"])
        made.start_replica("r0", "--slots", "2")
        made.start_gateway()
        until(lambda: asyncio.run(infer(made, "ready?")).status == 200, "the first answer")
        yield made
    finally:
        made.close()


@contextlib.asynccontextmanager
async def full(rig: Rig, key: str, count: int) -> AsyncIterator["list[asyncio.Task[Answer]]"]:
    """Have `count` requests hold both places or wait while the block runs, and be answered at its end."""
    gate = rig.home.root / f"gate-{secrets.token_hex(4)}"
    before = len(order(rig, 0))
    tasks = [asyncio.create_task(infer(rig, f"until:{gate} {number}", key=key)) for number in range(count)]
    await wait_until(rig, count - 2)
    while len(order(rig, 0)) < before + 2:  # both are in the replica, not only on their way
        await asyncio.sleep(0.005)
    try:
        yield tasks
    finally:
        gate.touch()
        await asyncio.gather(*tasks)


async def wait_until(rig: Rig, count: int) -> None:
    """Return once `count` requests wait for a place; bounded by run."""
    while await waiting(rig) != count:
        await asyncio.sleep(0.005)


async def waiting(rig: Rig) -> int:
    text = (await ask(rig, "GET", "/metrics", key=None)).body.decode()
    return sum(int(float(line.split()[-1])) for line in text.splitlines() if line.startswith("stoker_queue_depth{"))


def order(rig: Rig, since: int) -> list[str]:
    """Return the ids of the requests that reached the replica, in order."""
    return [line.split()[2] for line in rig.lines("r0")[since:] if line.startswith("request infer")]


def test_an_urgent_request_goes_before_all_that_wait(rig: Rig, keys: dict[str, str]) -> None:
    async def work() -> None:
        async with full(rig, keys["noisy"], 20) as behind:
            since = len(rig.lines("r0"))
            urgent = asyncio.create_task(infer(rig, "slow:0", key=keys["urgent"], x_request_id="first"))
            await wait_until(rig, 19)
        assert order(rig, since)[0] == "first"
        assert {answer.status for answer in await asyncio.gather(urgent, *behind)} == {200}

    run(work)


def test_a_caller_may_ask_for_less_urgency_than_its_key_has_and_not_for_more(rig: Rig, keys: dict[str, str]) -> None:
    async def work() -> None:
        async with full(rig, keys["noisy"], 12):
            since = len(rig.lines("r0"))
            wanted = (("low", "urgent", "sheddable"), ("high", "background", "critical"))
            late = [
                asyncio.create_task(infer(rig, "slow:0", key=keys[key], x_request_id=name, x_stoker_priority=priority))
                for name, key, priority in wanted
            ]
            await wait_until(rig, 12)
        assert {answer.status for answer in await asyncio.gather(*late)} == {200}
        assert set(order(rig, since)[-2:]) == {"low", "high"}
        wrong = await infer(rig, "{}", key=keys["urgent"], x_stoker_priority="now")
        assert wrong.status == 400
        assert "critical, standard, sheddable" in wrong.json["error"]

    run(work)


def test_a_tenant_with_twenty_waiting_does_not_hold_up_one_with_few(rig: Rig, keys: dict[str, str]) -> None:
    async def work() -> None:
        async with full(rig, keys["noisy"], 24):
            since = len(rig.lines("r0"))
            quiet = [
                asyncio.create_task(infer(rig, "slow:0", key=keys["quiet"], x_request_id=f"quiet-{number}"))
                for number in range(4)
            ]
            await wait_until(rig, 26)
        assert {answer.status for answer in await asyncio.gather(*quiet)} == {200}
        places = [at for at, name in enumerate(order(rig, since)) if name.startswith("quiet-")]
        assert places[-1] <= 10, "four turns of about nine, not behind all twenty"

    run(work)


def test_a_full_queue_makes_room_for_who_has_less_in_it(rig: Rig, keys: dict[str, str]) -> None:
    async def work() -> None:
        async with full(rig, keys["noisy"], 32) as noisy:  # two run, thirty wait
            refused = await infer(rig, "{}", key=keys["noisy"])
            assert refused.status == 429
            assert refused.json["error"].startswith("30 requests wait")
            came = asyncio.create_task(infer(rig, "slow:0", key=keys["quiet"]))
            await asyncio.wait(noisy, return_when=asyncio.FIRST_COMPLETED)  # the one that is pushed out
        assert (await came).status == 200
        answers = [task.result() for task in noisy]
        assert sorted({answer.status for answer in answers}) == [200, 429]
        pushed = [answer for answer in answers if answer.status == 429]
        assert len(pushed) == 1
        assert "more urgent request or a tenant with fewer waiting" in pushed[0].json["error"]
        assert 1 <= int(pushed[0].headers["retry-after"]) <= 120

    run(work)


def test_what_can_be_shed_is_shed_first(rig: Rig, keys: dict[str, str]) -> None:
    async def work() -> None:
        async with full(rig, keys["background"], 32) as background:
            others = [asyncio.create_task(infer(rig, f"slow:0 {number}", key=keys["noisy"])) for number in range(20)]
            while sum(task.done() for task in background) < 20:  # bounded by run
                await asyncio.sleep(0.005)
        assert {answer.status for answer in await asyncio.gather(*others)} == {200}
        statuses = [task.result().status for task in background]
        assert statuses.count(429) == 20

    run(work)


def test_refusals_are_quick_while_everything_is_full(rig: Rig, keys: dict[str, str]) -> None:
    async def work() -> None:
        async with full(rig, keys["noisy"], 32) as noisy:
            took_s: dict[int, list[float]] = {429: [], 401: []}
            for number in range(80):
                began_s, status = time.monotonic(), (429, 401)[number % 2]
                key = keys["noisy"] if status == 429 else None
                assert (await infer(rig, "slow:0.2", key=key)).status == status
                took_s[status].append(time.monotonic() - began_s)
        # Medians, a connection each. A request without a key meets no queue, and the same busy machine.
        assert sorted(took_s[429])[20] < 5 * sorted(took_s[401])[20]
        assert {task.result().status for task in noisy} == {200}

    run(work)


def test_a_key_gets_its_burst_and_then_its_rate(rig: Rig, keys: dict[str, str]) -> None:
    async def work() -> None:
        answers = [await infer(rig, "{}", key=keys["rates"]) for _ in range(14)]
        statuses = [answer.status for answer in answers]
        assert statuses == [200] * 10 + [429] * 4
        assert [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in answers[:4]] == [9, 8, 7, 6]
        assert answers[0].headers["x-ratelimit-limit-requests"] == "10"
        refused = next(answer for answer in answers if answer.status == 429)
        assert 1 <= int(refused.headers["retry-after"]) <= 100
        assert "0.01 requests a second" in refused.json["error"]
        other = await infer(rig, "{}", key=keys["quiet"])
        assert other.status == 200
        assert "x-ratelimit-limit-requests" not in other.headers

    run(work)


def test_tokens_are_taken_before_and_settled_after(rig: Rig, keys: dict[str, str], tmp_path: Path) -> None:
    async def work() -> None:
        # 600 tokens at once: each request is expected to take about 270 and takes 8, so many fit.
        answers = [
            await ask(rig, "POST", "/v1/chat/completions", chat("slow:0 x"), key=keys["tokens"]) for _ in range(20)
        ]
        assert {answer.status for answer in answers} == {200}
        left = int(answers[-1].headers["x-ratelimit-remaining-tokens"])
        assert 100 < left < 600
        # All at once each holds what it may cost, and only some fit.
        gate = tmp_path / "gate"
        tasks = [
            asyncio.create_task(
                ask(rig, "POST", "/v1/chat/completions", chat(f"until:{gate} {number}"), key=keys["tokens"])
            )
            for number in range(20)
        ]
        while sum(task.done() for task in tasks) < 10:  # they are refused; bounded by run
            await asyncio.sleep(0.005)
        gate.touch()
        statuses = [answer.status for answer in await asyncio.gather(*tasks)]
        assert statuses.count(429) >= 10
        assert statuses.count(200) >= 1
        error = next(task.result() for task in tasks if task.result().status == 429).json["error"]
        assert error["code"] == "rate_limit_exceeded"
        assert error["type"] == "rate_limit_error"

    run(work)


def test_tokens_of_a_request_that_no_replica_took_are_given_back(rig: Rig, keys: dict[str, str]) -> None:
    async def work() -> None:
        before = int(
            (await ask(rig, "POST", "/v1/chat/completions", chat("slow:0 y"), key=keys["tokens"])).headers[
                "x-ratelimit-remaining-tokens"
            ]
        )
        for _ in range(5):
            body = chat("refuse:invalid_input")
            assert (await ask(rig, "POST", "/v1/chat/completions", body, key=keys["tokens"])).status == 400
        after = int(
            (await ask(rig, "POST", "/v1/chat/completions", chat("slow:0 z"), key=keys["tokens"])).headers[
                "x-ratelimit-remaining-tokens"
            ]
        )
        assert after >= before - 40

    run(work)


def test_tokens_of_a_request_whose_client_left_are_not_given_back(rig: Rig, keys: dict[str, str]) -> None:
    async def left() -> int:
        answer = await ask(rig, "POST", "/v1/chat/completions", chat("slow:0 w"), key=keys["tokens"])
        return int(answer.headers["x-ratelimit-remaining-tokens"])

    async def work() -> None:
        before = await left()
        since = len(rig.lines("r0"))
        gone = asyncio.create_task(
            ask(rig, "POST", "/v1/chat/completions", chat("slow:200 leaves" + "." * 1200), key=keys["tokens"])
        )
        while len(rig.lines("r0")) == since:
            await asyncio.sleep(0.005)
        gone.cancel()
        while "cancelled" not in rig.lines("r0")[since:]:
            await asyncio.sleep(0.005)
        assert await left() < before - 20

    run(work)


async def attempts(rig: Rig) -> dict[str, int]:
    """Return how many answers objectives judged, by outcome."""
    text = (await ask(rig, "GET", "/metrics", key=None)).body.decode()
    found: dict[str, int] = {}
    for line in text.splitlines():
        if line.startswith("stoker_first_attempts_total{") and 'endpoint="digits"' in line:
            outcome = "good" if 'outcome="good"' in line else "bad"
            found[outcome] = found.get(outcome, 0) + int(float(line.split()[-1]))
    return found


def test_objectives_count_a_call_once_whatever_its_client_library_tried(rig: Rig) -> None:
    async def work() -> None:
        before = await attempts(rig)
        for text in ("fine", "refuse:engine_failed"):
            await infer(rig, text)
            await infer(rig, text, x_stainless_retry_count="0")
            await infer(rig, text, x_stainless_retry_count="1")
        await infer(rig, "fine", key="stk_nobody")
        after = await attempts(rig)
        assert {name: after[name] - before.get(name, 0) for name in after} == {"good": 2, "bad": 2}

    run(work)


def test_a_tenant_with_an_objective_of_its_own_is_counted_by_itself(rig: Rig, keys: dict[str, str]) -> None:
    async def work() -> None:
        for key, text in (("quiet", "fine"), ("quiet", "refuse:engine_failed"), ("noisy", "fine"), ("quiet", "fine")):
            await infer(rig, text, key=keys[key])
        shown = (await ask(rig, "GET", "/metrics", key=None)).body.decode()
        found = [line for line in shown.splitlines() if line.startswith("stoker_tenant_first_attempts_total{")]
        assert len(found) == 2, "good and bad of one tenant"
        assert all('tenant="quiet"' in line and 'endpoint="digits"' in line for line in found)

    run(work)


def test_a_promised_tenant_is_counted_however_busy_the_others_are_and_until_nothing_is_promised() -> None:
    registry = Registry("gateway-0")
    meters = Meters(registry, "default", "a")

    meters.tenants.of("small").ended(200, 1, ())
    meters.promised.follow(["small"], {"small": (DURATION,)})
    meters.promised.attempt("small", "good")
    meters.promised.attempt("big-1", "good")  # it is promised nothing
    for number in range(TENANTS_MAX):
        for _ in range(10):
            meters.tenants.of(f"big-{number}").ended(200, 1, ())
    meters.turn(TURN_S)
    meters.promised.attempt("small", "good")
    times = meters.promised.times("small")
    assert times is not None
    times.took(0.1)
    times.began(0.1)  # no objective asks for it
    assert meters.promised.times("big-1") is None
    seen = registry.snapshot()
    assert seen.total(ATTEMPTS) == seen.total(ATTEMPTS, tenant="small", outcome="good") == 2
    assert seen.distribution(DURATION, tenant="small").count == 1
    assert not seen.matching(FIRST_TOKEN)
    meters.promised.follow([], {})
    assert not any(registry.snapshot().matching(name) for name in PROMISED)


def test_what_a_revision_counted_last_can_still_be_asked_for_when_it_has_left_the_table() -> None:
    registry = Registry("gateway-0")
    meters = Meters(registry, "default", "a")
    meters.attempt("default.a-1", "good")
    meters.keep({"default.a-2"}, 100.0)
    meters.attempt("default.a-1", "good")  # it drained
    meters.turn(100.0 + GONE_KEPT_S - 1.0)
    assert registry.snapshot().total("stoker_first_attempts_total", revision="default.a-1") == 2
    meters.turn(100.0 + GONE_KEPT_S)
    assert registry.snapshot().total("stoker_first_attempts_total", revision="default.a-1") == 0
    meters.attempt("default.a-1", "good")
    meters.keep({"default.a-2"}, 200.0)
    meters.keep({"default.a-1"}, 201.0)  # it is back
    meters.turn(300.0)
    assert registry.snapshot().total("stoker_first_attempts_total", revision="default.a-1") == 1
