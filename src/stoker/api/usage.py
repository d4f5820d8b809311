"""Operations about usage: what gateways ship, what was used by whom, and the platform's default prices."""

from typing import Final

import msgspec
from starlette.responses import Response

from stoker.api.bodies import decoded, nothing, number, read, reply
from stoker.api.operations import Call, Operation, Parameter
from stoker.api.queries import NAME
from stoker.api.spans import BY_MAX, MOMENT, TAG, counted_by, several, span
from stoker.control.usage import TIMES
from stoker.core.usage import Report, Whose
from stoker.store import projects, usage_records
from stoker.types.access import EVERYWHERE
from stoker.types.errors import InvalidInput, NotFound
from stoker.types.prices import PriceBook
from stoker.types.usage import PLACE, RecordPage, Settled, UsageBatch, parse_place

BATCH_BYTES_MAX: Final = 4 << 20
_batch: Final = msgspec.msgpack.Decoder(UsageBatch).decode


async def _ship(call: Call) -> Response:
    try:
        batch = _batch(await read(call.request, BATCH_BYTES_MAX))
    except msgspec.MsgspecError as wrong:
        raise InvalidInput(f"no batch of usage: {wrong}") from wrong
    return reply(await call.plane.usage.settle(batch))


async def _usage(call: Call) -> Response:
    from_s, to_s = span(call.request)
    by, project = counted_by(call.request), own_project(call)
    try:
        found = await call.plane.usage.report(from_s, to_s, by, project)
    except ValueError as unknown:
        raise InvalidInput(str(unknown), field="by") from unknown
    if not found.items and not await is_there(call, project):
        raise no_such(project)
    return reply(found)


async def _records(call: Call) -> Response:
    from_s, to_s = span(call.request)
    limit = int(number(call.request, "limit", usage_records.PAGE_MAX, 1, usage_records.PAGE_MAX))
    try:
        after = parse_place(call.request.query_params.get("after", ""))
    except ValueError as wrong:
        raise InvalidInput(str(wrong), field="after") from wrong
    project = own_project(call)
    page = await call.plane.usage.records(after, from_s, to_s, project, limit)
    if not page.items and not await is_there(call, project):
        raise no_such(project)
    return reply(page)


async def _prices(call: Call) -> Response:
    return reply(await call.plane.usage.prices())


async def _set_prices(call: Call) -> Response:
    try:
        await call.plane.usage.set_prices(await decoded(call.request, PriceBook))
    except ValueError as wrong:
        raise InvalidInput(str(wrong), field="prices") from wrong
    call.plane.loop.wake()
    return nothing()


def own_project(call: Call) -> str | None:
    """Return the project whose usage is shown, None for all. Raises Forbidden, or NotFound."""
    wanted = call.request.query_params.get("project")
    if not wanted and call.may("usage:read", EVERYWHERE):
        return None
    project = wanted or call.grant.project
    call.require("usage:read", project)
    return project


async def is_there(call: Call, project: str | None) -> bool:
    """Return whether there is such a project; None is all of them.

    Only who may see every project comes here with the name of none.
    """
    if project is None:
        return True
    return await call.plane.database.reading(lambda connection: projects.find(connection, project)) is not None


def no_such(project: str | None) -> NotFound:
    """Return what is said where nothing was found because of a wrong name. What a deleted project used is shown."""
    return NotFound(f"there is no project {project!r}, and nothing is known of one in this time")


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
            Parameter(
                "from",
                str,
                "the first moment: a day, a month, 7d (ago) or unix seconds; this month's first",
                form=MOMENT,
            ),
            Parameter(
                "to",
                str,
                "where it ends, likewise; now. hours become days after 14 days, days months after 400",
                form=MOMENT,
            ),
            Parameter(
                "by",
                str,
                "names: project, endpoint, revision, key, tenant, tags, tag:NAME, hour, day, month",
                form=several((*Whose._fields, *TIMES, "tag", TAG), BY_MAX),
            ),
            Parameter("project", str, "one project's alone", pattern=NAME),
        ),
    ),
    Operation(
        "GET",
        "/api/v1/usage/records",
        _records,
        "Requests one by one, as they were settled; of the key's project, or of all where it may see all",
        "usage:read",
        where="each",
        answer=RecordPage,
        query=(
            Parameter(
                "from",
                str,
                "the first hour: a day, a month, 7d (ago) or unix seconds; this month's first",
                form=MOMENT,
            ),
            Parameter("to", str, "where it ends, likewise; now", form=MOMENT),
            Parameter("project", str, "one project's alone", pattern=NAME),
            Parameter(
                "after",
                str,
                "`next` of the page before; what is settled later comes after it",
                form=f"({PLACE})?",
            ),
            Parameter(
                "limit",
                int,
                f"records, {usage_records.PAGE_MAX} by default and at most; a page may have fewer",
                1,
                usage_records.PAGE_MAX,
            ),
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
