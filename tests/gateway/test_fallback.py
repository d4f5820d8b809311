"""Fallback chains, breakers and tiers over a real gateway and real replica processes that die, hang and refuse."""

import asyncio
import hashlib
import json
import re
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from stoker.app.home import Home
from tests.gateway.rig import KEY, Answer, Rig, ask, client, run, the_trace, until

pytestmark = pytest.mark.alone  # the shortest of what is waited for here are 0.3 s

HEADER = "x-stoker-served-by"
KEPT = {"ttl_s": 60.0, "max_bytes": 1 << 20, "shared": True}
QUICK = {"open_s": 0.4, "requests_min": 4, "window_s": 10.0}


def endpoint(rig: Rig, name: str, *, task: str = "chat", replica: str = "", **more: Any) -> dict[str, Any]:
    """Return a route of `name`, on the replica process of its name unless `replica` says others ("-": none)."""
    names = [] if replica == "-" else (replica or name).split()
    revision = {
        "revision": f"default.{name}-1",
        "version": "1",
        "weight": 100,
        "platform": "onnx",
        "replicas": [{"replica": each, "address": rig.home.address(each)} for each in names],
        "signature": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}], "outputs": []},
    }
    revisions = [] if "backends" in more else [revision]
    return {
        "breaker": QUICK,
        "project": "default",
        "endpoint": name,
        "task": task,
        "created_at_s": 1.0,
        "revisions": revisions,
        "timeout_s": 10.0,
        **more,
    }


def write(rig: Rig, endpoints: list[dict[str, Any]]) -> None:
    """Write the table that the gateway starts from."""
    key = {"sha256": hashlib.sha256(KEY.encode()).hexdigest(), "key": "admin000", "project": "default"}
    table = {"version": 1, "endpoints": endpoints, "keys": [key]}
    (rig.home.gateway / "routes.json").write_text(json.dumps(table))


def routes(rig: Rig) -> list[dict[str, Any]]:
    """Return the endpoints of all tests here."""

    def made(name: str, **more: Any) -> dict[str, Any]:
        return endpoint(rig, name, **more)

    return [
        made("big", fallback=["small", "last"], fallback_after_s=0.4),
        made("patient", replica="big", fallback=["small", "last"]),
        made("small", concurrency=4, queue_max=0),
        made("last"),
        made("cold", replica="-", fallback=["small"]),
        made("narrow", replica="big", concurrency=1, queue_max=1, fallback=["last"]),
        made("strict", replica="big", fallback=["last"], fallback_on=["overload"]),
        made("even", replica="big", timeout_s=1.0, fallback=["last"]),
        made("refusing", replica="big", timeout_s=0.3, breaker={**QUICK, "refuse": True}),
        made("alone", replica="big", timeout_s=0.3),
        made("dead", replica="nobody", fallback=["nowhere", "nobody-too"]),
        made("nobody-too", replica="nobody"),
        made("digits", task="predict", replica="big", fallback=["spare"]),
        made("spare", task="predict", replica="last"),
        made(
            "tier",
            backends=[
                {"endpoint": "big", "when": "request.input_tokens > 100 || headers['x-stoker-tier'] == 'gold'"},
                {"endpoint": "big", "when": "request.max_tokens / request.messages > 4000"},
                {"endpoint": "small", "weight": 3},
                {"endpoint": "last", "weight": 1},
            ],
        ),
        made(
            "broken-rule", backends=[{"endpoint": "big", "when": "1 / request.max_tokens == 5"}, {"endpoint": "small"}]
        ),
        made("over", backends=[{"endpoint": "tier"}], fallback=["last"]),
        made("kept", task="predict", replica="big", fallback=["spare"], cache=KEPT, coalesce=True),
        made("pair", replica="big last"),
        made("behind", backends=[{"endpoint": "pair"}]),
        made("shed", replica="big", sheds=True),
        made("shed-on", replica="big", sheds=True, fallback=["last"], fallback_on=["overload"]),
        made("shed-tier", sheds=True, backends=[{"endpoint": "big"}]),
        made("loop-a", replica="-", fallback=["loop-b"]),
        made("loop-b", replica="-", fallback=["loop-a"]),
    ]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One gateway in front of big, small and last; tests leave all of them running and every breaker closed."""
    home = Home(tmp_path_factory.mktemp("fallback") / "home")
    home.make()
    rig = Rig(home)
    try:
        write(rig, routes(rig))
        for name in ("big", "small", "last"):
            rig.spawn_replica(name)
        rig.start_gateway()
        whole(rig)
        yield rig
    finally:
        rig.close()


@pytest.fixture
def rig(shared: Rig) -> Iterator[Rig]:
    yield shared
    whole(shared)
    assert gauge(shared, "stoker_in_flight") == 0, "a place leaked"
    assert gauge(shared, "stoker_queue_depth") == 0


def whole(rig: Rig) -> None:
    """Start what a test killed, and wait until every endpoint is served by itself and every breaker is closed."""
    names = ("big", "small", "last", "narrow", "patient", "strict", "even", "refusing", "alone", "digits")

    def is_whole() -> bool:  # a breaker closes by requests
        for name in ("big", "small", "last"):
            if rig.processes[name].poll() is not None:
                rig.start_replica(name)
        return all(_is_direct(rig, name) for name in names) and gauge(rig, "stoker_breaker_state") == 0

    until(is_whole, "every endpoint serves itself and every breaker is closed")
    until(lambda: gauge(rig, "stoker_in_flight") == 0, "nothing runs")


def _is_direct(rig: Rig, name: str) -> bool:
    path = "/v2/models/digits/infer" if name == "digits" else "/v1/chat/completions"
    answer = asyncio.run(ask(rig, "POST", path, body("{}", name)))
    return answer.status == 200 and answer.headers.get(HEADER, name) == name


def body(text: str, name: str, *, stream: bool = False, **more: Any) -> bytes:
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": name, "messages": messages, "stream": stream, **more}).encode()


async def say(rig: Rig, text: str, name: str, *, stream: bool = False, **headers: str) -> Answer:
    return await ask(rig, "POST", "/v1/chat/completions", body(text, name, stream=stream), **headers)


def metric(rig: Rig, name: str, **labels: str) -> float:
    """Return the sum of the samples of `name` that have `labels`."""
    text = asyncio.run(ask(rig, "GET", "/metrics")).body.decode()
    found = 0.0
    for line in text.splitlines():
        match = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
        if match and all(f'{key}="{value}"' in (match[1] or "") for key, value in labels.items()):
            found += float(match[2])
    return found


def gauge(rig: Rig, name: str) -> float:
    return metric(rig, name)


def test_the_header_names_who_serves_and_endpoints_without_a_chain_have_none(rig: Rig) -> None:
    async def work() -> None:
        assert (await say(rig, "hello", "big")).headers[HEADER] == "big"
        assert HEADER not in (await say(rig, "hello", "last")).headers

    run(work)


def test_a_trace_tells_which_endpoint_gave_up_and_which_answered(rig: Rig) -> None:
    async def work() -> None:
        answer = await say(rig, "at:big slow:30", "big")
        assert answer.headers[HEADER] == "small"
        found = await the_trace(rig, answer.headers["x-request-id"])
        assert (found.because, found.endpoint, found.served_by) == ("fallback", "big", "small")
        assert [(each.kind, each.endpoint, each.replica, each.outcome) for each in found.tries] == [
            ("first", "big", "big", "deadline_exceeded"),
            ("fallback", "small", "small", "ok"),
        ]
        answer = await say(rig, "hello", "cold")
        found = await the_trace(rig, answer.headers["x-request-id"])
        assert [(each.kind, each.endpoint, each.replica, each.outcome) for each in found.tries] == [
            ("first", "cold", "", "unavailable"),
            ("fallback", "small", "small", "ok"),
        ]

    run(work)


def test_a_killed_endpoint_is_answered_by_its_fallback_at_once_and_by_itself_again(rig: Rig) -> None:
    async def work() -> None:
        rig.kill("big")
        began_s = time.monotonic()
        answers = await asyncio.gather(*(say(rig, "{}", "big") for _ in range(4)))
        assert {answer.headers[HEADER] for answer in answers} == {"small"}, [answer.body for answer in answers]
        assert time.monotonic() - began_s < 0.35, "it waited for a timeout though nobody was there"
        stream = await say(rig, "chunks:3", "big", stream=True)
        assert stream.headers[HEADER] == "small"
        assert stream.body.endswith(b"[DONE]\n\n")
        assert (await ask(rig, "POST", "/v2/models/digits/infer", b"{}")).headers[HEADER] == "spare"
        await asyncio.to_thread(rig.start_replica, "big")
        while (await say(rig, "{}", "big")).headers[HEADER] != "big":
            await asyncio.sleep(0.01)

    run(work)


def test_the_request_that_was_in_a_killed_replica_is_answered_elsewhere(rig: Rig) -> None:
    async def work() -> None:
        asked = [asyncio.create_task(say(rig, f"slow:0.3 {number}", "patient")) for number in range(3)]
        lines = [asyncio.create_task(say(rig, f"slow:0.3 {number}", "patient", stream=True)) for number in range(2)]
        await asyncio.to_thread(until, lambda: len(rig.lines("big")) >= 5, "all are in the replica")
        rig.kill("big")
        began_s = time.monotonic()
        answers = await asyncio.gather(*asked, *lines)
        assert time.monotonic() - began_s < 4, "they waited for their replica to come back"
        assert {answer.status for answer in answers} == {200}, [answer.body for answer in answers]
        assert {answer.headers[HEADER] for answer in answers} <= {"small", "last"}

    rig.log("big").write_text("")
    run(work)


def test_a_request_refused_by_the_last_replica_that_leaves_does_not_wait_for_the_next(rig: Rig) -> None:
    async def work() -> None:
        began_s = time.monotonic()
        answer = await say(rig, "at:big refuse:draining", "patient")
        assert (answer.status, answer.headers[HEADER]) == (200, "small")
        assert time.monotonic() - began_s < 0.8, "a replica is pinged once a second"

    run(work)


def test_a_hanging_endpoint_costs_its_share_until_the_breaker_opens_and_closes_by_itself(rig: Rig) -> None:
    async def timed() -> tuple[float, str]:
        began_s = time.monotonic()
        answer = await say(rig, "chunks:1", "big", stream=True)
        assert answer.status == 200
        return time.monotonic() - began_s, answer.headers[HEADER]

    async def work() -> None:
        rig.kill("big", signal.SIGSTOP)
        try:
            slow = [await timed() for _ in range(5)]
            assert {name for _, name in slow} == {"small"}
            assert slow[0][0] > 0.39
            quick = [await timed() for _ in range(20)]
            assert {name for _, name in quick} == {"small"}
            assert await asyncio.to_thread(metric, rig, "stoker_breaker_state", endpoint="big") >= 1
        finally:
            rig.kill("big", signal.SIGCONT)
        until_s = time.monotonic() + 8
        while (await timed())[1] != "big":
            assert time.monotonic() < until_s, "it did not close again"
            await asyncio.sleep(0.02)

    opened = metric(rig, "stoker_fallbacks_total", endpoint="big", reason="open", to="small")
    late = metric(rig, "stoker_fallbacks_total", endpoint="big", reason="timeout", to="small")
    run(work)
    assert metric(rig, "stoker_fallbacks_total", endpoint="big", reason="open", to="small") > opened + 10, "they pay on"
    assert metric(rig, "stoker_fallbacks_total", endpoint="big", reason="timeout", to="small") >= late + 3


def test_only_one_request_at_a_time_probes_an_open_breaker(rig: Rig) -> None:
    async def work() -> None:
        for _ in range(5):
            await say(rig, "at:big refuse:engine_failed", "big")
        await asyncio.sleep(0.45)  # half-open
        rig.log("big").write_text("")
        answers = await asyncio.gather(*(say(rig, f"slow:0.2 {number}", "big") for number in range(8)))
        assert {answer.status for answer in answers} == {200}
        assert sum(answer.headers[HEADER] == "big" for answer in answers) == 1
        assert len([line for line in rig.lines("big") if line.startswith("request")]) == 1
        async with client(rig) as one:  # a stream is a probe until its first byte
            one.send("POST", "/v1/chat/completions", body("chunks:40 every:0.05", "big", stream=True))
            assert (await one.head())[1][HEADER] == "big"
            assert (await say(rig, "{}", "big")).headers[HEADER] == "big"
            assert await asyncio.to_thread(metric, rig, "stoker_breaker_state", endpoint="big") == 0

    run(work)


def test_a_failing_engine_and_an_upstream_without_service_fall_back_and_a_callers_error_does_not(rig: Rig) -> None:
    async def work() -> None:
        for code, status in (("invalid_input", 400), ("not_found", 404), ("unsupported", 501), ("poison_request", 422)):
            answer = await say(rig, f"refuse:{code} x", "big")
            assert answer.status == status
            assert answer.headers[HEADER] == "big"
        # The same words make small and last fail too: the caller hears big.
        for code, status in (("engine_failed", 500), ("unavailable", 503)):
            answer = await say(rig, f"refuse:{code} x", "patient")
            assert (answer.status, answer.headers.get(HEADER)) == (status, None)

    def counted() -> list[float]:
        requests = [metric(rig, "stoker_requests_total", endpoint=name) for name in ("patient", "small", "last")]
        reasons = [
            metric(rig, "stoker_fallbacks_total", endpoint="patient", reason=reason, to="last")
            for reason in ("error", "unavailable")
        ]
        return requests + reasons

    before = counted()
    run(work)
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [2, 2, 2, 1, 1]


def test_a_full_endpoint_sends_what_it_refuses_to_the_next(rig: Rig) -> None:
    async def work() -> None:
        answers = await asyncio.gather(*(say(rig, f"slow:0.2 {number}", "narrow") for number in range(6)))
        assert {answer.status for answer in answers} == {200}
        served = [answer.headers[HEADER] for answer in answers]
        assert (served.count("narrow"), served.count("last")) == (2, 4)

    run(work)


def test_reasons_that_are_not_listed_do_not_fall_back(rig: Rig) -> None:
    async def work() -> None:
        assert (await say(rig, "refuse:engine_failed", "strict")).status == 500
        assert (await say(rig, "hang", "strict", x_request_timeout_ms="200")).status == 504

    run(work)


def test_without_a_limit_of_its_own_each_endpoint_has_an_even_share_of_the_deadline(rig: Rig) -> None:
    async def work() -> None:
        rig.log("last").write_text("")
        began_s = time.monotonic()
        answer = await say(rig, "slow:2 x", "even")
        took_s = time.monotonic() - began_s
        assert answer.status == 504, "half a second is left for each"
        assert 0.9 < took_s < 1.9, "as long as the deadline, not as one of them takes"
        assert any(line.startswith("request") for line in rig.lines("last"))
        assert (await say(rig, "slow:0.4 x", "even")).headers[HEADER] == "even"

    run(work)


def test_a_stream_that_has_begun_never_changes_its_endpoint(rig: Rig) -> None:
    async def work() -> None:
        answer = await say(rig, "chunks:6 every:0.15", "big", stream=True)  # longer than fallback_after
        assert answer.headers[HEADER] == "big"
        assert answer.body.count(b"tok") == 6
        assert answer.body.endswith(b"[DONE]\n\n")
        cut = await say(rig, "chunks:9 every:0.01 cut-after:2", "big", stream=True)
        assert cut.headers[HEADER] == "big"
        assert b'"code":"replica_lost"' in cut.body

    run(work)


def test_a_client_that_leaves_while_an_endpoint_is_tried_leaves_nothing_behind(rig: Rig) -> None:
    async def work() -> None:
        for wait_s in (0.1, 0.39, 0.4, 0.41, 0.6):
            async with client(rig) as one:
                one.send("POST", "/v1/chat/completions", body("hang", "big"))
                await asyncio.sleep(wait_s)

    cancelled = metric(rig, "stoker_cancelled_total", endpoint="big")
    run(work)
    until(lambda: metric(rig, "stoker_cancelled_total", endpoint="big") == cancelled + 5, "all were counted")


def test_a_request_that_kills_does_not_kill_its_way_through_the_chain(rig: Rig) -> None:
    async def work() -> None:
        for name in ("small", "last"):
            rig.log(name).write_text("")
        answer = await say(rig, "please die", "big")
        deaths = [line for name in ("small", "last") for line in rig.lines(name) if line.startswith("died")]
        assert answer.status == 422, answer.body
        assert deaths == ["died alone=True"]

    run(work)


def test_a_broken_endpoint_without_another_is_still_asked_unless_it_says_refuse(rig: Rig) -> None:
    async def work() -> None:
        for name in ("alone", "refusing"):
            for _ in range(6):
                assert (await say(rig, "refuse:engine_failed", name)).status in (500, 503)
        assert (await say(rig, "{}", "alone")).status == 200
        refused = await say(rig, "{}", "refusing")
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert "tried again" in refused.json["error"]["message"]
        while (await say(rig, "{}", "refusing")).status != 200:
            await asyncio.sleep(0.02)

    run(work)


def test_when_nobody_can_serve_the_caller_hears_the_endpoint_he_asked(rig: Rig) -> None:
    async def work() -> None:
        answer = await say(rig, "{}", "dead", x_request_timeout_ms="300")
        assert answer.status in (503, 504)
        for name in ("loop-a", "loop-b"):
            assert (await say(rig, "{}", name)).status == 503
        assert (await say(rig, "{}", "cold")).headers[HEADER] == "small"

    run(work)


def test_a_tier_chooses_by_rule_and_by_weight_and_its_choice_falls_back(rig: Rig) -> None:
    async def work() -> None:
        served = [(await say(rig, "short", "tier")).headers[HEADER] for _ in range(80)]
        assert set(served) == {"small", "last"}
        assert 40 < served.count("small") < 76
        assert (await say(rig, "word " * 200, "tier")).headers[HEADER] == "big"
        assert (await say(rig, "short", "tier", x_stoker_tier="gold")).headers[HEADER] == "big"
        asked = await ask(rig, "POST", "/v1/chat/completions", body("x", "tier", max_tokens=5000))
        assert asked.headers[HEADER] == "big"
        assert (await say(rig, "short", "over", x_stoker_tier="gold")).headers[HEADER] == "big"
        assert (await say(rig, "short", "broken-rule")).headers[HEADER] == "small"
        rig.kill("small")
        served = [(await say(rig, "short", "tier")).headers[HEADER] for _ in range(10)]
        assert set(served) == {"last"}, "a backend that is down was drawn"
        rig.kill("big")
        assert (await say(rig, "short", "tier", x_stoker_tier="gold")).headers[HEADER] == "last"

    run(work)
    assert metric(rig, "stoker_rule_errors_total", endpoint="broken-rule") == 1


def test_a_fallbacks_answer_is_not_kept_as_the_endpoints_own(rig: Rig) -> None:
    async def work() -> None:
        async def asked() -> tuple[str | None, str | None]:
            answer = await ask(rig, "POST", "/v2/models/kept/infer", b"who: {}")
            assert answer.status == 200
            return answer.headers.get("x-stoker-cache"), answer.headers.get(HEADER)

        rig.kill("big")
        assert await asked() == ("miss", "spare")
        assert await asked() == ("miss", "spare")
        await asyncio.to_thread(rig.start_replica, "big")
        while (own := await asked()) != ("miss", "kept"):
            assert own == ("miss", "spare")
        assert (await asked())[0] == "hit"

    run(work)


def test_a_session_stays_with_its_replica_behind_a_tier(rig: Rig) -> None:
    async def work() -> None:
        for _ in range(12):
            asked = await ask(rig, "POST", "/v1/chat/completions", body("x", "behind", user="somebody"))
            assert asked.headers[HEADER] == "pair"

    for name in ("big", "last"):
        rig.log(name).write_text("")
    run(work)
    counts = [len(rig.lines(name)) for name in ("big", "last")]
    assert sorted(counts) == [0, 12]


def test_a_tier_counts_a_request_once_and_its_backend_the_tokens(rig: Rig) -> None:
    def counted() -> dict[str, float]:
        return {
            f"{name} {what}": metric(rig, f"stoker_{what}_total", endpoint=name)
            for name in ("tier", "big")
            for what in ("requests", "tokens")
        }

    async def work() -> None:
        await say(rig, "chunks:4", "tier", stream=True, x_stoker_tier="gold")

    before = counted()
    run(work)
    after = counted()
    assert {name: after[name] - before[name] for name in after} == {
        "tier requests": 1,
        "big requests": 1,
        "tier tokens": 0,
        "big tokens": 6,
    }


def test_a_tier_is_listed_and_described_like_an_endpoint(rig: Rig) -> None:
    async def work() -> None:
        listed = [model["id"] for model in (await ask(rig, "GET", "/v1/models")).json["data"]]
        assert {"tier", "over", "big"} <= set(listed)
        assert (await ask(rig, "GET", "/v2/models/over")).json["inputs"][0]["name"] == "x"
        assert (await ask(rig, "GET", "/v2/models/over/ready")).status == 200
        index = (await ask(rig, "POST", "/v2/repository/index", b"{}")).json
        assert {"name": "tier", "version": "", "state": "READY"} in index

    run(work)


def test_twenty_four_at_once_through_a_chain_in_trouble_leak_no_place(rig: Rig) -> None:
    """Kills, hangs, timeouts and leaving clients at once; the fixture looks that every place was given back."""

    async def one(number: int) -> None:
        texts = ("slow:0.05", "hang", "refuse:engine_failed", "refuse:busy", "slow:0.5", "chunks:5 every:0.02")
        text = f"{texts[number % 6]} {number}"
        name = ("big", "narrow", "tier", "over", "even")[number % 5]
        async with client(rig) as it:
            it.send(
                "POST", "/v1/chat/completions", body(text, name, stream=number % 2 == 0), x_request_timeout_ms="1500"
            )
            try:
                await asyncio.wait_for(it.answer(), 0.2 + number % 7 * 0.2)
            except (TimeoutError, asyncio.IncompleteReadError):
                return

    async def work() -> None:
        waves = [asyncio.create_task(one(number)) for number in range(72)]
        await asyncio.sleep(0.3)
        rig.kill("big")
        await asyncio.to_thread(rig.start_replica, "big")
        await asyncio.gather(*waves)

    run(work)


def test_a_policy_that_sheds_refuses_the_sheddable_band_alone_and_objectives_do_not_judge_that(rig: Rig) -> None:
    async def work() -> None:
        for name in ("shed", "shed-tier"):
            assert (await say(rig, "{}", name)).status == 200
            refused = await say(rig, "{}", name, x_stoker_priority="sheddable")
            assert (refused.status, refused.json["error"]["code"]) == (429, "shed")
            assert "error budget" in refused.json["error"]["message"]
            assert int(refused.headers["retry-after"]) >= 60
        on = await say(rig, "{}", "shed-on", x_stoker_priority="sheddable")
        assert (on.status, on.headers[HEADER]) == (200, "last")

    run(work)
    for name in ("shed", "shed-tier"):
        assert metric(rig, "stoker_refused_total", endpoint=name, reason="shed") == 1
        assert metric(rig, "stoker_first_attempts_total", endpoint=name) == 1
    assert metric(rig, "stoker_first_attempts_total", endpoint="shed-on") == 0
