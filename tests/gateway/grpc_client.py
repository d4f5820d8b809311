"""Triton's stubs on a channel of their own, requests for the fake replica, and what the gateway counted."""

import socket
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2
from tritonclient.grpc import service_pb2_grpc as stubs

from tests.gateway.rig import KEY, WAIT_S, Rig

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


def trailers(error: Any) -> dict[str, Any]:
    return dict(error.trailing_metadata())


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
