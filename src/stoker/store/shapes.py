"""What is known of the shapes of an endpoint's engine calls, as rows."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, and_, delete, select

from stoker.core.snapshot import EndpointKey
from stoker.store import schema
from stoker.store.dialects import upsert
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.shapes import ShapeCost


class Known(msgspec.Struct, frozen=True):
    """What was known at `at_s` (unix time)."""

    at_s: float = 0.0
    costs: tuple[ShapeCost, ...] = ()


_costs = msgspec.json.Decoder(tuple[ShapeCost, ...])


def everything(connection: Connection) -> dict[EndpointKey, Known]:
    """Return what is known, by endpoint."""
    rows = connection.execute(select(schema.shapes))
    return {
        (ProjectName(row.project), EndpointName(row.endpoint)): Known(row.at_s, _costs.decode(row.costs))
        for row in rows
    }


def of_endpoint(connection: Connection, project: str, endpoint: str) -> tuple[ShapeCost, ...]:
    """Return what is known of one endpoint, the most called first."""
    table = schema.shapes
    ask = select(table.c.costs).where(and_(table.c.project == project, table.c.endpoint == endpoint))
    found = connection.execute(ask).scalar()
    return _costs.decode(found) if found is not None else ()


def keep(connection: Connection, key: EndpointKey, costs: Sequence[ShapeCost], at_s: float) -> None:
    """Keep `costs` instead of what was known of the endpoint."""
    values = {"at_s": at_s, "costs": msgspec.json.encode(costs).decode()}
    connection.execute(upsert(connection, schema.shapes, {"project": key[0], "endpoint": key[1]}, values))


def forget(connection: Connection, project: str, endpoint: str) -> None:
    """Drop what is known of an endpoint."""
    table = schema.shapes
    connection.execute(delete(table).where(and_(table.c.project == project, table.c.endpoint == endpoint)))
