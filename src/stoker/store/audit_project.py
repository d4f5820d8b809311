"""The audit as one project may see it (core/audit/views.py), read a stretch at a time.

No index knows projects: each row is looked at. All of control reads through two connections (store/engine.py), so no
look takes longer than a stretch does, about 20 ms, and control has one such question at a time.
"""

from dataclasses import dataclass, field
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from stoker.core.audit import views
from stoker.store import audit, schema_audit
from stoker.store.audit import Question
from stoker.types.audit import ProjectEvent, Row
from stoker.types.errors import NotFound

STRETCH: Final = 20_000  # rows, by their sequence
LOOK_MAX: Final = 5000  # of the project's own that are read for a page: filters may pass over all of them
_AT_ONCE: Final = 250

_ROWS: Final = schema_audit.audit


@dataclass(slots=True)
class Look:
    """A page in the making. `asked.before`: where to go on. since_us: when the project was made; another may have had
    its name before. last: the name of the newest row that was looked at. is_over: the page is; has_more: there are
    older rows.
    """

    project: str
    asked: Question
    since_us: int
    found: list[ProjectEvent] = field(default_factory=list)
    looked: int = 0
    last: str = ""
    is_over: bool = False
    has_more: bool = False


def begin(connection: Connection, project: str, asked: Question, since_us: int, before: str) -> Look:
    """Return the look at a page behind the row that the project knows as `before`; "": from the newest on."""
    if before:
        behind = named(connection, project, before, since_us)[0]
    else:
        behind = (connection.execute(select(func.max(_ROWS.c.sequence))).scalar() or 0) + 1
    return Look(project, msgspec.structs.replace(asked, before=behind), since_us)


def go_on(connection: Connection, look: Look) -> None:
    """Look at the next stretch, from newer to older rows; it may be the last."""
    floor = max(look.asked.before - STRETCH, 0)
    coarse = msgspec.structs.replace(
        look.asked, actor="", resource="", since_us=max(look.asked.since_us, look.since_us)
    )
    while True:
        ask = audit.narrowed(coarse).where(_ROWS.c.sequence >= floor, _is_about(look.project))
        rows = [
            Row(**row._mapping) for row in connection.execute(ask.order_by(_ROWS.c.sequence.desc()).limit(_AT_ONCE))
        ]
        for row in rows:
            if not _take(look, row):
                look.is_over = look.has_more = True
                return
        if len(rows) < _AT_ONCE:
            break
        coarse = msgspec.structs.replace(coarse, before=rows[-1].sequence)
    first = connection.execute(select(func.min(_ROWS.c.sequence))).scalar() or 0
    look.asked = msgspec.structs.replace(look.asked, before=floor)
    look.is_over = floor <= first


def named(connection: Connection, project: str, called: str, since_us: int) -> tuple[int, ProjectEvent]:
    """Return the sequence of the row that a project knows by that name, and what it may see of it. Raises NotFound."""
    at_us = views.moment_us(called)
    if at_us is not None and at_us >= since_us:
        for row in connection.execute(select(_ROWS).where(_ROWS.c.at_us == at_us)):
            one = Row(**row._mapping)
            event = views.shown(one, project) if views.name(one) == called else None
            if event is not None:
                return one.sequence, event
    raise NotFound(f"the audit of project {project!r} has no row {called[:64]!r}; those older than is kept are gone")


def _take(look: Look, row: Row) -> bool:
    """Take a row into the page where it belongs there; return False where the page is full before it."""
    event = views.shown(row, look.project)
    if event is None:
        return True
    if len(look.found) == look.asked.limit or look.looked == LOOK_MAX:
        return False
    look.looked, look.last = look.looked + 1, event.row
    asked = look.asked
    if views.is_wanted(event, actor=asked.actor, action=asked.action, resource=asked.resource):
        look.found.append(event)
    return True


def _is_about(project: str) -> ColumnElement[bool]:
    """Return what no row about the project fails; core/audit/views.py decides. First what is told by few looks."""

    def has(*texts: str) -> ColumnElement[bool]:
        return or_(*(_ROWS.c.resources.contains(text, autoescape=True) for text in texts))

    exact = tuple(f"\n{kind} {project}\n" for kind in views.KINDS)
    inside = tuple(f"\n{text}" for text in views.beginnings(project))
    return and_(has(f" {project}\n", f" {project}/", f" {project}.", f"\nprojects/{project}/"), has(*exact, *inside))
