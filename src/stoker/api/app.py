"""The control API as one ASGI app: every operation behind the same door (key, errors, count).

It answers on loopback and on a Unix socket; the table of routes for gateways only on the socket.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api import (
    alerts,
    boundary,
    drift,
    feedback,
    gameday,
    incidents,
    keys,
    manifests,
    models,
    openapi,
    platform,
    policies,
    quantize,
    query,
    releases,
    rollouts,
    samples,
    scaling,
    signing,
    traces,
    usage,
)
from stoker.api.bodies import reply
from stoker.api.operations import Call, Operation
from stoker.api.refusals import ErrorBody, ErrorInfo, plain, refusal
from stoker.control.keys import require_admin, verify
from stoker.control.plane import ControlPlane
from stoker.store.keys import KeyRow
from stoker.types.errors import NotFound, StokerError

OPERATIONS: Final[tuple[Operation, ...]] = (
    *manifests.OPERATIONS,
    *models.OPERATIONS,
    *quantize.OPERATIONS,
    *signing.OPERATIONS,
    *policies.OPERATIONS,
    *keys.OPERATIONS,
    *samples.OPERATIONS,
    *alerts.OPERATIONS,
    *incidents.OPERATIONS,
    *gameday.OPERATIONS,
    *releases.OPERATIONS,
    *platform.OPERATIONS,
    *rollouts.OPERATIONS,
    *scaling.OPERATIONS,
    *boundary.OPERATIONS,
    *query.OPERATIONS,
    *drift.OPERATIONS,
    *traces.OPERATIONS,
    *feedback.OPERATIONS,
    *usage.OPERATIONS,
)

log = logging.getLogger(__name__)


def build(plane: ControlPlane, version: str) -> Starlette:
    """Return the app for `plane`."""

    async def describe(_call: Call) -> Response:
        return reply(openapi.document((*OPERATIONS, described), version))

    described = Operation(
        "GET", "/api/v1/openapi.json", describe, "This document", access="open", media="application/openapi+json"
    )
    routes = [
        Route(operation.path, _door(operation, plane), methods=[operation.method])
        for operation in (*OPERATIONS, described)
    ]
    return Starlette(routes=_joined(routes), exception_handlers={HTTPException: _unknown})


def _door(operation: Operation, plane: ControlPlane) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of one route: who may enter, what is counted, how errors are told."""

    async def enter(request: Request) -> Response:
        began_s = time.perf_counter()
        try:
            answer = await operation.handler(Call(request, plane, await _admitted(operation, request, plane)))
        except StokerError as problem:
            answer = refusal(problem)
        except Exception:  # the process goes on; the caller hears that it is not their fault
            log.exception("an operation failed", extra={"method": operation.method, "path": operation.path})
            answer = reply(ErrorBody(ErrorInfo("internal", "this is a bug; control's log has the details")), 500)
        _count(plane, operation, answer.status_code, time.perf_counter() - began_s)
        return answer

    return enter


async def _admitted(operation: Operation, request: Request, plane: ControlPlane) -> KeyRow | None:
    """Return the caller's key. Raises NotFound, Unauthenticated or Forbidden."""
    if operation.access == "socket":
        # A Unix socket has no port. It lies in a folder that only this user can enter, so it needs no key.
        if request.scope["server"][1] is not None:
            raise NotFound("not here")
        return None
    if operation.access == "open":
        return None
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    offered = text.strip() if scheme.lower() == "bearer" else None
    key = await plane.database.reading(lambda connection: verify(connection, offered, time.time()))
    if operation.access == "admin":
        require_admin(key)
    return key


def _count(plane: ControlPlane, operation: Operation, code: int, seconds: float) -> None:
    plane.metrics.counter("stoker_api_requests_total", method=operation.method, code=str(code)).add()
    plane.metrics.histogram("stoker_api_request_duration_seconds", method=operation.method).observe(seconds)


def _joined(routes: list[Route]) -> list[Route]:
    """Return `routes`, each path once with all its methods, so that a wrong method is told from a wrong path."""
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, []).append(route)
    return [same[0] if len(same) == 1 else _dispatch(path, same) for path, same in by_path.items()]


def _dispatch(path: str, routes: list[Route]) -> Route:
    handlers = {method: route.endpoint for route in routes for method in route.methods or ()}

    async def dispatch(request: Request) -> Response:
        answer: Response = await handlers[request.method](request)
        return answer

    return Route(path, dispatch, methods=list(handlers))


async def _unknown(_request: Request, problem: Exception) -> Response:
    status = problem.status_code if isinstance(problem, HTTPException) else 500
    return plain(status)
