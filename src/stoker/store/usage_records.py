"""Usage records as they were settled, kept for a while: for whoever bills, or asks what one request took.

A batch of a gateway is one row, compressed, written in the transaction that settles it: so each record is here exactly
once, as long as it is kept. They are read in the order in which they were settled, a page at a time.
"""

import zlib
from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, func, insert, or_, select

from stoker.store import schema_usage
from stoker.types.usage import WASTE, Place, UsageRecord

PAGE_MAX: Final = 1000  # records
SCANNED_MAX: Final = 64  # batches, for one page: it may have fewer records then, and says where to go on
PROJECTS_BYTES_MAX: Final = 1024  # of their names in a row; with more it is read by whoever asks for any

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[UsageRecord]).decode


class Page(msgspec.Struct, frozen=True):
    """Records, and where the next ones are. is_last: no more were settled so far."""

    records: list[UsageRecord]
    next: Place
    is_last: bool


def keep(connection: Connection, records: Sequence[UsageRecord]) -> None:
    """Keep records that are settled; what engines did for nobody is no request, and is not kept."""
    kept = [each for each in records if not each.flags & WASTE]
    if not kept:
        return
    names = "\n".join(("", *sorted({each.project for each in kept}), ""))
    data = zlib.compress(_encode(kept), 1)
    row = {
        "from_ms": min(each.at_ms for each in kept),
        "to_ms": max(each.at_ms for each in kept),
        "records": len(kept),
        "projects": names if len(names) <= PROJECTS_BYTES_MAX else "",
        "size_bytes": len(data),
        "data": data,
    }
    connection.execute(insert(schema_usage.usage_batches).values(**row))


def page(
    connection: Connection, after: Place, from_ms: int, to_ms: int, project: str | None, limit: int = PAGE_MAX
) -> Page:
    """Return at most `limit` records of requests that ended in [from_ms, to_ms), from the place `after` on."""
    table = schema_usage.usage_batches
    ask = select(table.c.id, table.c.data).where(table.c.id >= after.batch)
    ask = ask.where(table.c.to_ms >= from_ms, table.c.from_ms < to_ms)
    if project is not None:
        ask = ask.where(or_(table.c.projects == "", table.c.projects.contains(f"\n{project}\n", autoescape=True)))
    found: list[UsageRecord] = []
    place = after
    for batches, row in enumerate(connection.execute(ask.order_by(table.c.id).limit(SCANNED_MAX + 1))):
        if batches == SCANNED_MAX or len(found) >= limit:
            return Page(found, Place(row.id), is_last=False)
        records = _decode(zlib.decompress(row.data))
        begin = after.skip if row.id == after.batch else 0
        for at in range(begin, len(records)):
            each = records[at]
            if from_ms <= each.at_ms < to_ms and project in (None, each.project):
                if len(found) >= limit:
                    return Page(found, Place(row.id, at), is_last=False)
                found.append(each)
        place = Place(row.id + 1)
    return Page(found, place, is_last=True)


def kept_from_ms(connection: Connection) -> int | None:
    """Return when the oldest request ended that is kept; None while none is."""
    first: int | None = connection.execute(select(func.min(schema_usage.usage_batches.c.from_ms))).scalar()
    return first


def tidy(connection: Connection, before_ms: int, bytes_max: int) -> int:
    """Drop what is older than `before_ms`, and the oldest of what is over `bytes_max`; return how many rows went."""
    table = schema_usage.usage_batches
    gone = connection.execute(delete(table).where(table.c.to_ms < before_ms)).rowcount
    total = int(connection.execute(select(func.sum(table.c.size_bytes))).scalar() or 0)
    while total > bytes_max:
        oldest = connection.execute(select(table.c.id, table.c.size_bytes).order_by(table.c.id).limit(1000)).all()
        last = 0
        for row in oldest:
            if total <= bytes_max:
                break
            total, last = total - row.size_bytes, row.id
        gone += connection.execute(delete(table).where(table.c.id <= last)).rowcount
    return gone
