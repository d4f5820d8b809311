"""Projects as rows."""

from typing import Final

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from stoker.store import schema, schema_budgets
from stoker.types.errors import Conflict, NotFound
from stoker.types.quotas import ProjectQuota
from stoker.types.resources import Project

PROJECTS_MAX: Final = 10_000
_NO_QUOTA: Final = '"quota":{}'  # as it is written; within a text its quotes would be escaped


class ProjectRow(msgspec.Struct, frozen=True):
    """A project as stored."""

    name: str
    resource: Project
    created_at_s: float
    endpoints: int = 0


def find(connection: Connection, name: str) -> Project | None:
    """Return the project, or None."""
    found = connection.execute(
        select(schema.projects.c.resource).where(schema.projects.c.name == name)
    ).scalar_one_or_none()
    return None if found is None else msgspec.json.decode(found, type=Project)


def made_at_s(connection: Connection, name: str) -> float:
    """Return when the project was made. Raises NotFound."""
    found = connection.execute(select(schema.projects.c.created_at_s).where(schema.projects.c.name == name)).scalar()
    if found is None:
        raise NotFound(f"there is no project {name!r}")
    return float(found)


def everything(connection: Connection) -> list[ProjectRow]:
    """Return all projects by name, with how many endpoints each has."""
    table, endpoints = schema.projects, schema.endpoints
    counts = (
        select(endpoints.c.project, func.count().label("endpoints")).group_by(endpoints.c.project).subquery("counts")
    )
    rows = connection.execute(
        select(table, func.coalesce(counts.c.endpoints, 0).label("endpoints"))
        .select_from(table.outerjoin(counts, counts.c.project == table.c.name))
        .order_by(table.c.name)
    )
    return [
        ProjectRow(row.name, msgspec.json.decode(row.resource, type=Project), row.created_at_s, row.endpoints)
        for row in rows
    ]


def quotas(connection: Connection) -> dict[str, ProjectQuota]:
    """Return the quotas of the projects that have one, by name: of a thousand projects most have none."""
    table = schema.projects
    ask = select(table.c.name, table.c.resource).where(table.c.resource.not_like(f"%{_NO_QUOTA}%"))
    return {row.name: msgspec.json.decode(row.resource, type=Project).spec.quota for row in connection.execute(ask)}


def names(connection: Connection) -> list[str]:
    """Return the names of all projects."""
    return list(connection.execute(select(schema.projects.c.name).order_by(schema.projects.c.name)).scalars())


def put(connection: Connection, project: Project, now_s: float) -> None:
    """Create or replace. Raises Conflict over PROJECTS_MAX."""
    name, text = project.metadata.name, msgspec.json.encode(project).decode()
    if connection.execute(update(schema.projects).where(schema.projects.c.name == name).values(resource=text)).rowcount:
        return
    if connection.execute(select(func.count()).select_from(schema.projects)).scalar_one() >= PROJECTS_MAX:
        raise Conflict(f"there are {PROJECTS_MAX} projects already; delete one first")
    connection.execute(insert(schema.projects).values(name=name, resource=text, created_at_s=now_s))


def remove(connection: Connection, name: str) -> None:
    """Delete an empty project. Raises NotFound, or Conflict naming what is still in it."""
    if find(connection, name) is None:
        raise NotFound(f"no project {name!r}")
    for table, noun in (
        (schema.endpoints, "endpoint"),
        (schema.keys, "key"),
        (schema.notifiers, "notifier"),
        (schema.policies, "policy"),
        (schema.roles, "role"),
        (schema_budgets.budgets, "budget"),
    ):
        first = connection.execute(select(table.c.name).where(table.c.project == name).limit(1)).scalar_one_or_none()
        if first is not None:
            raise Conflict(f"project {name!r} is not empty: delete its {noun} {first!r} first")
    connection.execute(delete(schema.trust_roots).where(schema.trust_roots.c.project == name))
    connection.execute(delete(schema.projects).where(schema.projects.c.name == name))
