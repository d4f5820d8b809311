"""What the watch over objectives remembers, as one value: written whole when it changed, so never half.

Its size is bounded by what it holds: core/notices.py and core/alerts.py name the maxima.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection, insert, select, update

from stoker.core.notices import AlertMemory
from stoker.core.slo import SloMemory
from stoker.store import schema

_NAME: Final = "alerts"


class WatchMemory(msgspec.Struct, frozen=True):
    """Alerts, and by "project/endpoint/objective" which rules fire.

    parts: whom objectives judge that judge each by itself, by the same key (core/parts.py).
    """

    alerts: AlertMemory = AlertMemory()
    slos: dict[str, SloMemory] = {}
    parts: dict[str, tuple[str, ...]] = {}


class _Followed(msgspec.Struct):
    parts: dict[str, tuple[str, ...]] = {}


def load(connection: Connection) -> WatchMemory:
    """Return what was stored last; an empty one before the first time."""
    found = connection.execute(select(schema.watch.c.value).where(schema.watch.c.name == _NAME)).scalar_one_or_none()
    return WatchMemory() if found is None else msgspec.json.decode(found, type=WatchMemory)


def followed(connection: Connection) -> dict[str, tuple[str, ...]]:
    """Return the `parts` of what was stored last, and read nothing else of it."""
    found = connection.execute(select(schema.watch.c.value).where(schema.watch.c.name == _NAME)).scalar_one_or_none()
    return {} if found is None else msgspec.json.decode(found, type=_Followed).parts


def save(connection: Connection, memory: WatchMemory) -> None:
    """Replace what was stored."""
    text = msgspec.json.encode(memory).decode()
    table = schema.watch
    if not connection.execute(update(table).where(table.c.name == _NAME).values(value=text)).rowcount:
        connection.execute(insert(table).values(name=_NAME, value=text))
