"""Traces of real requests through a real gateway: who is told of them, which are kept, and what they tell."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Exemplar

from stoker.protocol import tracecontext
from tests.gateway import rig as rigs
from tests.gateway.rig import Rig, ask, chat, infer, kept, run, the_trace, until

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e47", "00f067aa0ba902b7"
FIELDS = {"STOKER_TRACE_RATIO": "0", "STOKER_ACCESS_LOG": "on"}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rigs.rig(tmp_path_factory.mktemp("traces"), replicas=2, environ=FIELDS) as made:
        yield made


def parent(number: int, flags: str = "01") -> str:
    return f"00-{TRACE}{number:02x}-{SPAN}-{flags}"


def told(rig: Rig, *replicas: str) -> list[list[str]]:
    names = replicas or ("r0", "r1")
    return [line.split(" ")[1:] for name in names for line in rig.lines(name) if line.startswith("trace ")]


def test_a_callers_trace_goes_on_through_gateway_and_replica(rig: Rig) -> None:
    async def work() -> None:
        answer = await infer(rig, "traced: one", traceparent=parent(1), tracestate="vendor=abc", x_request_id="mine")
        assert answer.status == 200
        found = await the_trace(rig, f"{TRACE}01")
        assert (found.parent, found.state, found.request, found.because) == (SPAN, "vendor=abc", "mine", "caller")
        assert (found.endpoint, found.status, [each.outcome for each in found.tries]) == ("digits", 200, ["ok"])
        ((said, state),) = [each for each in told(rig) if f"{TRACE}01" in each[0]]
        heard = tracecontext.read(said.encode(), state.encode())
        assert heard is not None
        assert (heard.is_sampled, heard.state) == (True, "vendor=abc")
        assert int(heard.span, 16) == int(found.span, 16) + found.tries[0].number, "the replica works for the try"

    run(work)


def test_a_replica_hears_who_asked_by_the_name_that_metrics_have(rig: Rig) -> None:
    async def work() -> None:
        assert (await infer(rig, "whose: mine")).status == 200
        heard = [line for name in ("r0", "r1") for line in rig.lines(name) if line.startswith("tenant ")]
        assert heard == ["tenant admin000"]

    run(work)


def test_who_does_not_want_a_trace_leaves_none_and_the_replica_hears_it(rig: Rig) -> None:
    async def work() -> None:
        await infer(rig, "traced: two", traceparent=parent(2, "00"))
        assert await kept(rig, id=f"{TRACE}02") == []
        assert [said[0][-2:] for said in told(rig) if f"{TRACE}02" in said[0]] == ["00"]

    run(work)


def test_requests_without_a_trace_get_one_each(rig: Rig) -> None:
    async def work() -> None:
        before = len(told(rig))
        await asyncio.gather(*(infer(rig, "traced: new") for _ in range(5)))
        said = [tracecontext.read(each[0].encode()) for each in told(rig)[before:]]
        assert len({each.trace for each in said if each is not None}) == 5

    run(work)


@pytest.mark.parametrize(
    "header",
    ["", "x" * 5000, f"00-{'0' * 32}-{SPAN}-01", parent(3).upper(), f"{parent(3)}\r\ntraceparent: {parent(3)}"],
)
def test_a_header_that_is_wrong_or_there_twice_is_as_if_it_were_not(rig: Rig, header: str) -> None:
    async def work() -> None:
        state = "a=1\r\ntracestate: b=2"  # may be there twice
        answer = await infer(rig, "hello", traceparent=header, tracestate=state)
        assert answer.status == 200
        assert await kept(rig, id=f"{TRACE}03") == []

    run(work)


def test_a_state_that_comes_in_two_headers_goes_on_as_one(rig: Rig) -> None:
    async def work() -> None:
        await infer(rig, "traced: state", traceparent=parent(7), tracestate="a=1\r\ntracestate: b=2")
        assert [state for said, state in told(rig) if f"{TRACE}07" in said] == ["a=1,b=2"]

    run(work)


def test_a_stranger_takes_no_place_among_the_traces(rig: Rig) -> None:
    async def work() -> None:
        answer = await infer(rig, "x", key="stk_nobody00_" + "0" * 43, traceparent=parent(4))
        assert answer.status == 401
        assert await kept(rig, id=f"{TRACE}04") == []

    run(work)


def test_a_request_that_one_replica_refuses_and_another_answers_shows_both_tries(rig: Rig) -> None:
    async def work() -> None:
        asked = 0
        while not (found := [each for each in await kept(rig) if each.because == "retried"]):
            asked += 1  # it may go to the other one first
            refuses = f"r{asked % 2}"
            answer = await infer(rig, f"at:{refuses} refuse:unavailable", x_request_id=f"moved-{asked}")
            assert answer.status == 200
        first, second = found[0].tries
        assert (first.kind, first.replica, first.outcome) == ("first", refuses, "unavailable")
        assert (second.kind, second.replica, second.outcome) == ("retry", f"r{(asked + 1) % 2}", "ok")
        assert 0 < first.begin_s <= first.end_s <= second.begin_s <= second.end_s <= found[0].seconds

    run(work)


def test_a_failure_leaves_a_trace_though_nothing_is_sampled(rig: Rig) -> None:
    async def work() -> None:
        answer = await infer(rig, "refuse:engine_failed", x_request_id="broken")
        assert answer.status == 500
        found = await the_trace(rig, "broken")
        assert (found.because, found.status, found.code) == ("error", 500, "engine_failed")
        assert [each.outcome for each in found.tries] == ["engine_failed"]

    run(work)


def test_refusals_for_want_of_room_and_clients_that_waited_in_vain_leave_traces(tmp_path: Path) -> None:
    environ = {"STOKER_TRACE_RATIO": "0", "STOKER_TRACE_SLOW": "0.001"}
    with rigs.rig(tmp_path, replicas=1, environ=environ, concurrency=1, queue_max=0) as rig:

        async def work() -> None:
            async with rigs.client(rig) as patient, rigs.client(rig) as hasty, rigs.client(rig) as holder:
                holder.send("POST", "/v2/models/digits/infer", f"until:{tmp_path / 'gate'}".encode())
                while not [line for line in rig.lines("r0") if line.startswith("request infer")]:
                    await asyncio.sleep(0.01)
                for number in range(40):
                    refused = await hasty.request("POST", "/v2/models/digits/infer", b"x", x_request_id=f"no-{number}")
                    assert refused.status == 429
                found = await the_trace(rig, "no-0")
                assert (found.because, found.status, found.code) == ("refused", 429, "queue_full")
                left = dropped = 0.0
                while left + dropped < 40:
                    counted = await rigs.counted(rig)
                    left = counted.total("stoker_traces_kept_total", because="refused")
                    dropped = counted.total("stoker_traces_dropped_total", because="refused")
                assert dropped, "five a second and no more"
                (tmp_path / "gate").touch()
                await holder.answer()
                (tmp_path / "gate").unlink()
                patient.send(
                    "POST", "/v2/models/digits/infer", f"until:{tmp_path / 'gate'}".encode(), x_request_id="left"
                )
                while len([line for line in rig.lines("r0") if line.startswith("request infer")]) < 2:
                    await asyncio.sleep(0.01)
                patient.close()
                found = await the_trace(rig, "left")
                assert (found.because, found.status) == ("slow", 499)

        run(work)


def test_a_chat_tells_tokens_and_its_first_byte(rig: Rig) -> None:
    async def work() -> None:
        body = chat("chunks:5 every:0.01", stream=True)
        await ask(rig, "POST", "/v1/chat/completions", body, traceparent=parent(5))
        found = await the_trace(rig, f"{TRACE}05")
        assert found.usage is not None
        assert (found.method, found.is_stream, found.usage.output_tokens) == ("chat", True, 5)
        assert 0 < found.first_byte_s < found.seconds
        assert found.arrived_s <= found.known_s <= found.admitted_s <= found.tries[0].begin_s

    run(work)


def test_buckets_name_the_traces_that_were_kept_and_no_others(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        # In the bucket of both the newest trace that was kept is named: this one may be, for being slow, or not at all.
        await infer(rig, "slow:0.3 untraced", traceparent=parent(9, "00"))
        await infer(rig, "slow:0.3", traceparent=parent(8))
        await ask(rig, "POST", "/v1/chat/completions", chat("chunks:3 every:0.01", stream=True), traceparent=parent(10))
        one, other = await the_trace(rig, f"{TRACE}08"), await the_trace(rig, f"{TRACE}0a")
        accept = "application/openmetrics-text; version=1.0.0"
        answer = await ask(rig, "GET", "/metrics", key=None, accept=accept)
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        shown: dict[tuple[str, str], Exemplar] = {}
        for family in text_string_to_metric_families(answer.body.decode()):
            for sample in family.samples:
                if sample.exemplar is not None:
                    shown[family.name, sample.exemplar.labels["trace_id"]] = sample.exemplar
        took = shown["stoker_request_duration_seconds", one.id]
        assert took.labels["span_id"] == one.span
        assert took.value == pytest.approx(one.seconds, rel=0.1)
        first = shown["stoker_time_to_first_token_seconds", other.id]
        assert first.value == pytest.approx(other.first_byte_s, rel=0.1)
        assert {trace for _, trace in shown} <= {each.id for each in await kept(rig, limit=1000)}

    with rigs.rig(tmp_path, replicas=1) as fresh:  # of a bucket only one trace is named
        run(lambda: work(fresh))


@pytest.mark.parametrize(("of_all", "of_endpoint"), [("0", 1.0), ("1", 0.0), ("0", 0.5)])
def test_an_endpoint_has_its_own_share_of_traces(tmp_path: Path, of_all: str, of_endpoint: float) -> None:
    with rigs.rig(tmp_path, replicas=1, environ={"STOKER_TRACE_RATIO": of_all}, trace_ratio=of_endpoint) as rig:

        async def work() -> None:
            async with rigs.client(rig) as one:
                for number in range(100):
                    await one.request("POST", "/v2/models/digits/infer", b"traced: x", x_request_id=f"n-{number}")
                await one.request("POST", "/v2/models/digits/infer", b"traced: x", traceparent=parent(11))
            await the_trace(rig, f"{TRACE}0b")  # a caller's own is his to decide
            found = await kept(rig, limit=1000)
            sampled = [each for each in found if each.because == "sampled"]
            assert abs(len(sampled) - 100 * of_endpoint) <= 5, "they lie evenly"
            heard = [said[-2:] for said, _ in told(rig, "r0")]
            assert abs(heard.count("01") - 1 - 100 * of_endpoint) <= 5, "the replica hears the same"

        run(work)


def test_each_request_for_inference_has_one_line_in_the_access_log(rig: Rig) -> None:
    path = rig.home.logs / "access" / "gateway-0.jsonl"

    def lines(request: str) -> list[Any]:
        whole = path.read_bytes().splitlines() if path.exists() else []
        return [each for each in map(json.loads, whole) if each["request"] == request]

    async def work() -> None:
        await infer(rig, "who: hello", x_request_id="logged", traceparent=parent(6))
        await infer(rig, "x", key=None, x_request_id='stran"ger')
        await ask(rig, "GET", "/v2/health/live", x_request_id="health")

    run(work)
    until(lambda: bool(lines("logged") and lines('stran"ger')), "both lines are written")
    (line,) = lines("logged")
    assert {name: line[name] for name in ("trace", "project", "endpoint", "tenant", "method", "status", "rows")} == {
        "trace": f"{TRACE}06",
        "project": "default",
        "endpoint": "digits",
        "tenant": "admin000",
        "method": "infer",
        "status": 200,
        "rows": 1,
    }
    assert line["replica"] in ("r0", "r1")
    assert 0 < line["seconds"] < 10
    assert lines('stran"ger')[0]["status"] == 401
    assert lines("health") == []


def test_many_failures_leave_as_many_traces_as_a_second_may_and_are_counted(tmp_path: Path) -> None:
    with rigs.rig(tmp_path, replicas=1, environ={"STOKER_TRACE_RATIO": "0"}) as rig:

        async def work() -> None:
            async with rigs.client(rig) as one:
                for _ in range(120):
                    await one.request("POST", "/v2/models/digits/infer", b"refuse:engine_failed")
            left = dropped = 0.0
            while left + dropped < 120:  # the last one is counted just after its answer
                counted = await rigs.counted(rig)
                left = counted.total("stoker_traces_kept_total", because="error")
                dropped = counted.total("stoker_traces_dropped_total", because="error")
            assert left + dropped == 120
            assert left >= 20
            assert len(await kept(rig, limit=1000)) == left
            assert len(await kept(rig, is_error=True, limit=5)) == 5

        run(work)
