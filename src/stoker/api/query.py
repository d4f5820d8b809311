"""Operations that ask the history of metrics: the query language over HTTP.

A key of one project sees the series of its own project alone, whatever the expression says.
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from stoker.api.bodies import reply
from stoker.api.operations import Call, Operation, Parameter
from stoker.api.queries import SECONDS
from stoker.observe.port import Chart
from stoker.types.errors import InvalidInput
from stoker.types.units import parse_seconds

SINCE_S: Final = 3600.0
STEP_S: Final = 60.0


async def _query(call: Call) -> Response:
    text = _text(call.request)
    chart = await call.plane.history.query(text, end_s=_moment(call.request), project=_project(call))
    return reply(chart)


async def _query_range(call: Call) -> Response:
    text, since_s = _text(call.request), _duration(call.request, "since", SINCE_S)
    step_s, end_s = _duration(call.request, "step", STEP_S), _moment(call.request)
    return reply(
        await call.plane.history.query(text, since_s=since_s, step_s=step_s, end_s=end_s, project=_project(call))
    )


def _project(call: Call) -> str | None:
    """Return the only project that the caller may see; None for all."""
    return call.grant.only


def _text(request: Request) -> str:
    text = request.query_params.get("query", "").strip()
    if not text:
        raise InvalidInput("no query; send ?query=, such as rate(stoker_requests_total[5m])", field="query")
    return text


def _duration(request: Request, name: str, default_s: float) -> float:
    text = request.query_params.get(name)
    if text is None:
        return default_s
    try:
        return parse_seconds(text)
    except ValueError as wrong:
        raise InvalidInput(str(wrong), field=name) from wrong


def _moment(request: Request) -> float | None:
    text = request.query_params.get("at")
    if text is None:
        return None
    try:
        at_s = float(text)
    except ValueError as wrong:
        raise InvalidInput(f"{text!r} is not a moment; write unix seconds", field="at") from wrong
    if not 0 <= at_s < 1e11:
        raise InvalidInput(f"{text} is not a moment; write unix seconds", field="at")
    return at_s


_AT: Final = Parameter("at", float, "the moment, or the end, in unix seconds; now by default", 0, 99_999_999_999)
_EXPRESSION: Final = Parameter(
    "query", str, "the expression, such as rate(stoker_requests_total[5m])", is_required=True
)

OPERATIONS: Final = (
    Operation(
        "GET",
        "/api/v1/query",
        _query,
        "What an expression gives at one moment",
        "metrics:read",
        where="each",
        answer=Chart,
        query=(_EXPRESSION, _AT),
    ),
    Operation(
        "GET",
        "/api/v1/query_range",
        _query_range,
        "What an expression gives over time",
        "metrics:read",
        where="each",
        answer=Chart,
        query=(
            _EXPRESSION,
            _AT,
            Parameter("since", str, "how far back, such as 6h; 1h by default", form=SECONDS),
            Parameter("step", str, "between two points, such as 5m; 1m by default", form=SECONDS),
        ),
    ),
)
