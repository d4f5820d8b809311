"""Incidents as rows: the newest INCIDENTS_MAX, at most one of an endpoint open."""

from typing import Final

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from stoker.core.diagnose.incident import Incident
from stoker.store import schema
from stoker.types.errors import NotFound

INCIDENTS_MAX: Final = 1_000  # a record takes 5 to 40 kB


def add(connection: Connection, incident: Incident) -> Incident:
    """Store a new incident and return it with its number; the oldest over INCIDENTS_MAX go."""
    done = connection.execute(insert(schema.incidents).values(**_columns(incident)))
    key = done.inserted_primary_key
    number = int(key[0]) if key is not None else 0
    connection.execute(delete(schema.incidents).where(schema.incidents.c.number <= number - INCIDENTS_MAX))
    return msgspec.structs.replace(incident, number=number)


def put(connection: Connection, incident: Incident) -> None:
    """Store what an incident has become; one that was pruned meanwhile stays gone."""
    table = schema.incidents
    connection.execute(update(table).where(table.c.number == incident.number).values(**_columns(incident)))


def get(connection: Connection, number: int) -> Incident:
    """Return the incident. Raises NotFound."""
    row = connection.execute(select(schema.incidents).where(schema.incidents.c.number == number)).one_or_none()
    if row is None:
        raise NotFound(unknown(number))
    return _incident(row)


def unknown(number: int) -> str:
    """Return what is said of an incident that is not there."""
    return f"no incident {number}; `stoker incidents` lists them"


def last_of(connection: Connection, project: str, endpoint: str) -> Incident | None:
    """Return the newest incident of an endpoint, open or not."""
    table = schema.incidents
    ask = select(table).where(table.c.project == project, table.c.endpoint == endpoint)
    row = connection.execute(ask.order_by(table.c.number.desc()).limit(1)).one_or_none()
    return None if row is None else _incident(row)


def of(connection: Connection, project: str, endpoint: str, limit: int) -> list[Incident]:
    """Return the newest incidents of an endpoint, the newest first."""
    table = schema.incidents
    ask = select(table).where(table.c.project == project, table.c.endpoint == endpoint)
    return [_incident(row) for row in connection.execute(ask.order_by(table.c.number.desc()).limit(limit))]


def live(connection: Connection, since_s: float, limit: int) -> list[Incident]:
    """Return the newest incidents that are open or were closed after `since_s` (unix)."""
    table = schema.incidents
    ask = select(table).where((table.c.closed_at_s == 0.0) | (table.c.closed_at_s > since_s))
    return [_incident(row) for row in connection.execute(ask.order_by(table.c.number.desc()).limit(limit))]


def newest(
    connection: Connection, limit: int, *, only_open: bool = False, project: str | None = None
) -> list[Incident]:
    """Return incidents, of one project or of all, the newest first."""
    table = schema.incidents
    ask = select(table).order_by(table.c.number.desc()).limit(limit)
    if project is not None:
        ask = ask.where(table.c.project == project)
    if only_open:
        ask = ask.where(table.c.closed_at_s == 0.0)
    return [_incident(row) for row in connection.execute(ask)]


def _columns(incident: Incident) -> dict[str, object]:
    return {
        "project": incident.project,
        "endpoint": incident.endpoint,
        "closed_at_s": incident.closed_at_s,
        "record": msgspec.json.encode(incident).decode(),
    }


def _incident(row: Row[tuple[object, ...]]) -> Incident:
    return msgspec.structs.replace(msgspec.json.decode(row.record, type=Incident), number=row.number)
