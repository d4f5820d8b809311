"""gRPC through a real gateway in front of fake replicas: tensors, errors, deadlines, clients that leave, streams.

The fake answers with the tensors it was sent; what else it does, the request's id says.
"""

import asyncio
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import tritonclient.grpc.aio as triton
from tritonclient.grpc import service_pb2

from stoker.gateway.rpc.call import CLOCKS_S, Answer, is_late
from tests.gateway import rig as rigs
from tests.gateway.grpc_client import AUTH, Code, Service, codes, in_flight, request, trailers
from tests.gateway.rig import OLD_KEY, TEAM_KEY, WAIT_S, Rig, run, the_trace, until


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rigs.rig(tmp_path_factory.mktemp("grpc"), grpc=True, concurrency=8, queue_max=80) as made:
        yield made


def test_tensors_come_back_raw_as_they_went_with_the_requests_id(rig: Rig) -> None:
    async def work() -> None:
        async with Service(rig) as service:
            call = service.stub.ModelInfer(request("echo"), metadata=(*AUTH, ("x-request-id", "mine")))
            answer = await call
            assert answer.id == "echo"
            assert list(answer.raw_output_contents) == [b"\0" * 256]
            assert list(answer.outputs[0].shape) == [1, 64]
            assert dict(await call.trailing_metadata())["x-request-id"] == "mine"

    run(work)


def test_a_callers_trace_comes_as_metadata(rig: Rig) -> None:
    async def work() -> None:
        trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
        async with Service(rig) as service:
            told = (("traceparent", f"00-{trace}-{span}-01"), ("tracestate", "vendor=abc"))
            await service.stub.ModelInfer(request("echo"), metadata=(*AUTH, *told))
        found = await the_trace(rig, trace)
        assert (found.parent, found.state, found.method, found.status) == (span, "vendor=abc", "infer", 200)

    run(work)


def test_tensors_come_back_typed_as_they_went(rig: Rig) -> None:
    async def work() -> None:
        async with Service(rig) as service:
            sent = service_pb2.ModelInferRequest(model_name="digits")
            sent.inputs.add(name="x", datatype="INT16", shape=[3]).contents.int_contents.extend([-1, 0, 7])
            answer = await service.stub.ModelInfer(sent, metadata=AUTH)
            assert list(answer.outputs[0].contents.int_contents) == [-1, 0, 7]
            assert not answer.raw_output_contents

    run(work)


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ((), Code.UNAUTHENTICATED),
        ((("authorization", "Bearer stk_wrong"),), Code.UNAUTHENTICATED),
        ((("authorization", f"Bearer {OLD_KEY}"),), Code.UNAUTHENTICATED),
        ((("x-api-key", TEAM_KEY),), Code.NOT_FOUND),
        ((("x-api-key", TEAM_KEY), ("x-stoker-project", "default")), Code.PERMISSION_DENIED),
        ((*AUTH, ("x-request-timeout-ms", "soon")), Code.INVALID_ARGUMENT),
    ],
)
def test_who_may_not_is_told_by_status(rig: Rig, metadata: Any, code: Any) -> None:
    async def work() -> None:
        async with Service(rig) as service:
            assert (await service.fails(request(), metadata)).code() == code

    run(work)


def test_a_stranger_is_refused_before_a_message_is_read(rig: Rig) -> None:
    """The message never ends: only what does not wait for it can answer."""

    async def work() -> None:
        async with Service(rig) as service:
            never = asyncio.Event()

            async def messages() -> Any:
                await never.wait()
                yield request()

            call = service.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")(messages())
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() == Code.UNAUTHENTICATED
            assert trailers(refused.value)["www-authenticate"] == "Bearer"

    run(work)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("invalid_input", Code.INVALID_ARGUMENT),
        ("unsupported", Code.UNIMPLEMENTED),
        ("engine_failed", Code.INTERNAL),
        ("deadline_exceeded", Code.DEADLINE_EXCEEDED),
        ("busy", Code.RESOURCE_EXHAUSTED),
        ("unavailable", Code.UNAVAILABLE),
    ],
)
def test_a_replicas_error_is_its_status_with_when_to_come_back(rig: Rig, code: str, status: Any) -> None:
    async def work() -> None:
        async with Service(rig) as service:
            # Who has the 3 s waits for a replica that is full.
            more = (("x-request-timeout-ms", "2900"),) if code == "busy" else ()
            error = await service.fails(request(f"refuse:{code}"), (*AUTH, *more))
            assert (error.code(), error.details()) == (status, "as asked")
            assert trailers(error)["x-stoker-code"] == code
            assert trailers(error)["retry-after"] == "3"
            assert trailers(error)["grpc-retry-pushback-ms"] == "3000"
            assert trailers(error)["x-request-id"].startswith("req-")

    run(work)


def test_wrong_messages_are_refused_with_the_field(rig: Rig) -> None:
    async def work() -> None:
        async with Service(rig) as service:
            raw = service.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            with pytest.raises(grpc.aio.AioRpcError) as broken:
                await raw(b"\xff\xff no protobuf", metadata=AUTH)
            assert broken.value.code() == Code.INVALID_ARGUMENT
            two = request()
            two.raw_input_contents.append(b"")
            error = await service.fails(two)
            assert error.code() == Code.INVALID_ARGUMENT
            assert "raw_input_contents" in error.details()
            assert (await service.fails(request(model="nobody"))).code() == Code.NOT_FOUND
            assert (await service.fails(request(model_version="9"))).code() == Code.NOT_FOUND
            chat = await service.fails(request(model="smol"))
            assert chat.code() == Code.INVALID_ARGUMENT
            assert "/v1/chat/completions" in chat.details()
            loading = service_pb2.RepositoryModelLoadRequest(model_name="digits")
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await service.stub.RepositoryModelLoad(loading, metadata=AUTH)
            assert unknown.value.code() == Code.UNIMPLEMENTED

    run(work)


def test_the_deadline_of_the_call_and_the_header_both_end_it_and_the_place_is_free_again(rig: Rig) -> None:
    async def work() -> None:
        async with Service(rig) as service:
            error = await service.fails(request("hang"), (*AUTH, ("x-request-timeout-ms", "150")), timeout=WAIT_S)
            assert error.code() == Code.DEADLINE_EXCEEDED
            assert "x-request-timeout-ms" in error.details()  # said by the gateway, not by the client's own clock
            assert await ended("504") == before + 1
            # That of the call runs out at both ends; on a busy machine it may never arrive, or only after CLOCKS_S.
            for tries in range(1, 21):
                error = await service.fails(request("hang"), timeout=0.15 * tries)
                assert error.code() == Code.DEADLINE_EXCEEDED
                if await ended("504") == before + 2:
                    break
            assert await ended("504") == before + 2, "it is counted as a deadline, not as a client that left"

    async def ended(code: str) -> float:
        """Return how many were counted with `code` when all places are free."""
        while in_flight(rig):
            await asyncio.sleep(0.01)
        return codes(rig, code)

    before = codes(rig, "504")
    run(work)


@pytest.mark.parametrize(
    ("remaining_s", "late"), [(None, False), (5.0, False), (CLOCKS_S + 0.01, False), (CLOCKS_S, True), (-0.1, True)]
)
def test_a_call_ended_just_before_our_clock_ran_out_ended_by_the_clients(remaining_s: float | None, late: bool) -> None:
    assert is_late(remaining_s) is late


def test_a_client_that_cancels_frees_its_place_and_the_replica_is_told(rig: Rig) -> None:
    def cancelled() -> int:
        return sum(line == "cancelled" for name in ("r0", "r1") for line in rig.lines(name))

    before = cancelled()

    async def work() -> None:
        async with Service(rig) as service:
            calls = [service.stub.ModelInfer(request("hang"), metadata=AUTH) for _ in range(3)]
            tasks = [asyncio.ensure_future(each) for each in calls]
            while in_flight(rig) < 3:
                await asyncio.sleep(0.01)
            for call in calls:
                call.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    run(work)
    until(lambda: in_flight(rig) == 0, "the places are free")
    until(lambda: cancelled() == before + 3, "the replicas were told")


def test_a_full_queue_is_resource_exhausted_with_when_to_come_back(rig: Rig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def work() -> None:
        async with Service(rig) as service:
            calls = [service.stub.ModelInfer(request(f"until:{gate}"), metadata=AUTH) for _ in range(200)]
            while sum(call.done() for call in calls) < 100:  # there is room for 16 and 80
                await asyncio.sleep(0.01)
            gate.touch()
            answers = await asyncio.gather(*calls, return_exceptions=True)
            refused = [each for each in answers if isinstance(each, grpc.aio.AioRpcError)]
            assert refused
            assert {each.code() for each in refused} == {Code.RESOURCE_EXHAUSTED}
            assert all(int(trailers(each)["retry-after"]) >= 1 for each in refused)
            assert len(refused) < 200

    run(work)


def test_a_message_over_the_endpoints_limit_is_refused_and_a_bomb_is_too(rig: Rig) -> None:
    async def work() -> None:
        async with Service(rig) as service:
            large = request()
            large.raw_input_contents[0] = b"\0" * (33 << 20)
            error = await service.fails(large)
            assert error.code() == Code.RESOURCE_EXHAUSTED
            assert "digits" in error.details()
            bomb = await service.fails(large, compression=grpc.Compression.Gzip)  # 33 KiB on the wire
            assert bomb.code() == Code.RESOURCE_EXHAUSTED
            assert (await service.infer("after it", compression=grpc.Compression.Gzip)).id == "after it"

    run(work)


def test_what_was_answered_or_refused_is_not_held(rig: Rig) -> None:
    """120 messages of 2 MiB, a third of them refused; when cycles kept them they were 600 MB."""

    def held_bytes() -> int:
        return psutil.Process(rig.processes["gateway-0"].pid).memory_info().rss

    async def work() -> None:
        async with Service(rig) as service:
            large, wrong = request("large"), request("wrong")
            for each in (large, wrong):
                each.raw_input_contents[0] = b"\0" * (2 << 20)
            wrong.raw_input_contents.append(b"")
            await service.stub.ModelInfer(large, metadata=AUTH)
            before = held_bytes()
            for _ in range(40):
                await service.stub.ModelInfer(large, metadata=AUTH)
                await service.fails(wrong)
                call = service.stub.ModelInfer(large, metadata=AUTH)
                call.cancel()
            assert held_bytes() - before < 100 << 20

    run(work)


def test_what_layers_say_beside_the_answer_becomes_metadata() -> None:
    headers = b"content-type: x\r\nretry-after: 2\r\nX-RateLimit-Limit: 5\r\ninference-header-content-length: 7\r\n"
    answer = Answer(200, headers, b"")
    assert answer.trailers() == [("retry-after", "2"), ("x-ratelimit-limit", "5")]
    assert answer.header(b"inference-header-content-length") == b"7"
    assert answer.header(b"length") is None


def test_a_stream_answers_in_order_each_request_by_itself(rig: Rig) -> None:
    async def work() -> None:
        async with Service(rig) as service:

            async def messages() -> Any:
                yield request("slow:0.3 first")
                yield request("refuse:engine_failed second")
                yield request("third", model="nobody")
                for at in range(200):
                    yield request(f"more {at}")

            got = [each async for each in service.stub.ModelStreamInfer(messages(), metadata=AUTH)]
            ids = [each.infer_response.id for each in got]
            assert ids == [
                "slow:0.3 first",
                "refuse:engine_failed second",
                "third",
                *(f"more {at}" for at in range(200)),
            ]
            assert [each.error_message for each in got[:3]] == ["", "as asked", got[2].error_message]
            assert "nobody" in got[2].error_message
            assert all(not each.error_message for each in got[3:])

    run(work)


def test_the_end_of_a_stream_cancels_what_runs_on_it(rig: Rig) -> None:
    async def work() -> None:
        async with Service(rig) as service:
            call = service.stub.ModelStreamInfer(metadata=AUTH)
            for _ in range(5):
                await call.write(request("hang"))
            while in_flight(rig) < 5:
                await asyncio.sleep(0.01)
            call.cancel()

    run(work)
    until(lambda: in_flight(rig) == 0, "the places are free")


def test_tritons_client_streams_and_infers(rig: Rig) -> None:
    async def work() -> None:
        async with triton.InferenceServerClient(f"127.0.0.1:{rig.grpc_port}") as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            tensor = triton.InferInput("x", [2], "BYTES")
            tensor._raw_content = struct.pack("<I", 2) + b"ab" + struct.pack("<I", 0)

            async def requests() -> Any:
                for at in range(3):
                    yield {"model_name": "digits", "inputs": [tensor], "request_id": f"n{at}"}

            answers = client.stream_infer(requests(), headers=dict(AUTH))
            got = [(result.get_response().id, error) async for result, error in answers]
            assert got == [("n0", None), ("n1", None), ("n2", None)]

    run(work)
