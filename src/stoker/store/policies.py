"""Admission policies as rows."""

from typing import Any

import msgspec
from sqlalchemy import Connection, and_, delete, func, insert, select, update

from stoker.store import schema
from stoker.types.errors import Conflict, NotFound
from stoker.types.policies import POLICIES_MAX
from stoker.types.resources import Policy


def find(connection: Connection, project: str, name: str) -> Policy | None:
    """Return the policy, or None."""
    found = connection.execute(select(schema.policies.c.resource).where(_is(project, name))).scalar_one_or_none()
    return None if found is None else msgspec.json.decode(found, type=Policy)


def everything(connection: Connection) -> list[Policy]:
    """Return all policies by project and name."""
    table = schema.policies
    rows = connection.execute(select(table.c.resource).order_by(table.c.project, table.c.name))
    return [msgspec.json.decode(row.resource, type=Policy) for row in rows]


def put(connection: Connection, policy: Policy, now_s: float) -> None:
    """Create or replace. Raises NotFound when its project is not there, Conflict over POLICIES_MAX."""
    project, name = policy.metadata.project, policy.metadata.name
    text = msgspec.json.encode(policy).decode()
    table = schema.policies
    if connection.execute(update(table).where(_is(project, name)).values(resource=text)).rowcount:
        return
    if connection.execute(select(schema.projects.c.name).where(schema.projects.c.name == project)).first() is None:
        raise NotFound(f"no project {project!r}; apply a Project of that name first", field="metadata.project")
    if connection.execute(select(func.count()).select_from(table)).scalar_one() >= POLICIES_MAX:
        raise Conflict(f"there are {POLICIES_MAX} policies already; delete one first")
    connection.execute(insert(table).values(project=project, name=name, resource=text, created_at_s=now_s))


def remove(connection: Connection, project: str, name: str) -> None:
    """Delete a policy. Raises NotFound."""
    if not connection.execute(delete(schema.policies).where(_is(project, name))).rowcount:
        raise NotFound(f"no policy {name!r} in project {project!r}")


def _is(project: str, name: str) -> Any:
    return and_(schema.policies.c.project == project, schema.policies.c.name == name)
