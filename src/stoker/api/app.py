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
    access,
    alerts,
    audit,
    audited,
    auth,
    boundary,
    budgets,
    costs,
    drift,
    feedback,
    gameday,
    identity,
    incidents,
    keys,
    manifests,
    models,
    nodes,
    openapi,
    platform,
    policies,
    quantize,
    queries,
    query,
    quotas,
    releases,
    rollouts,
    samples,
    scaling,
    secrets,
    signing,
    traces,
    tuning,
    usage,
)
from stoker.api.bodies import reply
from stoker.api.door import Door, permit
from stoker.api.operations import Call, Operation
from stoker.api.refusals import ErrorBody, ErrorInfo, plain, refusal
from stoker.control.plane import ControlPlane
from stoker.types.errors import StokerError

OPERATIONS: Final[tuple[Operation, ...]] = (
    *manifests.OPERATIONS,
    *models.OPERATIONS,
    *quantize.OPERATIONS,
    *signing.OPERATIONS,
    *policies.OPERATIONS,
    *budgets.OPERATIONS,
    *quotas.OPERATIONS,
    *keys.OPERATIONS,
    *access.OPERATIONS,
    *auth.OPERATIONS,
    *identity.OPERATIONS,
    *samples.OPERATIONS,
    *alerts.OPERATIONS,
    *incidents.OPERATIONS,
    *gameday.OPERATIONS,
    *releases.OPERATIONS,
    *platform.OPERATIONS,
    *rollouts.OPERATIONS,
    *secrets.OPERATIONS,
    *scaling.OPERATIONS,
    *boundary.OPERATIONS,
    *query.OPERATIONS,
    *drift.OPERATIONS,
    *traces.OPERATIONS,
    *feedback.OPERATIONS,
    *usage.OPERATIONS,
    *tuning.OPERATIONS,
    *audit.OPERATIONS,
    *costs.OPERATIONS,
    *nodes.OPERATIONS,
)

log = logging.getLogger(__name__)


def build(plane: ControlPlane, version: str) -> Starlette:
    """Return the app for `plane`."""

    async def describe(_call: Call) -> Response:
        return reply(openapi.document((*OPERATIONS, described), version))

    described = Operation("GET", "/api/v1/openapi.json", describe, "This document", "open", answer=dict)
    door, refusals = Door(plane), audited.Refusals()
    routes = [
        Route(operation.path, _route(operation, door, refusals), methods=[operation.method])
        for operation in (*OPERATIONS, described)
    ]
    return Starlette(routes=_joined(routes), exception_handlers={HTTPException: _unknown})


def _route(operation: Operation, door: Door, refusals: audited.Refusals) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of one route: who may enter (api/door.py), what is written down, how errors are told."""

    async def enter(request: Request) -> Response:
        began_s = time.perf_counter()
        named = audited.request_id(request)
        who = audited.actor(operation, request, None, named)
        try:
            try:
                call = await door.enter(operation, request)
                within = call.grant.project if call.key is not None else ""
                who = audited.actor(operation, request, call.key, named, within)
                permit(operation, call)
                queries.check(operation, request)
                answer = await audited.answered(operation, call, who)
            except StokerError as problem:
                await audited.refused(problem, who, door.plane.database, refusals)
                raise
        except StokerError as problem:
            answer = refusal(problem)
        except Exception:  # the process goes on; the caller hears that it is not their fault
            log.exception("an operation failed", extra={"method": operation.method, "path": operation.path})
            answer = reply(ErrorBody(ErrorInfo("internal", "this is a bug; control's log has the details")), 500)
        answer.headers["x-request-id"] = named
        _count(door.plane, operation, answer.status_code, time.perf_counter() - began_s)
        return answer

    return enter


def _count(plane: ControlPlane, operation: Operation, code: int, seconds: float) -> None:
    plane.metrics.counter("stoker_api_requests_total", method=operation.method, code=str(code)).add()
    plane.metrics.histogram("stoker_api_request_duration_seconds", method=operation.method).observe(seconds)


def _joined(routes: list[Route]) -> list[Route]:
    """Return `routes`, each path once with all its methods, so that a wrong method is told from a wrong path.

    A word of a path comes before what may be any word there: a wrong method is told those of the word.
    """
    by_path: dict[str, list[Route]] = {}
    for route in sorted(routes, key=lambda route: [part.startswith("{") for part in route.path.split("/")]):
        by_path.setdefault(route.path, []).append(route)
    return [same[0] if len(same) == 1 else _dispatch(path, same) for path, same in by_path.items()]


def _dispatch(path: str, routes: list[Route]) -> Route:
    handlers = {method: route.endpoint for route in routes for method in route.methods or ()}

    async def dispatch(request: Request) -> Response:
        answer: Response = await handlers[request.method](request)
        return answer

    return Route(path, dispatch, methods=list(handlers))


async def _unknown(_request: Request, problem: Exception) -> Response:
    if not isinstance(problem, HTTPException):
        return plain(500)
    answer = plain(problem.status_code)
    answer.headers.update(problem.headers or {})  # a wrong method's Allow
    return answer
