"""What scaling remembers of each endpoint, and its last decisions with their inputs, as rows."""

from typing import Final

import msgspec
from sqlalchemy import Connection, and_, delete, insert, select

from stoker.core.scale.memory import Memory
from stoker.core.scale.record import Record
from stoker.core.snapshot import EndpointKey
from stoker.store import schema
from stoker.store.dialects import upsert
from stoker.types.ids import EndpointName, ProjectName

RECORDS_MAX: Final = 500  # of an endpoint: the newest

_memory = msgspec.json.Decoder(Memory)
_record = msgspec.json.Decoder(Record)


def memories(connection: Connection) -> dict[EndpointKey, Memory]:
    """Return what is remembered, by endpoint."""
    rows = connection.execute(select(schema.scaling))
    return {(ProjectName(row.project), EndpointName(row.endpoint)): _memory.decode(row.memory) for row in rows}


def remember(connection: Connection, key: EndpointKey, memory: Memory) -> None:
    """Keep `memory` instead of what was remembered of the endpoint."""
    whose = {"project": key[0], "endpoint": key[1]}
    connection.execute(upsert(connection, schema.scaling, whose, {"memory": msgspec.json.encode(memory).decode()}))


def add(connection: Connection, key: EndpointKey, found: Record) -> None:
    """Keep a decision, and drop those over RECORDS_MAX."""
    table = schema.scale_decisions
    values = {"project": key[0], "endpoint": key[1], "at_s": found.at_s, "record": msgspec.json.encode(found).decode()}
    connection.execute(insert(table).values(**values))
    whose = and_(table.c.project == key[0], table.c.endpoint == key[1])
    newest = select(table.c.number).where(whose).order_by(table.c.number.desc())
    last = connection.execute(newest.offset(RECORDS_MAX).limit(1)).scalar()
    if last is not None:
        connection.execute(delete(table).where(and_(whose, table.c.number <= last)))


def records(
    connection: Connection, project: str, endpoint: str, limit: int, until_s: float | None = None
) -> list[Record]:
    """Return the newest decisions about an endpoint first, none later than `until_s`."""
    table = schema.scale_decisions
    ask = select(table.c.record).where(and_(table.c.project == project, table.c.endpoint == endpoint))
    if until_s is not None:
        ask = ask.where(table.c.at_s <= until_s)
    return [_record.decode(row.record) for row in connection.execute(ask.order_by(table.c.number.desc()).limit(limit))]


def forget(connection: Connection, project: str, endpoint: str) -> None:
    """Drop all that is kept of an endpoint."""
    for table in (schema.scaling, schema.scale_decisions):
        connection.execute(delete(table).where(and_(table.c.project == project, table.c.endpoint == endpoint)))
