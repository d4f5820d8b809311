"""Receivers of alerts as rows."""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, and_, delete, func, insert, select, update

from stoker.store import schema
from stoker.types.errors import Conflict, NotFound
from stoker.types.resources import Notifier

NOTIFIERS_MAX: Final = 200


def find(connection: Connection, project: str, name: str) -> Notifier | None:
    """Return the receiver, or None."""
    found = connection.execute(select(schema.notifiers.c.resource).where(_is(project, name))).scalar_one_or_none()
    return None if found is None else msgspec.json.decode(found, type=Notifier)


def everything(connection: Connection) -> list[Notifier]:
    """Return all receivers by project and name."""
    table = schema.notifiers
    rows = connection.execute(select(table.c.resource).order_by(table.c.project, table.c.name))
    return [msgspec.json.decode(row.resource, type=Notifier) for row in rows]


def put(connection: Connection, notifier: Notifier, now_s: float) -> None:
    """Create or replace. Raises NotFound when its project is not there, Conflict over NOTIFIERS_MAX."""
    project, name = notifier.metadata.project, notifier.metadata.name
    text = msgspec.json.encode(notifier).decode()
    table = schema.notifiers
    if connection.execute(update(table).where(_is(project, name)).values(resource=text)).rowcount:
        return
    if connection.execute(select(schema.projects.c.name).where(schema.projects.c.name == project)).first() is None:
        raise NotFound(f"no project {project!r}; apply a Project of that name first", field="metadata.project")
    if connection.execute(select(func.count()).select_from(table)).scalar_one() >= NOTIFIERS_MAX:
        raise Conflict(f"there are {NOTIFIERS_MAX} notifiers already; delete one first")
    connection.execute(insert(table).values(project=project, name=name, resource=text, created_at_s=now_s))


def remove(connection: Connection, project: str, name: str) -> None:
    """Delete a receiver; what it was yet to be told is told to nobody. Raises NotFound."""
    if not connection.execute(delete(schema.notifiers).where(_is(project, name))).rowcount:
        raise NotFound(f"no notifier {name!r} in project {project!r}")


def _is(project: str, name: str) -> Any:
    return and_(schema.notifiers.c.project == project, schema.notifiers.c.name == name)
