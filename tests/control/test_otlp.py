"""Numbers reach a real OTLP receiver, whole and in its words; one that is away, slow or refuses harms nobody."""

import asyncio
import gzip
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stoker.control import otlp
from stoker.control.otlp import QUEUE_MAX, Receiver, Sender, post
from stoker.telemetry.histogram import Exemplar
from stoker.telemetry.metrics import Registry, Snapshot
from stoker.types.traces import Trace, Try
from tests.control.receiver import Seen, receiver
from tests.control.rig import Rig, endpoint, infer, is_served, python_model, until
from tests.telemetry.otlp_shape import ExportTraceServiceRequest

REVISION = {"project": "default", "endpoint": "smol", "revision": "smol-1"}


def gateway() -> Snapshot:
    registry = Registry("gateway-0")
    registry.counter("stoker_requests_total", method="chat", code="200", **REVISION).add(7)
    registry.gauge("process_start_time_seconds", process="gateway-0").set(1_000.25)
    took = registry.histogram("stoker_request_duration_seconds", method="chat", **REVISION)
    for value in (0.0, 0.5, 0.5, 3.0):
        took.observe(value)
    took.show(Exemplar(0.5, "ab" * 16, "cd" * 8, 1_000.5))
    return registry.snapshot()


def named(batch: Any, name: str) -> Any:
    metrics = batch["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
    return next(metric for metric in metrics if metric["name"] == name)


def attributes(of: Any) -> dict[str, str]:
    return {each["key"]: each["value"]["stringValue"] for each in of["attributes"]}


def sending(seen: Seen, work: Callable[[Sender, Registry], Awaitable[None]], **more: Any) -> Registry:
    """Run `work` while a sender sends every 50 ms; return its registry."""
    registry = Registry("control")
    receiver_ = Receiver(more.pop("url", seen.url), 0.05, more.pop("headers", None))

    async def collect() -> list[Snapshot]:
        return [gateway()]

    async def main() -> None:
        sender = Sender(receiver_, otlp.numbers(collect, "1.2.3", "host-1"), registry)
        task = asyncio.create_task(sender.run())
        try:
            async with asyncio.timeout(100):
                await work(sender, registry)
        finally:
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(main())
    return registry


def test_a_batch_says_what_was_counted_in_the_receivers_words(tmp_path: Path) -> None:
    headers = tmp_path / "headers"
    headers.write_text("# ours\nAuthorization: Bearer secret\n\nx-scope: team\n")
    with receiver() as seen:
        sending(seen, lambda *_: asyncio.to_thread(seen.wait, 1), headers=headers)
    assert seen.paths[0] == "/v1/metrics"
    assert (seen.headers[0]["authorization"], seen.headers[0]["x-scope"]) == ("Bearer secret", "team")
    batch = seen.bodies[0]
    assert attributes(batch["resourceMetrics"][0]["resource"]) == {
        "service.name": "stoker",
        "service.instance.id": "gateway-0",
        "service.version": "1.2.3",
        "host.name": "host-1",
    }
    counted = named(batch, "stoker_requests_total")["sum"]
    assert (counted["isMonotonic"], counted["aggregationTemporality"]) == (True, 2)
    point = counted["dataPoints"][0]
    assert point["asDouble"] == 7
    assert point["startTimeUnixNano"] == "1000250000000"
    assert attributes(point) == {**REVISION, "method": "chat", "code": "200"}
    assert named(batch, "process_start_time_seconds")["gauge"]["dataPoints"][0]["asDouble"] == 1_000.25
    assert attributes(named(batch, "gen_ai.server.request.duration")["exponentialHistogram"]["dataPoints"][0]) == {
        "gen_ai.request.model": "smol",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "stoker",
    }


def test_a_histogram_arrives_with_every_value_in_its_bucket() -> None:
    with receiver() as seen:
        sending(seen, lambda *_: asyncio.to_thread(seen.wait, 1))
    found = named(seen.bodies[0], "stoker_request_duration_seconds")["exponentialHistogram"]["dataPoints"][0]
    assert (found["count"], found["zeroCount"], found["sum"], found["scale"]) == ("4", "1", 4.0, 3)
    base, offset = 2 ** (2**-3), found["positive"]["offset"]
    held = {
        (base ** (offset + at), base ** (offset + at + 1)): int(count)
        for at, count in enumerate(found["positive"]["bucketCounts"])
        if count != "0"
    }
    assert sorted(held.values()) == [1, 2]
    for (low, high), count in held.items():
        value = 0.5 if count == 2 else 3.0
        assert low < value <= high * (1 + 1e-12)
    assert found["exemplars"] == [
        {"timeUnixNano": "1000500000000", "asDouble": 0.5, "traceId": "ab" * 16, "spanId": "cd" * 8}
    ]


def test_a_receiver_that_is_full_is_asked_again_and_the_same_batch_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "RETRY_FIRST_S", 0.02)
    with receiver((503, {}), (429, {"retry-after": "0"})) as seen:
        registry = sending(seen, lambda *_: asyncio.to_thread(seen.wait, 3))
    assert seen.bodies[0] == seen.bodies[1] == seen.bodies[2]
    assert registry.snapshot().total("stoker_otlp_exports_total", result="failed") == 2


def test_a_batch_that_is_refused_is_not_sent_again() -> None:
    with receiver((400, {})) as seen:
        registry = sending(seen, lambda *_: asyncio.to_thread(seen.wait, 2))
    assert seen.bodies[0] != seen.bodies[1]  # another moment
    assert registry.snapshot().total("stoker_otlp_exports_total", result="refused") == 1


def test_while_the_receiver_is_away_batches_are_bounded_and_the_oldest_go() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and nobody listens

        async def work(sender: Sender, registry: Registry) -> None:
            while registry.snapshot().total("stoker_otlp_exports_total", result="dropped") < 3:
                assert len(sender._waiting) <= QUEUE_MAX
                await asyncio.sleep(0.01)
            assert len(sender._waiting) == QUEUE_MAX

        registry = sending(Seen(), work, url=f"http://127.0.0.1:{nobody.getsockname()[1]}")
    assert registry.snapshot().total("stoker_otlp_exports_total", result="failed") >= 1
    assert registry.snapshot().total("stoker_otlp_exports_total", result="sent") == 0


def test_a_receiver_that_never_answers_does_not_stop_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts, and nobody reads

        async def work(sender: Sender, registry: Registry) -> None:
            turns = 0
            while registry.snapshot().total("stoker_otlp_exports_total", result="failed") < 1:
                await asyncio.sleep(0)
                turns += 1
            assert turns > 100, "the loop turned while the receiver was silent"

        sending(Seen(), work, url=f"http://127.0.0.1:{silent.getsockname()[1]}")


@pytest.mark.parametrize("headers", ["no colon", "bad\x01name: x", "name: new\rline"])
def test_a_headers_file_that_cannot_be_sent_is_an_outcome_and_no_crash(tmp_path: Path, headers: str) -> None:
    path = tmp_path / "headers"
    path.write_bytes(headers.encode())
    with receiver() as seen:
        for file in (path, tmp_path / "missing"):
            outcome = post(Receiver(seen.url, 1.0, file), b"")
            assert outcome.status == 0 or seen.bodies == []
            assert outcome.words


def trace(number: int) -> Trace:
    return Trace(
        id=f"{number:032x}", span="00f067aa0ba902b7", request=f"req-{number}", because="error", gateway="gateway-0",
        endpoint="smol", method="chat", status=503, code="unavailable", began_at_s=1.8e9, seconds=0.5,
        tries=(Try(1, "first", "smol", 0.1, 0.5, "unavailable", "r0"),),
    )  # fmt: skip


def test_traces_arrive_once_each_as_spans_whatever_the_receiver_said_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "RETRY_FIRST_S", 0.02)
    kept = [[trace(1), trace(2)], [trace(3)]]

    async def take() -> list[Trace]:
        return kept.pop(0) if kept else []

    registry = Registry("control")
    with receiver((503, {})) as seen:

        async def main() -> None:
            sender = Sender(Receiver(seen.url, 0.05), otlp.traces(take, "1.2.3", "host-1"), registry)
            task = asyncio.create_task(sender.run())
            await asyncio.to_thread(seen.wait, 3)
            task.cancel()
            await asyncio.wait([task])

        asyncio.run(main())
    assert seen.paths == ["/v1/traces"] * 3
    assert seen.bodies[0] == seen.bodies[1]
    sent = [msgspec.convert(body, ExportTraceServiceRequest) for body in seen.bodies[1:]]
    spans = [span for each in sent for scope in each.resource_spans[0].scope_spans for span in scope.spans]
    assert [int(span.trace_id, 16) for span in spans if span.parent_span_id is msgspec.UNSET] == [1, 2, 3]
    assert {span.name for span in spans} == {"chat smol", "first r0"}
    assert registry.snapshot().total("stoker_otlp_exports_total", signal="traces", result="failed") == 1


def test_one_endpoint_for_metrics_is_one_for_traces_too() -> None:
    with receiver() as seen:
        for endpoint in (seen.url, f"{seen.url}/", f"{seen.url}/otlp/v1/metrics"):
            assert post(Receiver(endpoint, 1.0), gzip.compress(b"{}"), "traces").status == 200
    assert seen.paths == ["/v1/traces", "/v1/traces", "/otlp/v1/traces"]


def test_a_platform_sends_what_each_of_its_processes_counted(rig: Rig, tmp_path: Path) -> None:
    with receiver() as seen:
        rig.environ = {"STOKER_OTLP_ENDPOINT": seen.url, "STOKER_OTLP_INTERVAL": "1"}
        rig.start_agent()
        rig.push("m", python_model(tmp_path / "model"))
        rig.client.apply(msgspec.json.encode(endpoint()))
        until(lambda: is_served(rig), "the gateway serves the endpoint")
        for _ in range(3):
            infer(rig)

        def counted() -> dict[str, float]:
            """Return the first attempts that each process told last."""
            found: dict[str, float] = {}
            for body in [body for path, body in zip(seen.paths, seen.bodies, strict=False) if path == "/v1/metrics"]:
                for resource in body["resourceMetrics"]:
                    process = attributes(resource["resource"])["service.instance.id"]
                    found[process] = sum(
                        point["asDouble"]
                        for metric in resource["scopeMetrics"][0]["metrics"]
                        if metric["name"] == "stoker_first_attempts_total"
                        for point in metric["sum"]["dataPoints"]
                    )
            return found

        until(lambda: counted().get("gateway-0") == 3, "the gateway's numbers arrive")
        replica = next(name for name in rig.processes() if name.startswith("default."))
        until(lambda: {"control", replica} < counted().keys(), "those of the others too")
        assert sum(counted().values()) == 3
