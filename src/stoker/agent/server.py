"""The agent's API: HTTP with JSON on a Unix socket that only this user can open.

    GET    /v1/node?after=SEQ&wait_s=N               → NodeStatus; waits while the sequence is still `after`
    PUT    /v1/processes/{name}                      ProcessSpec → ProcessStatus; header x-stoker-fence
    GET    /v1/metrics                               → telemetry Snapshot, as msgpack
    DELETE /v1/processes/{name}?drain_s=             → 202; header x-stoker-fence
    POST   /v1/processes/{name}/fault                Fault → ProcessStatus; header x-stoker-fence
    DELETE /v1/processes/{name}/fault                → 204; header x-stoker-fence
    PUT    /v1/replicas/{name}                       NodeStart → ProcessStatus; header x-stoker-fence; nodes that joined
    PUT    /v1/ahead                                 [Ahead] → 204; header x-stoker-fence
    GET    /v1/processes/{name}/logs?tail=&follow=   → text
    POST   /v1/shutdown?drain_s=                     → 202; everything ends, then the agent

Errors are {"error": {"code", "message", "field"}} with the status of their class.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from stoker.agent.numbers import Numbers
from stoker.agent.supervisor import Supervisor
from stoker.telemetry.metrics import encode_snapshot
from stoker.types.ahead import Ahead
from stoker.types.errors import InvalidInput, StokerError, TooLarge
from stoker.types.faults import Fault
from stoker.types.nodes import NodeStart
from stoker.types.process import ProcessSpec, ProcessStatus

WAIT_MAX_S: Final = 60.0
DRAIN_MAX_S: Final = 3600.0
TAIL_LINES_MAX: Final = 100_000
BODY_BYTES_MAX: Final = 2 * 2**20
FENCE_HEADER: Final = "x-stoker-fence"
_T = TypeVar("_T")


class TakesIn(Protocol):
    """What brings replicas to a node that has no files of them yet (agent/intake.py)."""

    def put(self, start: NodeStart, fence: int) -> ProcessStatus:
        """Have a replica run, once its files are here."""

    def drop(self, name: str) -> None:
        """Fetch for a replica no more."""


class Api:
    """The routes. `on_shutdown` gets the drain time and must return at once."""

    def __init__(
        self, supervisor: Supervisor, on_shutdown: Callable[[float], None], intake: TakesIn | None = None
    ) -> None:
        self._supervisor = supervisor
        self._intake = intake
        self._numbers = Numbers(supervisor.status().node, supervisor.folder)
        supervisor.gpus = self._numbers.gpus
        self._on_shutdown = on_shutdown

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/node", self.node),
                Route("/v1/metrics", self.metrics),
                Route("/v1/ahead", self.expect, methods=["PUT"]),
                Route("/v1/processes/{name}", self.put, methods=["PUT"]),
                Route("/v1/replicas/{name}", self.take_in, methods=["PUT"]),
                Route("/v1/processes/{name}", self.delete, methods=["DELETE"]),
                Route("/v1/processes/{name}/fault", self.inject, methods=["POST"]),
                Route("/v1/processes/{name}/fault", self.end_fault, methods=["DELETE"]),
                Route("/v1/processes/{name}/logs", self.logs),
                Route("/v1/shutdown", self.shutdown, methods=["POST"]),
            ],
            exception_handlers={StokerError: _refuse},
        )

    async def node(self, request: Request) -> Response:
        """Answer GET /v1/node."""
        if "after" in request.query_params:
            after = int(_number(request, "after", 0, maximum=float(1 << 62)))
            wait_s = min(WAIT_MAX_S, _number(request, "wait_s", 25.0, maximum=DRAIN_MAX_S))
            return _json(await self._supervisor.wait_change(after, wait_s))
        return _json(self._supervisor.status())

    async def metrics(self, request: Request) -> Response:
        """Answer GET /v1/metrics."""
        return Response(encode_snapshot(self._numbers.snapshot()), media_type="application/msgpack")

    async def put(self, request: Request) -> Response:
        """Answer PUT /v1/processes/{name}."""
        spec = await _decoded(request, ProcessSpec, "process spec")
        if spec.name != request.path_params["name"]:
            raise InvalidInput(f"the spec is of {spec.name!r}, the path of another process", field="name")
        return _json(self._supervisor.put(spec, _fence(request)))

    async def take_in(self, request: Request) -> Response:
        """Answer PUT /v1/replicas/{name}."""
        start = await _decoded(request, NodeStart, "replica to start")
        if self._intake is None:
            raise InvalidInput("this node shares control's disk; its replicas are started by /v1/processes")
        if start.process.name != request.path_params["name"]:
            raise InvalidInput(f"the spec is of {start.process.name!r}, the path of another process", field="name")
        return _json(self._intake.put(start, _fence(request)))

    async def expect(self, request: Request) -> Response:
        """Answer PUT /v1/ahead."""
        self._supervisor.expect(await _decoded(request, tuple[Ahead, ...], "list of versions"), _fence(request))
        return Response(status_code=204)

    async def delete(self, request: Request) -> Response:
        """Answer DELETE /v1/processes/{name}."""
        drain_s, name = _number(request, "drain_s", -1.0, maximum=DRAIN_MAX_S), request.path_params["name"]
        self._supervisor.delete(name, drain_s if drain_s >= 0 else None, _fence(request))
        if self._intake is not None:
            self._intake.drop(name)
        return Response(status_code=202)

    async def inject(self, request: Request) -> Response:
        """Answer POST /v1/processes/{name}/fault."""
        fault = await _decoded(request, Fault, "fault")
        return _json(await self._supervisor.inject(request.path_params["name"], fault, _fence(request)))

    async def end_fault(self, request: Request) -> Response:
        """Answer DELETE /v1/processes/{name}/fault."""
        self._supervisor.end_fault(request.path_params["name"], _fence(request))
        return Response(status_code=204)

    async def logs(self, request: Request) -> Response:
        """Answer GET /v1/processes/{name}/logs."""
        lines = int(_number(request, "tail", 200, maximum=TAIL_LINES_MAX))
        follow = request.query_params.get("follow", "0") in ("1", "true")
        pieces = self._supervisor.read_log(request.path_params["name"], lines=lines, follow=follow)
        return StreamingResponse(pieces, media_type="text/plain; charset=utf-8")

    async def shutdown(self, request: Request) -> Response:
        """Answer POST /v1/shutdown."""
        self._on_shutdown(_number(request, "drain_s", 30.0, maximum=DRAIN_MAX_S))
        return Response(status_code=202)


class AgentServer:
    """The listening API; its signal handling is left to the process it runs in."""

    def __init__(self, api: Api, path: Path) -> None:
        self._path = path
        config = uvicorn.Config(
            api.app(),
            http="httptools",
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=5,
            limit_concurrency=256,
        )
        logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it tells of every start and stop
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen. Raises OSError."""
        # Bound aside and renamed: whoever finds the socket finds somebody behind it, and only this user may connect.
        half = self._path.with_name(self._path.name + ".new")
        half.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(half))
        half.chmod(0o600)
        listening.listen(128)
        half.rename(self._path)
        self._task = asyncio.get_running_loop().create_task(self._server.serve([listening]), name="agent api")

    async def close(self) -> None:
        """Answer what was asked, then stop listening."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


class _Server(uvicorn.Server):
    """uvicorn that leaves the signals to the agent, for which SIGTERM means more than to stop listening."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def _refuse(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, StokerError)
    body = {"code": problem.code, "message": problem.message, "field": problem.field}
    return _json({"error": body}, status=problem.status)


async def _decoded(request: Request, kind: type[_T], what: str) -> _T:
    """Return the body as `kind`. Raises InvalidInput or TooLarge."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            raise TooLarge(f"a {what} over {BODY_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(bytes(body), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as wrong:
        raise InvalidInput(f"the body is no {what}: {wrong}") from wrong


def _json(value: object, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


def _number(request: Request, name: str, default: float, *, maximum: float) -> float:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= maximum:
        raise InvalidInput(f"{name}={text}: expected a number from 0 to {maximum:g}", field=name)
    return value


def _fence(request: Request) -> int:
    text = request.headers.get(FENCE_HEADER, "")
    if not text.isdecimal() or len(text) > 18:
        raise InvalidInput(f"the header {FENCE_HEADER} must carry the fencing token of who asks", field=FENCE_HEADER)
    return int(text)
