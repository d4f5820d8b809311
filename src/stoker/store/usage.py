"""What was used, as rows: settled once by the numbers of its records, summed by hour, day and month."""

import calendar
import hashlib
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, func, select, update

from stoker.core.usage import DAY_S, DAYS_KEPT_S, FIELDS, HOURS_KEPT_S, OTHER, Span, Sums, Whose, add_up, new_of
from stoker.store import schema
from stoker.store.dialects import add_up as add_rows
from stoker.store.dialects import insert_missing
from stoker.types.usage import Tags, UsageBatch, UsageRecord

CURSORS_MAX: Final = 10_000  # incarnations of gateways; of those that were silent the longest nothing can come any more
TAG_SETS_MAX: Final = 20_000
ROWS_MAX: Final = 1_000_000  # about 200 MB; over it the oldest months go
MONTH_S: Final = 31 * DAY_S
WHOSE: Final = ("project", "endpoint", "revision", "key", "tenant", "tags")
KEY: Final = ("span", "at_s", *WHOSE)


def settle(connection: Connection, batch: UsageBatch, now_s: float) -> tuple[int, list[UsageRecord]]:
    """Add what is new of `batch` to the sums; return the number up to which all is settled, and the new records.

    A batch that comes again, or behind a gap, changes nothing.
    """
    table = schema.usage_cursors
    mine = table.c.incarnation == batch.incarnation
    begun = {"incarnation": batch.incarnation, "gateway": batch.gateway, "settled": 0, "lost": 0, "at_s": now_s}
    connection.execute(insert_missing(connection, table, begun))  # so that there is a row to hold against others
    row = connection.execute(select(table).where(mine).with_for_update()).one()
    new = new_of(row.settled, batch.first, batch.lost, len(batch.records))
    if new.until == row.settled:
        return new.until, []
    values = {"settled": new.until, "lost": row.lost + new.lost, "at_s": now_s}
    connection.execute(update(table).where(mine).values(values))
    records = batch.records[new.skip :]
    _add(connection, "hour", add_up(records))
    return new.until, records


def cursors(connection: Connection) -> dict[str, int]:
    """Return up to which number each incarnation's records are settled."""
    table = schema.usage_cursors
    return {row.incarnation: row.settled for row in connection.execute(select(table.c.incarnation, table.c.settled))}


def read(
    connection: Connection, from_s: int, to_s: int, by: Collection[str], project: str | None = None
) -> Iterator[tuple[dict[str, str], Tags, Sums]]:
    """Yield the sums of what begins in [`from_s`, `to_s`) by the columns `by`, which they are given with.

    by: of WHOSE, and at_s.
    """
    table = schema.usage_sums
    names = [name for name in ("at_s", *WHOSE) if name in by]
    columns = [table.c[name] for name in names]
    ask = select(*columns, *(func.sum(table.c[name]).label(name) for name in FIELDS)).group_by(*columns)
    ask = ask.where(table.c.at_s >= from_s, table.c.at_s < to_s)
    if project is not None:
        ask = ask.where(table.c.project == project)
    tags = _tag_sets(connection) if "tags" in by else {}
    for row in connection.execute(ask):
        values = row._mapping
        if values["requests"] is not None:  # the sum of no row
            whose = {name: str(values[name]) for name in names}
            yield whose, tags.get(whose.get("tags", ""), ()), Sums(*(int(values[name]) for name in FIELDS))


def tidy(connection: Connection, now_s: float) -> int:
    """Make days of old hours and months of old days, and hold every table to its maximum; return the rows that went."""
    gone = _coarsen(connection, "hour", "day", int(now_s - HOURS_KEPT_S) // DAY_S * DAY_S)
    gone += _coarsen(connection, "day", "month", _month_s(int(now_s - DAYS_KEPT_S)))
    sums, known = schema.usage_sums, schema.usage_cursors
    while connection.execute(select(func.count()).select_from(sums)).scalar_one() > ROWS_MAX:
        oldest = connection.execute(select(func.min(sums.c.at_s))).scalar_one()
        gone += connection.execute(delete(sums).where(sums.c.at_s < oldest + MONTH_S)).rowcount
    newest = select(known.c.incarnation).order_by(known.c.at_s.desc()).limit(CURSORS_MAX)
    connection.execute(delete(known).where(known.c.incarnation.not_in(newest)))
    connection.execute(delete(schema.usage_tags).where(schema.usage_tags.c.digest.not_in(select(sums.c.tags))))
    return gone


def _coarsen(connection: Connection, fine: Span, coarse: Span, before_s: int) -> int:
    """Add what began before `before_s` in the finer span to the coarser one, and delete it there."""
    table = schema.usage_sums
    old = (table.c.span == fine, table.c.at_s < before_s)
    rows = [dict(row._mapping) for row in connection.execute(select(table).where(*old))]
    if rows:
        begin = _month_s if coarse == "month" else _day_s
        moved = [{**row, "span": coarse, "at_s": begin(row["at_s"])} for row in rows]
        add_rows(connection, table, KEY, FIELDS, moved)
        connection.execute(delete(table).where(*old))
    return len(rows)


def _add(connection: Connection, span: Span, sums: Mapping[tuple[int, Whose], Sums]) -> None:
    digests = {tags: _digest(connection, tags) for tags in {whose.tags for _, whose in sums}}
    rows = [
        {"span": span, "at_s": at_s, **whose._asdict(), "tags": digests[whose.tags], **msgspec.structs.asdict(each)}
        for (at_s, whose), each in sums.items()
    ]
    add_rows(connection, schema.usage_sums, KEY, FIELDS, rows)


def _digest(connection: Connection, tags: Tags) -> str:
    """Return the name of a set of tags; over the maximum that of OTHER."""
    if not tags:
        return ""
    table = schema.usage_tags
    text = msgspec.json.encode(tags).decode()
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    if connection.execute(select(table.c.digest).where(table.c.digest == digest)).first() is None:
        if tags != OTHER and connection.execute(select(func.count()).select_from(table)).scalar_one() >= TAG_SETS_MAX:
            return _digest(connection, OTHER)
        connection.execute(insert_missing(connection, table, {"digest": digest, "tags": text}))
    return digest


def _tag_sets(connection: Connection) -> dict[str, Tags]:
    table = schema.usage_tags
    return {row.digest: msgspec.json.decode(row.tags, type=Tags) for row in connection.execute(select(table))}


def _day_s(at_s: int) -> int:
    return at_s // DAY_S * DAY_S


def _month_s(at_s: int) -> int:
    found = time.gmtime(at_s)
    return calendar.timegm((found.tm_year, found.tm_mon, 1, 0, 0, 0))
