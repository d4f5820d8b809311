"""Operations about usage: what gateways ship, what was used by whom, and the platform's default prices."""

import calendar
import re
import time
from typing import Final

import msgspec
from starlette.responses import Response

from stoker.api.bodies import decoded, nothing, read, reply
from stoker.api.operations import Call, Operation, Parameter
from stoker.core.usage import HOUR_S, Report
from stoker.types.access import EVERYWHERE
from stoker.types.errors import InvalidInput
from stoker.types.prices import PriceBook
from stoker.types.units import parse_seconds
from stoker.types.usage import Settled, UsageBatch

BATCH_BYTES_MAX: Final = 4 << 20
BY: Final = "project,endpoint"
BY_MAX: Final = 8
_DAY: Final = re.compile(r"\d{4}-\d{2}(-\d{2})?")
_batch: Final = msgspec.msgpack.Decoder(UsageBatch).decode


async def _ship(call: Call) -> Response:
    try:
        batch = _batch(await read(call.request, BATCH_BYTES_MAX))
    except msgspec.MsgspecError as wrong:
        raise InvalidInput(f"no batch of usage: {wrong}") from wrong
    return reply(await call.plane.usage.settle(batch))


async def _usage(call: Call) -> Response:
    now_s = time.time()
    asked = call.request.query_params
    from_s = moment(asked.get("from"), "from", now_s, month_s(now_s)) // HOUR_S * HOUR_S
    to_s = moment(asked.get("to"), "to", now_s, int(now_s) + HOUR_S)
    by = [name.strip() for name in asked.get("by", BY).split(",") if name.strip()]
    if len(by) > BY_MAX:
        raise InvalidInput(f"{len(by)} names; {BY_MAX} are the most", field="by")
    try:
        return reply(await call.plane.usage.report(from_s, to_s, by, own_project(call, asked.get("project"))))
    except ValueError as unknown:
        raise InvalidInput(str(unknown), field="by") from unknown


async def _prices(call: Call) -> Response:
    return reply(await call.plane.usage.prices())


async def _set_prices(call: Call) -> Response:
    try:
        await call.plane.usage.set_prices(await decoded(call.request, PriceBook))
    except ValueError as wrong:
        raise InvalidInput(str(wrong), field="prices") from wrong
    call.plane.loop.wake()
    return nothing()


def own_project(call: Call, wanted: str | None) -> str | None:
    """Return the project whose usage is shown, None for all. Raises Forbidden, or NotFound."""
    if not wanted and call.may("usage:read", EVERYWHERE):
        return None
    project = wanted or call.grant.project
    call.require("usage:read", project)
    return project


def moment(text: str | None, name: str, now_s: float, default_s: int) -> int:
    """Return unix seconds of a moment: themselves, a day or month in UTC, or a time ago. Raises InvalidInput."""
    if not text:
        return default_s
    try:
        if _DAY.fullmatch(text):
            found = time.strptime(text, "%Y-%m-%d" if len(text) > 7 else "%Y-%m")
            return calendar.timegm(found)
        if text.isdecimal() and len(text) > 6:
            return min(int(text), 1 << 40)
        return max(int(now_s - parse_seconds(text)), 0)
    except (ValueError, OverflowError):
        said = f"{text[:40]!r} is no moment; write 2026-11-29, 2026-11, 7d (ago) or unix seconds"
        raise InvalidInput(said, field=name) from None


def month_s(now_s: float) -> int:
    """Return when the month of `now_s` began, in unix seconds."""
    now = time.gmtime(now_s)
    return calendar.timegm((now.tm_year, now.tm_mon, 1, 0, 0, 0))


OPERATIONS: Final = (
    Operation(
        "GET",
        "/api/v1/usage",
        _usage,
        "What was used, and what it cost, by whom; of the key's project, or of all where it may see all",
        "usage:read",
        where="each",
        answer=Report,
        query=(
            Parameter("from", str, "the first moment: a day, a month, 7d (ago) or unix seconds; this month's first"),
            Parameter(
                "to", str, "where it ends, likewise; now. hours become days after 14 days, days months after 400"
            ),
            Parameter("by", str, "names: project, endpoint, revision, key, tenant, tags, tag:NAME, hour, day, month"),
            Parameter("project", str, "one project's alone"),
        ),
    ),
    Operation(
        "GET", "/api/v1/prices", _prices, "The platform's default prices", "usage:read", where="each", answer=PriceBook
    ),
    Operation(
        "PUT",
        "/api/v1/prices",
        _set_prices,
        "Set the platform's default prices",
        "platform:write",
        where="platform",
        body=PriceBook,
        status=204,
    ),
    Operation(
        "POST",
        "/internal/v1/usage",
        _ship,
        "Usage records of a gateway, to be settled once",
        "socket",
        body="application/msgpack",
        answer=Settled,
    ),
)
