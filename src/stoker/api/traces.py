"""Operations on what requests left behind. Any key may look at the requests of its own project."""

from typing import Final

import msgspec
from starlette.responses import Response

from stoker.api.bodies import flag, number, reply
from stoker.api.operations import Call, Operation, Parameter
from stoker.api.queries import ENDPOINT
from stoker.client.views import TracedRequest
from stoker.telemetry.spans import spans
from stoker.types.errors import NotFound
from stoker.types.ids import DEFAULT_PROJECT
from stoker.types.traces import Trace, TraceQuestion

LIMIT_MAX: Final = 1000
OF_ONE_MAX: Final = 100  # requests of one trace that are shown


class TraceList(msgspec.Struct, frozen=True):
    """Traces, newest first."""

    items: list[Trace]


class TraceDetail(msgspec.Struct, frozen=True):
    """The requests of one trace, or with one id, newest first."""

    items: list[TracedRequest]


async def _traces(call: Call) -> Response:
    project, _, name = call.request.query_params.get("endpoint", "").rpartition("/")
    usual = call.grant.only or DEFAULT_PROJECT
    wanted = TraceQuestion(
        project=_project(call, project or (usual if name else "")),
        endpoint=name,
        is_slow=flag(call.request, "slow"),
        is_error=flag(call.request, "errors"),
        limit=int(number(call.request, "limit", 50, 1, LIMIT_MAX)),
    )
    return reply(TraceList(_seen(call, await call.plane.traces.find(wanted))))


async def _trace(call: Call) -> Response:
    name = call.request.path_params["id"]
    asked = TraceQuestion(id=name, project=_project(call, ""), limit=OF_ONE_MAX)
    found = _seen(call, await call.plane.traces.find(asked))
    if not found:
        raise NotFound(f"no trace of {name[:64]!r}: it was not kept, or newer ones took its place")
    return reply(TraceDetail([TracedRequest(trace, tuple(spans(trace))) for trace in found]))


def _project(call: Call, wanted: str) -> str:
    """Return the project whose traces are shown, "" for all. Raises NotFound for one that the caller does not see."""
    only = call.grant.only
    if only is None:
        return wanted
    if wanted not in ("", only):
        raise NotFound(f"there is nothing at {wanted[:200]!r} that this key may see")
    return only


def _seen(call: Call, traces: list[Trace]) -> list[Trace]:
    return [each for each in traces if call.may("traces:read", each.project, each.endpoint)]


OPERATIONS: Final = (
    Operation(
        "GET",
        "/api/v1/traces",
        _traces,
        "Requests that left a trace, newest first",
        "traces:read",
        where="each",
        answer=TraceList,
        query=(
            Parameter("endpoint", str, "NAME or PROJECT/NAME", pattern=ENDPOINT),
            Parameter("slow", bool, "only slow ones"),
            Parameter("errors", bool, "only those that ended with 5xx"),
            Parameter("limit", int, f"1 to {LIMIT_MAX}", 1, LIMIT_MAX),
        ),
    ),
    Operation(
        "GET",
        "/api/v1/traces/{id}",
        _trace,
        "One trace as spans, by its id or by that of a request",
        "traces:read",
        where="each",
        answer=TraceDetail,
    ),
)
