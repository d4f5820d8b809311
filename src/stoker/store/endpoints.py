"""Endpoints as rows."""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, and_, delete, func, insert, select, update

from stoker.core.snapshot import EndpointState
from stoker.store import scaling, schema, shapes, starts
from stoker.types.errors import Conflict, NotFound
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.resources import Endpoint
from stoker.types.statuses import EndpointStatus

ENDPOINTS_MAX: Final = 10_000


def find(connection: Connection, project: str, name: str, *, is_locked: bool = False) -> EndpointState | None:
    """Return the endpoint, also while it is being deleted, or None.

    is_locked: nobody else writes it before the end of the transaction (SQLite has one writer at any time).
    """
    ask = select(schema.endpoints).where(_is(project, name))
    row = connection.execute(ask.with_for_update() if is_locked else ask).one_or_none()
    return None if row is None else _state(row)


def get(connection: Connection, project: str, name: str) -> EndpointState:
    """Return the endpoint. Raises NotFound."""
    found = find(connection, project, name)
    if found is None:
        raise NotFound(f"no endpoint {name!r} in project {project!r}")
    return found


def everything(connection: Connection, project: str | None = None) -> list[EndpointState]:
    """Return all endpoints by project and name, of one project where given."""
    table = schema.endpoints
    ask = select(table).order_by(table.c.project, table.c.name)
    if project is not None:
        ask = ask.where(table.c.project == project)
    return [_state(row) for row in connection.execute(ask)]


def put(connection: Connection, resource: Endpoint, pinned: int, now_s: float) -> EndpointState:
    """Create the endpoint, or replace its resource as a new generation; one being deleted lives again.

    Raises Conflict over ENDPOINTS_MAX; NotFound when its project is not there.
    """
    project, name = resource.metadata.project, resource.metadata.name
    text = msgspec.json.encode(resource).decode()
    table = schema.endpoints
    done = connection.execute(
        update(table)
        .where(_is(project, name))
        .values(resource=text, pinned=pinned, generation=table.c.generation + 1, is_deleting=False)
    )
    if not done.rowcount:
        if connection.execute(select(schema.projects.c.name).where(schema.projects.c.name == project)).first() is None:
            raise NotFound(f"no project {project!r}; apply a Project of that name first", field="metadata.project")
        if connection.execute(select(func.count()).select_from(table)).scalar_one() >= ENDPOINTS_MAX:
            raise Conflict(f"there are {ENDPOINTS_MAX} endpoints already")
        connection.execute(
            insert(table).values(
                project=project,
                name=name,
                generation=1,
                resource=text,
                created_at_s=now_s,
                is_deleting=False,
                serving="",
                last_number=0,
                pinned=pinned,
                status=msgspec.json.encode(EndpointStatus()).decode(),
            )
        )
    return get(connection, project, name)


def mark_deleting(connection: Connection, project: str, name: str) -> None:
    """Ask for the endpoint's end: it takes no traffic from now on. Raises NotFound."""
    done = connection.execute(update(schema.endpoints).where(_is(project, name)).values(is_deleting=True, serving=""))
    if not done.rowcount:
        raise NotFound(f"no endpoint {name!r} in project {project!r}")


def set_serving(connection: Connection, project: str, name: str, revision: str) -> None:
    """Give the traffic to `revision`."""
    connection.execute(update(schema.endpoints).where(_is(project, name)).values(serving=revision))


def set_last_number(connection: Connection, project: str, name: str, number: int) -> None:
    """Remember the newest revision's number."""
    connection.execute(update(schema.endpoints).where(_is(project, name)).values(last_number=number))


def set_status(connection: Connection, project: str, name: str, status: EndpointStatus) -> None:
    """Store what was seen. Does nothing when the endpoint is gone."""
    text = msgspec.json.encode(status).decode()
    connection.execute(update(schema.endpoints).where(_is(project, name)).values(status=text))


def remove(connection: Connection, project: str, name: str) -> bool:
    """Drop an endpoint that is being deleted, with its revisions; False when it lives again or is gone."""
    table = schema.endpoints
    found = find(connection, project, name)
    if found is None or not found.is_deleting:
        return False
    here = and_(schema.revisions.c.project == project, schema.revisions.c.endpoint == name)
    connection.execute(delete(schema.revisions).where(here))
    held = and_(schema.golden_sets.c.project == project, schema.golden_sets.c.endpoint == name)
    connection.execute(delete(schema.golden_sets).where(held))
    scaling.forget(connection, project, name)
    starts.forget(connection, project, name)
    shapes.forget(connection, project, name)
    connection.execute(delete(table).where(_is(project, name)))
    return True


def _is(project: str, name: str) -> Any:
    return and_(schema.endpoints.c.project == project, schema.endpoints.c.name == name)


def _state(row: Row[tuple[object, ...]]) -> EndpointState:
    return EndpointState(
        project=ProjectName(row.project),
        name=EndpointName(row.name),
        generation=row.generation,
        resource=msgspec.json.decode(row.resource, type=Endpoint),
        created_at_s=row.created_at_s,
        is_deleting=row.is_deleting,
        serving=row.serving,
        last_number=row.last_number,
        pinned=row.pinned,
        status=msgspec.json.decode(row.status, type=EndpointStatus),
    )
