"""Usage in control: batches of gateways are settled, sums are asked for, prices are kept.

A batch is settled in one transaction: how far its gateway's numbers are, the sums, and what `charge` writes for the
same records. So nothing is counted twice or half, wherever control dies.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from stoker.core.usage import Report, Row, Sums, Whose
from stoker.store import settings, usage, usage_records
from stoker.store.engine import Connection, Database
from stoker.telemetry.metrics import Registry
from stoker.types.prices import PriceBook, format_dollars
from stoker.types.usage import Flag, Place, RecordPage, RecordView, Settled, Tags, UsageBatch, UsageRecord

BOOK: Final = "price_book"
# By the name that usage can be counted by: how the beginning of a span is shown, in UTC.
TIMES: Final = {"hour": "%Y-%m-%dT%H:00Z", "day": "%Y-%m-%d", "month": "%Y-%m"}

Charging = Callable[[Connection, Sequence[UsageRecord]], None]


def uncharged(_connection: Connection, _records: Sequence[UsageRecord]) -> None:
    """Write nothing."""


class UsageBook:
    """What was used. charge: what else is written of new records, in the transaction that settles them."""

    def __init__(self, database: Database, metrics: Registry, charge: Charging = uncharged) -> None:
        self._database = database
        self._charge = charge
        self._settled = metrics.counter("stoker_usage_settled_total")

    async def settle(self, batch: UsageBatch) -> Settled:
        """Settle what is new of `batch`; return up to where its gateway's records are settled."""

        def write(connection: Connection) -> tuple[int, int]:
            until, records = usage.settle(connection, batch, time.time())
            if records:
                self._charge(connection, records)
            return until, len(records)

        until, count = await self._database.writing(write)
        self._settled.add(count)
        return Settled(until)

    async def report(self, from_s: int, to_s: int, by: Sequence[str], project: str | None) -> Report:
        """Return what was used from `from_s` until `to_s` by the names `by`, of one project or all.

        Raises ValueError for an unknown name.
        """
        needed = columns(by)

        def ask(connection: Connection) -> Report:
            return report(usage.read(connection, from_s, to_s, needed, project), by, from_s, to_s)

        return await self._database.reading(ask)

    async def records(self, after: Place, from_s: int, to_s: int, project: str | None, limit: int) -> RecordPage:
        """Return a page of the requests that ended from `from_s` until `to_s`, of one project or all."""

        def ask(connection: Connection) -> RecordPage:
            found = usage_records.page(connection, after, from_s * 1000, to_s * 1000, project, limit)
            kept_ms = usage_records.kept_from_ms(connection)
            items = [shown(each) for each in found.records]
            return RecordPage(items, str(found.next), found.is_last, "" if kept_ms is None else _moment(kept_ms))

        return await self._database.reading(ask)

    async def prices(self) -> PriceBook:
        """Return the platform's default prices."""
        return await self._database.reading(price_book)

    async def set_prices(self, book: PriceBook) -> None:
        """Make `book` the default prices. Raises ValueError for one that cannot be read."""
        for each in book.prices:
            each.price.card()
            each.from_s()
        text = msgspec.json.encode(book).decode()
        await self._database.writing(lambda connection: settings.put(connection, BOOK, text))


def shown(record: UsageRecord) -> RecordView:
    """Return a record as people bill it."""
    return RecordView(
        at=_moment(record.at_ms),
        request=record.request,
        project=record.project,
        endpoint=record.endpoint,
        served_by=record.served_by or record.endpoint,
        revision=record.revision,
        key=record.key,
        tenant=record.tenant,
        tags=dict(record.tags),
        method=record.method,
        status=record.status,
        flags=tuple(flag.name.lower() for flag in Flag(record.flags) if flag.name),
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
        cached_tokens=record.cached_tokens,
        rows=record.rows,
        compute_us=record.compute_us,
        bytes_in=record.bytes_in,
        bytes_out=record.bytes_out,
        attempts=record.attempts,
        price_usd=format_dollars(record.price_nano_usd),
    )


def _moment(at_ms: int) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(at_ms // 1000))}.{at_ms % 1000:03d}Z"


def price_book(connection: Connection) -> PriceBook:
    """Return the platform's default prices."""
    text = settings.get(connection, BOOK)
    return PriceBook() if text is None else msgspec.json.decode(text, type=PriceBook)


def columns(by: Sequence[str]) -> set[str]:
    """Return the columns of the sums that the names `by` need. Raises ValueError for an unknown one."""
    found = set()
    for name in by:
        if name in TIMES:
            found.add("at_s")
        elif name in ("tag", "tags") or name.startswith("tag:"):
            found.add("tags")
        elif name in Whose._fields:
            found.add(name)
        else:
            known = ", ".join((*Whose._fields, "tag:NAME", *TIMES))
            raise ValueError(f"{name!r} is nothing to count by; there are {known}")
    return found


def report(rows: Iterable[tuple[Mapping[str, str], Tags, Sums]], by: Sequence[str], from_s: int, to_s: int) -> Report:
    """Return `rows`, which have what `columns` says, by the names `by`."""
    found: dict[tuple[str, ...], Row] = {}
    total = Row()
    for values, tags, sums in rows:
        named = {name: _value(name, values, tags) for name in by}
        found.setdefault(tuple(named.values()), Row(by=named)).add(sums)
        total.add(sums)
    for each in (*found.values(), total):
        each.price_usd = format_dollars(each.price_nano_usd)
    times = [name for name in by if name in TIMES]
    items = sorted(found.values(), key=lambda row: (-row.price_nano_usd, -row.requests, *row.by.values()))
    items.sort(key=lambda row: [row.by[name] for name in times])
    return Report(from_s, to_s, tuple(items), total)


def _value(name: str, values: Mapping[str, str], tags: Tags) -> str:
    if name in TIMES:
        return time.strftime(TIMES[name], time.gmtime(int(values["at_s"])))
    if name in ("tag", "tags"):
        return ",".join(f"{tag}={value}" for tag, value in tags)
    if name.startswith("tag:"):
        return dict(tags).get(name[4:], "")
    return values[name]
