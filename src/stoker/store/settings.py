"""Small named values of the platform itself: its id, the route table's version."""

from typing import Final

from sqlalchemy import Connection, select

from stoker.store import schema
from stoker.store.dialects import upsert

ROUTE_VERSION: Final = "route_version"
ROUTE_DIGEST: Final = "route_digest"
TUNING: Final = "tuning"


def get(connection: Connection, name: str) -> str | None:
    """Return the value, or None when it was never set."""
    return connection.execute(select(schema.meta.c.value).where(schema.meta.c.name == name)).scalar_one_or_none()


def put(connection: Connection, name: str, value: str) -> None:
    """Set the value."""
    connection.execute(upsert(connection, schema.meta, {"name": name}, {"value": value}))
