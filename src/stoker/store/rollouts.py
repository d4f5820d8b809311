"""Rollouts as rows, with their timelines, and what people and judges said of them."""

from collections.abc import Iterable
from typing import Final

import msgspec
from sqlalchemy import Connection, Row, and_, delete, func, insert, select, update

from stoker.core.rollout.state import Entry, RolloutState
from stoker.core.rollout.table import Order
from stoker.store import schema
from stoker.types.errors import NotFound
from stoker.types.rollouts import Arms

KEPT: Final = 50  # ended ones of an endpoint, the newest
ENTRIES_MAX: Final = 1000  # of a timeline; over it the oldest mere looks go

_posted = msgspec.json.Decoder(dict[str, Arms])
_state = msgspec.json.Decoder(RolloutState)
_entry = msgspec.json.Decoder(Entry)


class Stored(msgspec.Struct, frozen=True):
    """A rollout with what was said to it: an order ("" for none), and by metric what a judge has told."""

    state: RolloutState
    ordered: str
    posted: dict[str, Arms]


def keep(connection: Connection, state: RolloutState, entries: Iterable[Entry] = ()) -> RolloutState:
    """Store a rollout and what is new in its timeline; a new one gets its number. What was ordered is done with."""
    numbered = state if state.number else _begin(connection, state)
    table = schema.rollouts
    text = msgspec.json.encode(numbered).decode()
    connection.execute(
        update(table)
        .where(table.c.number == numbered.number)
        .values(state=text, ended_at_s=numbered.ended_s, ordered="")
    )
    for entry in entries:
        values = {"rollout": numbered.number, "entry": msgspec.json.encode(entry).decode()}
        connection.execute(insert(schema.rollout_entries).values(values))
    if entries:
        _shorten(connection, numbered.number)
    return numbered


def newest(connection: Connection) -> list[Stored]:
    """Return the newest rollout of every endpoint."""
    table = schema.rollouts
    last = select(func.max(table.c.number)).group_by(table.c.project, table.c.endpoint)
    return [_stored(row) for row in connection.execute(select(table).where(table.c.number.in_(last)))]


def everything(connection: Connection, project: str, endpoint: str | None = None) -> list[Stored]:
    """Return the rollouts of a project, or of one endpoint of it, the newest first."""
    table = schema.rollouts
    ask = select(table).where(table.c.project == project).order_by(table.c.number.desc())
    if endpoint is not None:
        ask = ask.where(table.c.endpoint == endpoint)
    return [_stored(row) for row in connection.execute(ask.limit(KEPT * 20))]


def get(connection: Connection, project: str, number: int) -> Stored:
    """Return a rollout. Raises NotFound."""
    table = schema.rollouts
    row = connection.execute(select(table).where(and_(table.c.number == number, table.c.project == project))).first()
    if row is None:
        raise NotFound(f"no rollout {number} in project {project!r}")
    return _stored(row)


def timeline(connection: Connection, number: int) -> list[Entry]:
    """Return what happened in a rollout, the oldest first."""
    table = schema.rollout_entries
    ask = select(table.c.entry).where(table.c.rollout == number).order_by(table.c.sequence)
    return [_entry.decode(text) for text in connection.execute(ask).scalars()]


def order(connection: Connection, number: int, said: Order) -> None:
    """Keep what somebody said, until the loop has done it. The last word counts."""
    table = schema.rollouts
    connection.execute(update(table).where(table.c.number == number).values(ordered=said))


def post(connection: Connection, number: int, posted: dict[str, Arms]) -> None:
    """Keep what a judge has told since the rollout began, by metric."""
    table = schema.rollouts
    text = msgspec.json.encode(posted).decode()
    connection.execute(update(table).where(table.c.number == number).values(posted=text))


def remove(connection: Connection, number: int) -> None:
    """Drop a rollout with its timeline."""
    connection.execute(delete(schema.rollout_entries).where(schema.rollout_entries.c.rollout == number))
    connection.execute(delete(schema.rollouts).where(schema.rollouts.c.number == number))


def _begin(connection: Connection, state: RolloutState) -> RolloutState:
    row = {
        "project": state.project,
        "endpoint": state.endpoint,
        "ended_at_s": state.ended_s,
        "state": "",
        "ordered": "",
        "posted": "{}",
    }
    made = connection.execute(insert(schema.rollouts).values(row)).inserted_primary_key
    assert made is not None
    numbered = msgspec.structs.replace(state, number=int(made[0]))
    _prune(connection, numbered)
    return numbered


def _prune(connection: Connection, state: RolloutState) -> None:
    table = schema.rollouts
    old = (
        select(table.c.number)
        .where(and_(table.c.project == state.project, table.c.endpoint == state.endpoint, table.c.ended_at_s > 0.0))
        .order_by(table.c.number.desc())
        .offset(KEPT)
        .limit(KEPT)
    )
    for number in connection.execute(old).scalars().all():
        remove(connection, number)


def _shorten(connection: Connection, number: int) -> None:
    table = schema.rollout_entries
    count = connection.execute(select(func.count()).where(table.c.rollout == number)).scalar_one()
    if count <= ENTRIES_MAX:
        return
    looks_first = select(table.c.sequence).where(table.c.rollout == number)
    looks_first = looks_first.order_by(table.c.entry.contains('"event":"look"').desc(), table.c.sequence)
    gone = connection.execute(looks_first.limit(count - ENTRIES_MAX)).scalars().all()
    connection.execute(delete(table).where(table.c.sequence.in_(gone)))


def _stored(row: Row[tuple[object, ...]]) -> Stored:
    return Stored(_state.decode(row.state), row.ordered, _posted.decode(row.posted))
