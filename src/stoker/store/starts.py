"""What starts of replicas took, as rows: the newest of each endpoint."""

from collections.abc import Collection
from typing import Final

import msgspec
from sqlalchemy import Connection, and_, delete, select

from stoker.store import schema
from stoker.store.dialects import upsert
from stoker.types.starts import Start

STARTS_MAX: Final = 200  # of an endpoint: the newest

_start = msgspec.json.Decoder(Start)


def keep(connection: Connection, project: str, endpoint: str, start: Start) -> None:
    """Keep what is known of a start, instead of what was known before; drop those over STARTS_MAX."""
    table = schema.starts
    which = {"project": project, "endpoint": endpoint, "replica": start.replica, "at_s": start.at_s}
    connection.execute(upsert(connection, table, which, {"start": msgspec.json.encode(start).decode()}))
    whose = and_(table.c.project == project, table.c.endpoint == endpoint)
    newest = select(table.c.at_s).where(whose).order_by(table.c.at_s.desc())
    last = connection.execute(newest.offset(STARTS_MAX).limit(1)).scalar()
    if last is not None:
        connection.execute(delete(table).where(and_(whose, table.c.at_s <= last)))


def newest(connection: Connection, replicas: Collection[str]) -> dict[str, Start]:
    """Return the newest start that is known of each of `replicas`."""
    table = schema.starts
    ask = select(table.c.start).where(table.c.replica.in_(replicas)).order_by(table.c.at_s)
    return {start.replica: start for start in (_start.decode(row.start) for row in connection.execute(ask))}


def of_endpoint(connection: Connection, project: str, endpoint: str, limit: int = STARTS_MAX) -> list[Start]:
    """Return the starts of an endpoint's replicas, the newest first."""
    table = schema.starts
    ask = select(table.c.start).where(and_(table.c.project == project, table.c.endpoint == endpoint))
    return [_start.decode(row.start) for row in connection.execute(ask.order_by(table.c.at_s.desc()).limit(limit))]


def forget(connection: Connection, project: str, endpoint: str) -> None:
    """Drop all that is kept of an endpoint."""
    table = schema.starts
    connection.execute(delete(table).where(and_(table.c.project == project, table.c.endpoint == endpoint)))
