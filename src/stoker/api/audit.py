"""Operations on the audit: who did what, what that is worth, and what holds it."""

import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.responses import Response, StreamingResponse

from stoker.api.bodies import decoded, nothing, number, reply
from stoker.api.lines import LINES
from stoker.api.operations import Call, Operation, Parameter
from stoker.client.audit import AuditEntry, ProjectPage, exported
from stoker.core.audit import chain, views
from stoker.store import audit, audit_project, projects
from stoker.store.audit import HOLDS_MAX, Question
from stoker.store.engine import Connection
from stoker.types.audit import EVERY_PROJECT, AuditVerdict, Hold, ProjectEvent, Row
from stoker.types.errors import Conflict, InvalidInput, NotFound

LIMIT_MAX: Final = 1000
PAGE: Final = 500  # rows of an export that are read at once


class AuditList(msgspec.Struct, frozen=True):
    """Rows of the audit, newest first."""

    items: list[AuditEntry]


class HoldBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why rows are held."""

    because: Annotated[str, Meta(min_length=1, max_length=500)]


class HoldList(msgspec.Struct, frozen=True):
    """What holds rows, by project."""

    items: list[Hold]


async def _list_audit(call: Call) -> Response:
    asked = _question(call, int(number(call.request, "limit", 100, 1, LIMIT_MAX)))
    found = await call.plane.database.reading(lambda connection: audit.find(connection, asked))
    return reply(AuditList([_entry(row) for row in found]))


async def _audit_row(call: Call) -> Response:
    text = call.request.path_params["sequence"]
    if not (text.isascii() and text.isdecimal()) or len(text) > 15:
        raise InvalidInput(f"{text[:64]!r} is not the number of a row", field="sequence")
    return reply(_entry(await call.plane.database.reading(lambda connection: audit.get(connection, int(text)))))


async def _list_of_project(call: Call) -> Response:
    project, before = call.request.path_params["project"], call.request.query_params.get("before", "")
    asked = _question(call, int(number(call.request, "limit", 100, 1, LIMIT_MAX)), "")
    reading = call.plane.database.reading

    def begin(connection: Connection) -> audit_project.Look:
        return audit_project.begin(connection, project, asked, _made_us(connection, project), before)

    look = await reading(begin)
    async with call.plane.audit.looking:
        while not look.is_over:
            await reading(partial(audit_project.go_on, look=look))
    return reply(ProjectPage(look.found, look.last if look.has_more else ""))


async def _row_of_project(call: Call) -> Response:
    project, row = call.request.path_params["project"], call.request.path_params["row"]

    def ask(connection: Connection) -> ProjectEvent:
        return audit_project.named(connection, project, row, _made_us(connection, project))[1]

    return reply(await call.plane.database.reading(ask))


def _made_us(connection: Connection, project: str) -> int:
    return int(projects.made_at_s(connection, project) * 1e6)


async def _export_audit(call: Call) -> Response:
    end = await call.plane.database.reading(audit.newest)
    return StreamingResponse(_lines(call, 0 if end is None else end.sequence), media_type=LINES)


async def _lines(call: Call, end: int) -> AsyncIterator[bytes]:
    """Yield the rows up to `end`, the oldest first, a page at a time."""
    asked = _question(call, PAGE)
    at = 0
    while at < end:
        page = await call.plane.database.reading(partial(audit.page, asked=asked, after=at, end=end))
        if not page:
            return
        yield b"".join(exported(row) for row in page)
        at = page[-1].sequence


async def _verify_audit(call: Call) -> Response:
    return reply(await call.plane.audit.verdict())


async def _checkpoints(call: Call) -> Response:
    lines = await call.plane.audit.lines()
    return Response("".join(f"{line}\n" for line in lines), media_type=LINES)


async def _holds(call: Call) -> Response:
    return reply(HoldList(await call.plane.database.reading(audit.holds)))


async def _hold(call: Call) -> Response:
    body = await decoded(call.request, HoldBody)
    project = call.request.path_params["held"]
    made = Hold(project, body.because, time.time(), str(call.key.id) if call.key is not None else "")

    def change(connection: Connection) -> None:
        if project != EVERY_PROJECT and projects.find(connection, project) is None:
            raise NotFound(f"no project {project!r}; {EVERY_PROJECT!r} holds everything")
        known = audit.holds(connection)
        if len(known) >= HOLDS_MAX and project not in {each.project for each in known}:
            raise Conflict(f"there are {HOLDS_MAX} holds already; hold everything")
        audit.hold(connection, made)

    await call.plane.database.writing(change)
    return reply(made)


async def _release_hold(call: Call) -> Response:
    project = call.request.path_params["held"]
    await call.plane.database.writing(lambda connection: audit.release(connection, project))
    return nothing()


def _question(call: Call, limit: int, before: str = "before") -> Question:
    """Return what is asked. before: the parameter that has the number of a row, "" where none has."""
    query = call.request.query_params
    return Question(
        actor=query.get("actor", ""),
        action=query.get("action", ""),
        resource=query.get("resource", ""),
        since_us=int(number(call.request, "since", 0, 0, 1e11) * 1e6),
        until_us=int(number(call.request, "until", 0, 0, 1e11) * 1e6),
        before=int(number(call.request, before, 0, 0, 2**53)) if before else 0,
        limit=limit,
    )


def _entry(row: Row) -> AuditEntry:
    return AuditEntry(chain.event_of(row), row.hash)


_AUDIT: Final = "/api/v1/audit"
_OF_PROJECT: Final = "/api/v1/projects/{project}/audit"
_HOLD: Final = _AUDIT + "/holds/{held}"
_FILTERS: Final = (
    Parameter("actor", str, "only of this key, by its id; platform: what nobody asked for"),
    Parameter("action", str, "only where the operation has this in it, such as DELETE or /keys"),
    Parameter("resource", str, "only about what has this in its name, such as shop/digits"),
    Parameter("since", float, "only from this unix time on", 0, 1e11),
    Parameter("until", float, "only before this unix time", 0, 1e11),
)

OPERATIONS: Final = (
    Operation(
        "GET",
        _AUDIT,
        _list_audit,
        "Who did what, newest first",
        "audit:read",
        where="platform",
        answer=AuditList,
        query=(
            *_FILTERS,
            Parameter("before", int, "only rows before this one", 0, 2**53),
            Parameter("limit", int, f"1 to {LIMIT_MAX}", 1, LIMIT_MAX),
        ),
    ),
    Operation(
        "GET",
        _AUDIT + "/rows/{sequence}",
        _audit_row,
        "One row of the audit",
        "audit:read",
        where="platform",
        answer=AuditEntry,
    ),
    Operation(
        "GET",
        _OF_PROJECT,
        _list_of_project,
        "Who did what in a project, newest first; nothing of others, and of who acts from outside no name",
        "audit:read",
        answer=ProjectPage,
        query=(
            *_FILTERS,
            Parameter(
                "before", str, "only rows before this one, by its name, such as `next`", pattern=views.NAME.pattern
            ),
            Parameter("limit", int, f"1 to {LIMIT_MAX}", 1, LIMIT_MAX),
        ),
    ),
    Operation(
        "GET",
        _OF_PROJECT + "/{row}",
        _row_of_project,
        "One row of a project's audit",
        "audit:read",
        answer=ProjectEvent,
    ),
    Operation(
        "GET",
        _AUDIT + "/export",
        _export_audit,
        "Rows as lines of JSON, oldest first; without filters they can be verified elsewhere",
        "audit:read",
        where="platform",
        query=_FILTERS,
        media=LINES,
        audit="reads",
    ),
    Operation(
        "GET",
        _AUDIT + "/verdict",
        _verify_audit,
        "What the audit is worth",
        "audit:read",
        where="platform",
        answer=AuditVerdict,
    ),
    Operation(
        "GET",
        _AUDIT + "/checkpoints",
        _checkpoints,
        "Signed checkpoints, to keep elsewhere",
        "audit:read",
        where="platform",
        media=LINES,
    ),
    Operation(
        "GET",
        _AUDIT + "/holds",
        _holds,
        "What holds rows of the audit",
        "audit:read",
        where="platform",
        answer=HoldList,
    ),
    Operation(
        "PUT",
        _HOLD,
        _hold,
        "Let no row about a project go, however old; * for all",
        "platform:write",
        where="platform",
        body=HoldBody,
        answer=Hold,
    ),
    Operation("DELETE", _HOLD, _release_hold, "End a hold", "platform:write", where="platform", status=204),
)
