"""The audit as rows: appended in the transaction of what they tell of, read, and dropped only as a prefix.

One writer at a time has the database (store/engine.py), and a sequence is a primary key: the chain cannot fork.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Select, delete, func, insert, or_, select

from stoker.core.audit import chain
from stoker.store import schema_audit
from stoker.store.dialects import upsert
from stoker.types.audit import EVERY_PROJECT, Act, Checkpoint, Hold, Row
from stoker.types.errors import NotFound

HOLDS_MAX: Final = 1000
READ_AT_ONCE: Final = 1000
APPENDED: Final = "stoker_audit_appended"  # in a connection's info, until its transaction has ended

_ROWS: Final = schema_audit.audit
_CHECKPOINTS: Final = schema_audit.audit_checkpoints
_HOLDS: Final = schema_audit.audit_holds


class Question(msgspec.Struct, frozen=True):
    """Which rows are wanted. `resource`: a part of what they are about. `before`: a sequence, 0 for none."""

    actor: str = ""
    action: str = ""
    resource: str = ""
    since_us: int = 0
    until_us: int = 0
    before: int = 0
    limit: int = 100


def append(connection: Connection, act: Act) -> Row:
    """Write an act down at the end, in the caller's transaction."""
    last = newest(connection)
    row = chain.row(act, 1, chain.ROOT) if last is None else chain.row(act, last.sequence + 1, last.hash)
    connection.execute(insert(_ROWS).values(**msgspec.structs.asdict(row)))
    connection.info[APPENDED] = row
    return row


def newest(connection: Connection) -> Row | None:
    """Return the last row; where all were dropped, one that only says the sequence and hash it had."""
    found = connection.execute(select(_ROWS).order_by(_ROWS.c.sequence.desc()).limit(1)).first()
    if found is not None:
        return Row(**found._mapping)
    line = connection.execute(select(_CHECKPOINTS.c.line).order_by(_CHECKPOINTS.c.number.desc()).limit(1)).scalar()
    end = chain.checkpoint_of(line) if line is not None else None
    return None if end is None else Row(end.sequence, 0, "", "", "", "", end.hash)


def get(connection: Connection, sequence: int) -> Row:
    """Return one row. Raises NotFound."""
    found = connection.execute(select(_ROWS).where(_ROWS.c.sequence == sequence)).first()
    if found is None:
        raise NotFound(f"the audit has no row {sequence}")
    return Row(**found._mapping)


def find(connection: Connection, asked: Question) -> list[Row]:
    """Return the newest rows first."""
    ask = narrowed(asked).order_by(_ROWS.c.sequence.desc()).limit(asked.limit)
    return [Row(**row._mapping) for row in connection.execute(ask)]


def page(connection: Connection, asked: Question, after: int, end: int) -> list[Row]:
    """Return rows after one and up to another, the oldest first."""
    ask = narrowed(asked).where(_ROWS.c.sequence > after, _ROWS.c.sequence <= end)
    return [Row(**row._mapping) for row in connection.execute(ask.order_by(_ROWS.c.sequence).limit(asked.limit))]


def narrowed(asked: Question) -> Select[Any]:
    """Return the rows that are wanted, all of them and in no order."""
    ask = select(_ROWS)
    if asked.actor:
        ask = ask.where(_ROWS.c.actor == asked.actor)
    if asked.action:
        ask = ask.where(_ROWS.c.action.contains(asked.action, autoescape=True))
    if asked.resource:
        ask = ask.where(_ROWS.c.resources.contains(asked.resource, autoescape=True))
    if asked.since_us:
        ask = ask.where(_ROWS.c.at_us >= asked.since_us)
    if asked.until_us:
        ask = ask.where(_ROWS.c.at_us < asked.until_us)
    if asked.before:
        ask = ask.where(_ROWS.c.sequence < asked.before)
    return ask


def everything(connection: Connection, after: int = 0) -> Iterator[Row]:
    """Yield the rows after a sequence, the oldest first, a few at a time from the disk."""
    while True:
        ask = select(_ROWS).where(_ROWS.c.sequence > after).order_by(_ROWS.c.sequence).limit(READ_AT_ONCE)
        rows = [Row(**row._mapping) for row in connection.execute(ask)]
        if not rows:
            return
        yield from rows
        after = rows[-1].sequence


def lines(connection: Connection) -> list[str]:
    """Return the checkpoints as the lines they are in their file."""
    return list(connection.execute(select(_CHECKPOINTS.c.line).order_by(_CHECKPOINTS.c.number)).scalars())


def last_checkpoint(connection: Connection, before_us: int = 0) -> Checkpoint | None:
    """Return the newest checkpoint, of those before that moment where one is given; None where there is none."""
    ask = select(_CHECKPOINTS.c.line).order_by(_CHECKPOINTS.c.number.desc()).limit(1)
    if before_us:
        ask = ask.where(_CHECKPOINTS.c.at_us < before_us)
    line = connection.execute(ask).scalar()
    return chain.checkpoint_of(line) if line is not None else None


def checkpoint_until(connection: Connection, sequence: int, before_us: int) -> Checkpoint | None:
    """Return the newest checkpoint over no row after `sequence` that was made before that moment."""
    ask = select(_CHECKPOINTS.c.line).where(_CHECKPOINTS.c.at_us < before_us, _CHECKPOINTS.c.sequence <= sequence)
    line = connection.execute(ask.order_by(_CHECKPOINTS.c.number.desc()).limit(1)).scalar()
    return chain.checkpoint_of(line) if line is not None else None


def add_checkpoint(connection: Connection, made: Checkpoint) -> None:
    """Store a checkpoint."""
    connection.execute(
        insert(_CHECKPOINTS).values(number=made.number, at_us=made.at_us, sequence=made.sequence, line=chain.line(made))
    )


def drop(connection: Connection, root: Checkpoint, after: Sequence[Checkpoint]) -> int:
    """Drop the rows up to a signed root, and every checkpoint but it and those `after` it; return how many rows."""
    gone = connection.execute(delete(_ROWS).where(_ROWS.c.sequence <= root.sequence)).rowcount
    connection.execute(delete(_CHECKPOINTS))
    for each in (root, *after):
        add_checkpoint(connection, each)
    return gone


def first_about(connection: Connection, project: str) -> int | None:
    """Return the first row about a project, by any of its resources; of EVERY_PROJECT the first there is."""
    ask = select(func.min(_ROWS.c.sequence))
    if project != EVERY_PROJECT:
        inside = (f" {project}/", f" {project}\n", f"/{project}/", f"/{project}\n")
        ask = ask.where(or_(*(_ROWS.c.resources.contains(text, autoescape=True) for text in inside)))
    found = connection.execute(ask).scalar()
    return None if found is None else int(found)


def holds(connection: Connection) -> list[Hold]:
    """Return what holds rows, by project."""
    return [Hold(**row._mapping) for row in connection.execute(select(_HOLDS).order_by(_HOLDS.c.project))]


def hold(connection: Connection, wanted: Hold) -> None:
    """Hold the rows about a project, or say anew why."""
    values = msgspec.structs.asdict(wanted)
    connection.execute(upsert(connection, _HOLDS, {"project": values.pop("project")}, values))


def release(connection: Connection, project: str) -> None:
    """End a hold. Raises NotFound."""
    if not connection.execute(delete(_HOLDS).where(_HOLDS.c.project == project)).rowcount:
        raise NotFound(f"nothing holds the audit of {project!r}")
