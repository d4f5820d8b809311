"""What was decided and done, when and why; the newest JOURNAL_MAX entries."""

from typing import Final

import msgspec
from sqlalchemy import Connection, delete, func, insert, select

from stoker.store import schema

JOURNAL_MAX: Final = 20_000
PRUNE_EVERY: Final = 256  # entries between two looks at the length


class Entry(msgspec.Struct, frozen=True):
    """One decision. `subject` is what it acted on: a replica, a revision, a version."""

    at_s: float
    action: str
    because: str
    project: str = ""
    endpoint: str = ""
    subject: str = ""
    sequence: int = 0


def add(connection: Connection, entry: Entry) -> None:
    """Append an entry, and drop the oldest now and then."""
    values = msgspec.structs.asdict(entry)
    del values["sequence"]
    done = connection.execute(insert(schema.journal).values(**values))
    key = done.inserted_primary_key
    sequence = int(key[0]) if key is not None else 0
    if sequence % PRUNE_EVERY == 0:
        connection.execute(delete(schema.journal).where(schema.journal.c.sequence <= sequence - JOURNAL_MAX))


def last(
    connection: Connection,
    limit: int,
    project: str | None = None,
    endpoint: str | None = None,
    until_s: float | None = None,
) -> list[Entry]:
    """Return the newest entries first, of one project and endpoint where given, none later than `until_s`."""
    table = schema.journal
    ask = select(table).order_by(table.c.sequence.desc()).limit(limit)
    if project is not None:
        ask = ask.where(table.c.project == project)
    if endpoint is not None:
        ask = ask.where(table.c.endpoint == endpoint)
    if until_s is not None:
        ask = ask.where(table.c.at_s <= until_s)
    return [Entry(**row._mapping) for row in connection.execute(ask)]


def count(connection: Connection) -> int:
    """Return how many entries there are."""
    return int(connection.execute(select(func.count()).select_from(schema.journal)).scalar_one())
