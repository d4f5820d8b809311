"""The data plane of one gateway process: requests from connections to their stacks, errors to their shapes."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from collections.abc import Set as AbstractSet
from typing import Any

from stoker.gateway.directory import Directory
from stoker.gateway.exchange import Exchange, Handler, Work, error_headers
from stoker.gateway.http.connection import Connection
from stoker.gateway.http.incoming import HttpRequest
from stoker.gateway.layers.auth import identify
from stoker.gateway.protocols import oip_http, openai_http, probes
from stoker.gateway.protocols.oip_http import OipShapes
from stoker.gateway.protocols.openai_http import OpenAIShapes
from stoker.gateway.router import Match, Route, Router
from stoker.gateway.stack import Stack
from stoker.telemetry.metrics import Snapshot
from stoker.types.errors import StokerError

Answering = Callable[[Exchange, Directory], Coroutine[Any, Any, None]]


class Plane:
    """Answers requests (server.Requests). Made inside the running loop."""

    def __init__(self, stack: Stack, numbers: Callable[[], Awaitable[Snapshot]]) -> None:
        self._loop = asyncio.get_running_loop()  # asking for it costs a system call each time
        self._stack = stack
        self._directory = stack.directory
        self.wanted: AbstractSet[bytes] = stack.directory.headers
        self._router = routes(stack, numbers)

    def serve(self, connection: Connection, request: HttpRequest) -> None:
        """Start the exchange of a complete request."""
        try:
            match = self._router.find(request.method, request.path)
        except StokerError as problem:
            match = self._refused(request.path, problem)
        exchange = Exchange(connection, request, match.route, match.name, match.version)
        task = exchange.task = self._loop.create_task(match.route.handle(exchange))
        connection.on_gone = task.cancel

    def body_limit(self, request: HttpRequest) -> int:
        """Judge a request with a large body by its head: the path, the caller, the endpoint's limit."""
        match = self._router.find(request.method, request.path)
        if not match.route.method:
            return 0 if request.method == b"GET" else self._directory.body_max_bytes
        key = identify(self._directory, request)
        return self._directory.body_limit(key.project, match.name, key)

    def refusal(self, request: HttpRequest | None, problem: StokerError) -> tuple[bytes, bytes]:
        """Return header lines and body for a request that never became an exchange."""
        path, wanted = (b"/", None) if request is None else (request.path, request.headers.get(b"x-request-id"))
        headers = error_headers(problem) + b"x-request-id: %b\r\n" % self._stack.ids.next(wanted).encode()
        return headers, self._router.shapes(path).error_body(problem)

    def _refused(self, path: bytes, problem: StokerError) -> Match:
        async def refuse(_exchange: Exchange) -> None:
            raise problem

        return Match(Route(self._router.shapes(path), self._stack.open(refuse)))


def routes(stack: Stack, numbers: Callable[[], Awaitable[Snapshot]]) -> Router:
    """Return what lies where."""
    openai, oip = OpenAIShapes(), OipShapes()
    inference = stack.inference()

    def reading(answer: Answering) -> Handler:
        return stack.reading(_bound(answer, stack.directory))

    def open_(answer: Answering) -> Handler:
        return stack.open(_bound(answer, stack.directory))

    def get(handle: Handler, protocol: OpenAIShapes | OipShapes = oip) -> dict[bytes, Route]:
        return {b"GET": Route(protocol, handle)}

    return Router(
        exact={
            b"/v1/models": get(reading(openai_http.list_models), openai),
            b"/v1/chat/completions": {b"POST": Route(openai, inference, "chat", openai_http.prepare_chat)},
            b"/v1/completions": {b"POST": Route(openai, inference, "completions", openai_http.prepare_completions)},
            b"/v1/embeddings": {b"POST": Route(openai, inference, "embeddings", openai_http.prepare_embeddings)},
            b"/v2": get(stack.open(oip_http.server_metadata)),
            b"/v2/health/live": get(stack.open(oip_http.live)),
            b"/v2/health/ready": get(open_(oip_http.ready)),
            b"/v2/repository/index": {b"POST": Route(oip, reading(oip_http.repository_index))},
            b"/healthz": get(stack.open(probes.healthz), openai),
            b"/readyz": get(open_(probes.readyz), openai),
            b"/metrics": get(stack.open(probes.metrics(numbers, stack.directory)), openai),
        },
        models=get(reading(openai_http.show_model), openai),
        oip={
            b"": get(reading(oip_http.model_metadata)),
            b"ready": get(reading(oip_http.model_ready)),
            b"config": get(reading(oip_http.model_config)),
            b"stats": get(reading(oip_http.model_stats)),
            b"infer": {b"POST": Route(oip, inference, "infer", oip_http.prepare_infer)},
        },
        openai_shapes=openai,
        oip_shapes=oip,
    )


def _bound(answer: Answering, directory: Directory) -> Handler:
    def handle(exchange: Exchange) -> Work:
        return answer(exchange, directory)

    return handle
