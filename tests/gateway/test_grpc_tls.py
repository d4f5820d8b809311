"""gRPC over TLS: the certificate of the data plane, renewed while the gateway runs."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.gateway import rig as rigs
from tests.gateway.certificates import self_signed, trusting
from tests.gateway.rig import Rig, until
from tests.gateway.test_tls import place


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grpc-tls")


@pytest.fixture(scope="module")
def rig(folder: Path) -> Iterator[Rig]:
    first, second = self_signed(folder, "first"), self_signed(folder, "second")
    place(folder, *first)
    environ = {"STOKER_TLS_CERT": str(folder / "tls.crt"), "STOKER_TLS_KEY": str(folder / "tls.key")}
    with rigs.rig(folder, replicas=1, environ=environ, tls=trusting(first[0], second[0]), grpc=True) as made:
        yield made


def is_served(rig: Rig, *, believes: Path) -> bool:
    credentials = grpc.ssl_channel_credentials(believes.read_bytes())
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(f"localhost:{rig.grpc_port}", credentials, options) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def test_grpc_shows_the_certificate_and_takes_a_renewed_one(rig: Rig, folder: Path) -> None:
    first, second = folder / "first.crt", folder / "second.crt"
    assert is_served(rig, believes=first)
    assert not is_served(rig, believes=second)
    place(folder, folder / "second.crt", folder / "second.key")
    until(lambda: is_served(rig, believes=second), "the renewed certificate is shown")
    assert not is_served(rig, believes=first)


def test_grpc_without_tls_is_refused(rig: Rig) -> None:
    with grpc.insecure_channel(f"localhost:{rig.grpc_port}") as channel, pytest.raises(grpc.RpcError):
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=3)
    assert ssl.get_server_certificate(("127.0.0.1", rig.grpc_port))
