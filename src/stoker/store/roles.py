"""Roles of one's own as rows, and the members of projects: all that says what a key comes to."""

from typing import Any

import msgspec
from sqlalchemy import Connection, and_, delete, func, insert, select, update

from stoker.core.access import Roles, granted
from stoker.store import projects, schema
from stoker.store.keys import KeyRow
from stoker.types.access import EVERYWHERE, ROLES_MAX, Grant, Member
from stoker.types.errors import Conflict, NotFound
from stoker.types.resources import Role


class Rights(msgspec.Struct, frozen=True):
    """Members by project, and roles, at one moment."""

    members: dict[str, tuple[Member, ...]]
    roles: Roles

    def of(self, key: KeyRow) -> Grant:
        """Return what a key comes to."""
        return granted(key.access, key.project, key.subject, self.members.get(key.project, ()), self.roles)


def find(connection: Connection, project: str, name: str) -> Role | None:
    """Return the role, or None."""
    found = connection.execute(select(schema.roles.c.resource).where(_is(project, name))).scalar_one_or_none()
    return None if found is None else msgspec.json.decode(found, type=Role)


def everything(connection: Connection) -> list[Role]:
    """Return all roles by project and name."""
    table = schema.roles
    rows = connection.execute(select(table.c.resource).order_by(table.c.project, table.c.name))
    return [msgspec.json.decode(row.resource, type=Role) for row in rows]


def put(connection: Connection, role: Role, now_s: float) -> None:
    """Create or replace. Raises NotFound when its project is not there, Conflict over ROLES_MAX."""
    project, name = role.metadata.project, role.metadata.name
    table, text = schema.roles, msgspec.json.encode(role).decode()
    if connection.execute(update(table).where(_is(project, name)).values(resource=text)).rowcount:
        return
    if connection.execute(select(schema.projects.c.name).where(schema.projects.c.name == project)).first() is None:
        raise NotFound(f"no project {project!r}; apply a Project of that name first", field="metadata.project")
    if connection.execute(select(func.count()).select_from(table)).scalar_one() >= ROLES_MAX:
        raise Conflict(f"there are {ROLES_MAX} roles already; delete one first")
    connection.execute(insert(table).values(project=project, name=name, resource=text, created_at_s=now_s))


def remove(connection: Connection, project: str, name: str) -> Role:
    """Delete a role and return it; who has it can do nothing by it any more. Raises NotFound."""
    found = find(connection, project, name)
    if found is None:
        raise NotFound(f"no role {name!r} in project {project!r}")
    connection.execute(delete(schema.roles).where(_is(project, name)))
    return found


def known(connection: Connection) -> Roles:
    """Return every role by where it holds and its name; where one holds everywhere, the first of its name does."""
    found: dict[tuple[str, str], frozenset[Any]] = {}
    for role in everything(connection):
        permissions = frozenset(role.spec.permissions)
        found[str(role.metadata.project), role.metadata.name] = permissions
        if role.spec.all_projects:
            found.setdefault((EVERYWHERE, role.metadata.name), permissions)
    return found


def rights(connection: Connection) -> Rights:
    """Return what says what every key comes to."""
    members = {row.name: row.resource.spec.members for row in projects.everything(connection)}
    return Rights(members, known(connection))


def grant(connection: Connection, key: KeyRow) -> Grant:
    """Return what one key comes to now."""
    found = projects.find(connection, key.project) if key.subject and not key.access.everywhere else None
    return Rights({str(key.project): found.spec.members if found is not None else ()}, known(connection)).of(key)


def _is(project: str, name: str) -> Any:
    return and_(schema.roles.c.project == project, schema.roles.c.name == name)
