"""The gRPC port as a whole: deaths, drains, retries, reflection, what is missing or taken."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import service_pb2_grpc as stubs

from stoker.app import settings
from stoker.app.home import Home
from stoker.types.errors import InvalidInput
from tests.gateway import rig as rigs
from tests.gateway.grpc_client import AUTH, Code, Service, in_flight, request, trailers
from tests.gateway.rig import WAIT_S, Rig, run


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rigs.rig(tmp_path_factory.mktemp("grpc"), replicas=0, grpc=True) as made:
        yield made


def test_grpcs_own_retries_come_back_when_a_key_may_ask_again(tmp_path: Path) -> None:
    retries = {
        "name": [{}],
        "retryPolicy": {
            "maxAttempts": 2,
            "initialBackoff": "0.01s",  # long before the key may ask again, if the gateway's word did not count
            "maxBackoff": "0.01s",
            "backoffMultiplier": 1,
            "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
        },
    }
    home = Home(tmp_path / "home")
    home.make()
    made = Rig(home)
    made.grpc_holder, made.grpc_port = rigs.held_port()
    metadata = (("authorization", f"Bearer {made.add_key('hasty', requests_per_s=1.0)}"),)
    made.write_table(["r0"])

    async def work() -> None:
        options = [("grpc.service_config", json.dumps({"methodConfig": [retries]}))]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{made.grpc_port}", options) as channel:
            stub: Any = stubs.GRPCInferenceServiceStub(channel)
            for _ in range(2):
                call = stub.ModelInfer(request("a"), metadata=metadata)
                assert (await call).id == "a"
                assert dict(await call.trailing_metadata())["x-ratelimit-limit-requests"] == "1"

    try:
        made.start_replica("r0")
        made.start_gateway()
        run(work)
    finally:
        made.close()


async def ask_without_a_pause(service: Service, stop: asyncio.Event, answered: list[str], text: str = "") -> None:
    """Ask until `stop`, and note what was answered. Any error fails the test."""
    while not stop.is_set():
        await service.infer(text)
        answered.append(text)


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
        answered: list[list[str]] = [[] for _ in range(len(services) * len(texts))]
        askers = [
            asyncio.ensure_future(ask_without_a_pause(service, stop, answered[at * len(texts) + number], text))
            for at, service in enumerate(services)
            for number, text in enumerate(texts)
        ]
        keepers = [rigs.keep_alive(pair, name, stop) for name in ("r0", "r1")]

        async def more() -> None:
            """Wait until each was answered three times more: what was in a replica that died is over."""
            goals = [len(mine) + 3 for mine in answered]
            while any(len(mine) < goal for mine, goal in zip(answered, goals, strict=True)):
                assert not any(asker.done() for asker in askers), [asker for asker in askers if asker.done()]
                await asyncio.sleep(0.01)

        for name in ("r0", "r1"):
            await more()
            killed = pair.processes[name]
            pair.kill(name)
            while pair.processes[name] is killed or not Path(pair.home.address(name).removeprefix("unix:")).exists():
                await asyncio.sleep(0.01)
        await more()
        pair.kill("gateway-0", signal.SIGTERM)
        assert await asyncio.to_thread(pair.processes["gateway-0"].wait, WAIT_S) == 0
        await more()
        stop.set()
        await asyncio.gather(*askers, *keepers)
        for service in services:
            await service.channel.close()

    run(work)


def test_a_drain_says_so_by_health_and_ends_streams_when_what_they_sent_is_answered(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

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
                await stream.write(request(f"until:{gate} {at}"))
            while in_flight(made) < 3:
                await asyncio.sleep(0.01)
            made.kill("gateway-0", signal.SIGTERM)
            assert (await watch.read()).status == states.NOT_SERVING
            gate.touch()
            read = [(await stream.read()).infer_response.id for _ in range(3)]
            assert read == [f"until:{gate} {at}" for at in range(3)]
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
