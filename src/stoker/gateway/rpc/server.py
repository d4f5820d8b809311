"""The gRPC port of a gateway: which method means what, limits over all of them, an end that answers what has come.

grpc.aio on the gateway's own event loop; why, and what it costs, is in docs/decisions/grpc-in-the-gateways-loop.md.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

import grpc

from stoker.gateway.directory import Directory
from stoker.gateway.http.server import PortTaken
from stoker.gateway.http.tls import Certificates, Pair
from stoker.gateway.layers.auth import identify, offered
from stoker.gateway.rpc import call as calls
from stoker.gateway.rpc.bounds import CALLS_MAX, OPTIONS
from stoker.gateway.rpc.infer import Bodies, Infer
from stoker.gateway.rpc.questions import questions
from stoker.gateway.rpc.tools import Health, reflect
from stoker.gateway.stack import Stack
from stoker.protocol.oip_messages import HEALTH, INFERENCE, REFLECTION, REFLECTION_ALPHA
from stoker.types.errors import StokerError, Unauthenticated

SETTLE_S: Final = 0.03  # at a drain: when no call has come for so long, none waits unseen
SETTLE_MAX_S: Final = 1.0


class RpcServer:
    """Answers gRPC calls through the layers of `stack`. Made inside the running loop."""

    def __init__(self, stack: Stack, bodies: Bodies) -> None:
        self._methods = _Methods(stack, bodies)
        self._server: Any = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=CALLS_MAX)
        self._server.add_generic_rpc_handlers((self._methods,))

    async def start(self, host: str, port: int, certificates: Certificates | None = None) -> int:
        """Listen on `host`:`port` (0: any), with TLS given `certificates`, and return the port. Raises PortTaken."""
        address = f"[{host}]:{port}" if ":" in host else f"{host or '0.0.0.0'}:{port}"
        try:
            found: int = (
                self._server.add_insecure_port(address)
                if certificates is None
                else self._server.add_secure_port(address, _credentials(certificates))
            )
        except RuntimeError as taken:
            raise PortTaken(
                f"gRPC cannot listen on {address}, which another program may have; set STOKER_GRPC_PORT to a free port"
            ) from taken
        await self._server.start()
        return found

    async def drain(self, timeout_s: float) -> bool:
        """Take no new calls, and wait until those that run have ended. Returns whether all did within `timeout_s`.

        gRPC cancels the calls that came and were not yet looked at when a server begins to stop; with 64 clients that
        ask without a pause those were 62. So answers are held back until every call was looked at: clients that wait
        for an answer send no new ones. Who does not wait can still lose what arrives in the moment of the stop.
        """
        ends_s = time.monotonic() + timeout_s
        methods = self._methods
        methods.health.is_draining = True
        methods.infer.hold()
        settled_s = min(time.monotonic() + SETTLE_MAX_S, ends_s)
        seen = -1
        while seen != methods.infer.arrived and time.monotonic() < settled_s:
            seen = methods.infer.arrived
            await asyncio.sleep(SETTLE_S)
        stopping = asyncio.create_task(self._server.stop(max(ends_s - time.monotonic(), 0.0)))
        await asyncio.sleep(SETTLE_S)  # clients hear that this connection takes no more calls before they make one
        methods.infer.drain()
        await stopping
        return time.monotonic() < ends_s


def _credentials(certificates: Certificates) -> Any:
    """Return what gRPC handshakes with: at each, the newest pair."""

    def made(pair: Pair) -> Any:
        return grpc.ssl_server_certificate_configuration([(pair.key, pair.cert)], pair.client_ca or None)

    used = certificates.pair

    def newest() -> Any:
        nonlocal used
        if certificates.pair is used:
            return None
        used = certificates.pair
        return made(used)

    return grpc.dynamic_ssl_server_credentials(made(used), newest, bool(used.client_ca))


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds what a call means, by its head: who has no key is refused before its message is read."""

    def __init__(self, stack: Stack, bodies: Bodies) -> None:
        self._directory: Directory = stack.directory
        self.infer = Infer(stack, bodies)
        self.health = Health(lambda: stack.directory.version >= 0)
        self._open: dict[str, Any] = {
            HEALTH.methods["Health/Check"].path: _unary(self.health.check),
            HEALTH.methods["Health/Watch"].path: grpc.unary_stream_rpc_method_handler(self.health.watch),
            **{_reflection_path(file): _stream(partial(reflect, file)) for file in (REFLECTION, REFLECTION_ALPHA)},
        }
        service = {path.partition("/")[2]: method for path, method in INFERENCE.methods.items()}
        self._infer_path = service["ModelInfer"].path
        self._stream_path = service["ModelStreamInfer"].path
        self._questions = {service[name].path: (question, service[name]) for name, question in questions(stack).items()}

    def service(self, handler_call_details: Any) -> Any:
        """See grpc.GenericRpcHandler. None: there is no such method."""
        method: str = handler_call_details.method
        found = self._open.get(method)
        if found is not None:
            return found
        metadata = handler_call_details.invocation_metadata
        head = calls.read_head(method, metadata, time.monotonic(), self._directory.headers)
        asked = self._questions.get(method)
        if asked is not None and not asked[0].needs_key:
            return _unary(partial(asked[0].answer, asked[1], head))
        if asked is None and method not in (self._infer_path, self._stream_path):
            return None
        try:
            identify(self._directory, head)
        except StokerError as problem:
            return _stream(partial(_refuse, self._directory, offered(head.headers), problem))
        if asked is not None:
            return _unary(partial(asked[0].answer, asked[1], head))
        if method == self._infer_path:
            return _unary(partial(self.infer.unary, head))
        return _stream(partial(self.infer.stream, head))


async def _refuse(
    directory: Directory, text: bytes, problem: StokerError, _messages: AsyncIterator[bytes], context: Any
) -> AsyncIterator[bytes]:
    if text and isinstance(problem, Unauthenticated):
        problem = directory.refused(_address(context.peer()), text)
    await calls.refuse_with(context, problem, "")
    yield b""


def _address(peer: str) -> str:
    """Return the address of a peer that gRPC calls `ipv4:10.0.0.1:4711` or `ipv6:%5B::1%5D:4711`."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""


def _reflection_path(file: Any) -> str:
    path: str = file.methods["ServerReflection/ServerReflectionInfo"].path
    return path


class _Handler(grpc.RpcMethodHandler):  # type: ignore[misc]
    """How gRPC calls what answers; messages stay bytes. One is made a call: gRPC's own function imports at each."""

    request_deserializer = response_serializer = None
    unary_stream = stream_unary = None

    __slots__ = ("request_streaming", "response_streaming", "stream_stream", "unary_unary")

    def __init__(self, *, unary: Any = None, stream: Any = None) -> None:
        self.unary_unary = unary
        self.stream_stream = stream
        self.request_streaming = self.response_streaming = unary is None


def _unary(answer: Any) -> Any:
    return _Handler(unary=answer)


def _stream(answer: Any) -> Any:
    return _Handler(stream=answer)
