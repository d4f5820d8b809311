"""Operations about costs: what serving cost and whose it was, rows for FinOps tools, the prices of pools."""

from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import Response, StreamingResponse

from stoker.api.bodies import decoded, nothing, reply
from stoker.api.operations import Call, Operation, Parameter
from stoker.api.queries import NAME
from stoker.api.spans import BY_MAX, MOMENT, TAG, counted_by, several, span
from stoker.api.usage import is_there, no_such, own_project
from stoker.core.cost import report
from stoker.core.cost.report import Report
from stoker.types.costs import PriceList
from stoker.types.errors import InvalidInput

CSV: Final = "text/csv; charset=utf-8"
YEARS_S: Final = 2 * 366 * 86_400  # of an export


async def _costs(call: Call) -> Response:
    from_s, to_s = span(call.request)
    by, project = counted_by(call.request), own_project(call)
    try:
        found = await call.plane.costs.report(from_s, to_s, by, project)
    except ValueError as unknown:
        raise InvalidInput(str(unknown), field="by") from unknown
    if not found.items and not await is_there(call, project):
        raise no_such(project)
    return reply(found)


async def _focus(call: Call) -> Response:
    from_s, to_s = span(call.request)
    from_s = max(from_s, to_s - YEARS_S)  # older ones are kept nowhere
    project = own_project(call)
    rows: AsyncIterator[bytes] = call.plane.costs.focus(from_s, to_s, project)
    if await is_there(call, project):
        return StreamingResponse(rows, media_type=CSV)
    began = [await anext(rows, b""), await anext(rows, b"")]  # the header, and the first lines of what is left of it
    if not began[1]:
        raise no_such(project)
    return StreamingResponse(_joined(began, rows), media_type=CSV)


async def _joined(began: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for piece in began:
        yield piece
    async for piece in rest:
        yield piece


async def _pool_prices(call: Call) -> Response:
    return reply(await call.plane.costs.prices())


async def _set_pool_prices(call: Call) -> Response:
    try:
        await call.plane.costs.set_prices(await decoded(call.request, PriceList))
    except ValueError as wrong:
        raise InvalidInput(str(wrong), field="pools") from wrong
    return nothing()


_SPAN: Final = (
    Parameter(
        "from", str, "the first moment: a day, a month, 7d (ago) or unix seconds; this month's first", form=MOMENT
    ),
    Parameter("to", str, "where it ends, likewise; now. hours become days after 62 days", form=MOMENT),
    Parameter("project", str, "only what that project pays, or its endpoints cost", pattern=NAME),
)
OPERATIONS: Final = (
    Operation(
        "GET",
        "/api/v1/costs",
        _costs,
        "What serving cost, idle time and overhead in; of the key's project, or of all where it may see all",
        "usage:read",
        where="each",
        answer=Report,
        query=(
            *_SPAN,
            Parameter(
                "by",
                str,
                "names: payer, project, endpoint, revision, key, tag:NAME, kind, pool, hour, day, month",
                form=several((*report.WHOSE, *report.TIMES, "tags?", TAG), BY_MAX),
            ),
        ),
    ),
    Operation(
        "GET",
        "/api/v1/costs/focus",
        _focus,
        "The cost lines of hours that are over, as a CSV file of FOCUS 1.2 rows; of whom as for /api/v1/costs",
        "usage:read",
        where="each",
        query=_SPAN,
        media=CSV,
    ),
    Operation(
        "GET",
        "/api/v1/costs/prices",
        _pool_prices,
        "What the machines of pools cost",
        "platform:read",
        where="platform",
        answer=PriceList,
    ),
    Operation(
        "PUT",
        "/api/v1/costs/prices",
        _set_pool_prices,
        "Set what the machines of pools cost, and who pays for idle time and overhead",
        "platform:write",
        where="platform",
        body=PriceList,
        status=204,
    ),
)
