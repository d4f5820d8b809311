"""gRPC through a real gateway in front of fake replicas: errors, deadlines, clients that leave, deaths, drains.

The fake answers with the tensors it was sent; what else it does, the request's id says.
"""

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import tritonclient.grpc.aio as triton
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import service_pb2
from tritonclient.grpc import service_pb2_grpc as stubs

from stoker.app import settings
from stoker.gateway.rpc.call import Answer
from stoker.types.errors import InvalidInput
from tests.gateway import rig as rigs
from tests.gateway.rig import KEY, OLD_KEY, TEAM_KEY, WAIT_S, Rig, run, until

AUTH = (("authorization", f"Bearer {KEY}"),)
Code = grpc.StatusCode


def request(text: str = "", model: str = "digits", **more: Any) -> Any:
    """Return a request whose id is `text`, with one tensor."""
    made = service_pb2.ModelInferRequest(model_name=model, id=text, raw_input_contents=[b"\0" * 256], **more)
    made.inputs.add(name="x", datatype="FP32", shape=[1, 64])
    return made


class Service:
    """A channel, and the stubs that Triton's client is made of."""

    def __init__(self, rig: Rig) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{rig.grpc_port}", options)
        self.stub: Any = stubs.GRPCInferenceServiceStub(self.channel)

    async def __aenter__(self) -> "Service":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()

    async def infer(self, text: str = "", **more: Any) -> Any:
        return await self.stub.ModelInfer(request(text), metadata=AUTH, timeout=WAIT_S, **more)

    async def fails(self, sent: Any, metadata: Any = AUTH, **more: Any) -> Any:
        """Return the error that `sent` is answered with."""
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await self.stub.ModelInfer(sent, metadata=metadata, **more)
        return failed.value


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rigs.rig(tmp_path_factory.mktemp("grpc"), grpc=True, concurrency=8, queue_max=80) as made:
        yield made


def trailers(error: Any) -> dict[str, Any]:
    return dict(error.trailing_metadata())


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
            error = await service.fails(request(f"refuse:{code}"))
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
            began_s = time.monotonic()
            error = await service.fails(request("hang"), (*AUTH, ("x-request-timeout-ms", "150")), timeout=WAIT_S)
            assert error.code() == Code.DEADLINE_EXCEEDED
            assert "x-request-timeout-ms" in error.details()  # said by the gateway, not by the client's own clock
            error = await service.fails(request("hang"), timeout=0.15)
            assert error.code() == Code.DEADLINE_EXCEEDED
            assert time.monotonic() - began_s < WAIT_S / 2

    before = codes(rig, "504")
    run(work)
    until(lambda: in_flight(rig) == 0, "the places are free")
    until(lambda: codes(rig, "504") == before + 2, "both are counted as deadlines, not as clients that left")


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


def test_a_full_queue_is_resource_exhausted_with_when_to_come_back(rig: Rig) -> None:
    async def work() -> None:
        async with Service(rig) as service:
            calls = [service.stub.ModelInfer(request("slow:0.3"), metadata=AUTH) for _ in range(200)]
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
                yield request("refuse:busy second")
                yield request("third", model="nobody")
                for at in range(200):
                    yield request(f"more {at}")

            got = [each async for each in service.stub.ModelStreamInfer(messages(), metadata=AUTH)]
            ids = [each.infer_response.id for each in got]
            assert ids == ["slow:0.3 first", "refuse:busy second", "third", *(f"more {at}" for at in range(200))]
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


async def ask_without_a_pause(service: Service, stop: asyncio.Event, text: str = "") -> int:
    """Ask until `stop`; return how many were answered. Any error fails the test."""
    answered = 0
    while not stop.is_set():
        await service.infer(text)
        answered += 1
    return answered


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Rig]:
    """Two gateways on one port, two replicas."""
    with rigs.rig(tmp_path, replicas=2, gateways=2, grpc=True) as made:
        yield made


def test_replicas_and_gateways_end_under_load_and_no_call_fails(pair: Rig) -> None:
    """kill -9 of each replica; then the drain of a gateway, whose clients go over to the other one."""

    async def work() -> None:
        stop = asyncio.Event()
        services = [Service(pair) for _ in range(8)]
        texts = ["", "", "", "", "", "", "slow:0.02 a", "slow:0.02 b"]
        askers = [
            asyncio.ensure_future(ask_without_a_pause(service, stop, text)) for service in services for text in texts
        ]
        keepers = [rigs.keep_alive(pair, name, stop) for name in ("r0", "r1")]
        for name in ("r0", "r1"):
            await asyncio.sleep(0.3)  # the length of the load, not a wait for something
            killed = pair.processes[name]
            pair.kill(name)
            while pair.processes[name] is killed or not Path(pair.home.address(name).removeprefix("unix:")).exists():
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        pair.kill("gateway-0", signal.SIGTERM)
        assert await asyncio.to_thread(pair.processes["gateway-0"].wait, WAIT_S) == 0
        await asyncio.sleep(0.3)
        stop.set()
        answered = await asyncio.gather(*askers)
        await asyncio.gather(*keepers)
        assert min(answered) > 0
        for service in services:
            await service.channel.close()

    run(work)


def test_a_drain_says_so_by_health_and_ends_streams_when_what_they_sent_is_answered(tmp_path: Path) -> None:
    async def work(made: Rig) -> None:
        async with Service(made) as service:
            health: Any = health_pb2_grpc.HealthStub(service.channel)
            ask, states = health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
            assert (await health.Check(ask())).status == states.SERVING
            assert (await health.Check(ask(service="inference.GRPCInferenceService"))).status == states.SERVING
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await health.Check(ask(service="nobody"))
            assert unknown.value.code() == Code.NOT_FOUND
            watch = health.Watch(ask())
            assert (await watch.read()).status == states.SERVING
            stream = service.stub.ModelStreamInfer(metadata=AUTH)
            for at in range(3):
                await stream.write(request(f"slow:0.{at + 3}"))
            while in_flight(made) < 3:
                await asyncio.sleep(0.01)
            made.kill("gateway-0", signal.SIGTERM)
            assert (await watch.read()).status == states.NOT_SERVING
            assert [(await stream.read()).infer_response.id for _ in range(3)] == ["slow:0.3", "slow:0.4", "slow:0.5"]
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await stream.read()
            assert ended.value.code() == Code.UNAVAILABLE
            assert trailers(ended.value)["x-stoker-code"] == "draining"

    with rigs.rig(tmp_path, replicas=1, grpc=True) as made:
        run(lambda: work(made))
        assert made.processes["gateway-0"].wait(WAIT_S) == 0


def test_reflection_describes_enough_to_call(rig: Rig) -> None:
    """A client that knows nothing: the descriptors come over the wire."""

    def work() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{rig.grpc_port}") as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            assert set(database.get_services()) == {
                "inference.GRPCInferenceService",
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
            }
            pool = DescriptorPool(database)
            method = pool.FindServiceByName("inference.GRPCInferenceService").FindMethodByName("ServerMetadata")
            answer: Any = GetMessageClass(method.output_type)
            call = channel.unary_unary("/inference.GRPCInferenceService/ServerMetadata")
            assert answer.FromString(call(b"")).name == "stoker"
            with pytest.raises(KeyError):
                pool.FindMessageTypeByName("inference.Nobody")

    work()


def codes(rig: Rig, code: str) -> float:
    """Return how many requests of digits were counted with `code`."""
    return metric(rig, "stoker_requests_total", f'code="{code}"', 'endpoint="digits"')


def in_flight(rig: Rig) -> float:
    return metric(rig, "stoker_in_flight", 'endpoint="digits"')


def metric(rig: Rig, name: str, *labels: str) -> float:
    with socket.create_connection(("127.0.0.1", rig.port), timeout=WAIT_S) as sock:
        sock.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        text = b"".join(iter(lambda: sock.recv(1 << 16), b"")).decode()
    lines = [line for line in text.splitlines() if line.startswith(name + "{") and all(each in line for each in labels)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_a_taken_port_is_told_with_its_setting(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        environment = {**os.environ, "STOKER_GRPC_PORT": str(other.getsockname()[1])}
        argv = [sys.executable, "-m", "stoker.app.gateway_main", "--home", str(tmp_path), "--port", "0"]
        ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert ended.returncode == 1
    assert "set STOKER_GRPC_PORT to a free port" in ended.stderr


def test_without_the_extra_a_port_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "find_spec", lambda name: None)
    settings.check_grpc(settings.load({}))
    with pytest.raises(InvalidInput, match=r"pip install 'stoker\[grpc\]'") as refused:
        settings.check_grpc(settings.load({"STOKER_GRPC_PORT": "9001"}))
    assert refused.value.field == "STOKER_GRPC_PORT"


def test_a_gateway_without_a_port_loads_nothing_of_grpc() -> None:
    script = "import sys, stoker.app.gateway_main; print({'grpc', 'google.protobuf'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "set()\n"
