"""What serving cost, as rows: hours under way, what engines did in them, and the lines that they became."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select

from stoker.core.cost.fold import fold
from stoker.core.cost.hours import Asked, Done
from stoker.core.cost.report import Group
from stoker.core.cost.timesheet import Sheet, held_gpus
from stoker.store import schema, schema_costs
from stoker.store.dialects import add_up, upsert
from stoker.types.costs import CostLine
from stoker.types.usage import Tags

HOUR_S: Final = 3600
DAY_S: Final = 86_400
HOURS_KEPT_S: Final = 62 * DAY_S  # this month and the one before
DAYS_KEPT_S: Final = 400 * DAY_S
ROWS_MAX: Final = 1_000_000  # of lines, about 200 MB; over it the oldest hours become days sooner
WORKS_MAX: Final = 5_000  # of an hour; what comes after them is of no key
WHOSE: Final = ("kind", "pool", "payer", "project", "endpoint", "revision", "key", "tags")
TIMES: Final = ("at_s", "day_s")
_sheet: Final = msgspec.json.Decoder(Sheet).decode
_tags: Final = msgspec.json.Decoder(Tags).decode


def put_sheet(connection: Connection, sheet: Sheet, *, is_open: bool) -> None:
    """Keep the sheet instead of what was known of its hour. There is one open sheet."""
    table, hour_s = schema_costs.cost_sheets, sheet.hour_ms // 1000
    if is_open:
        connection.execute(delete(table).where(table.c.is_open, table.c.hour_s != hour_s))
    values = {"is_open": is_open, "sheet": msgspec.json.encode(sheet).decode()}
    connection.execute(upsert(connection, table, {"hour_s": hour_s}, values))


def open_sheet(connection: Connection) -> Sheet | None:
    """Return the hour of now as it was stored last."""
    table = schema_costs.cost_sheets
    text = connection.execute(select(table.c.sheet).where(table.c.is_open)).scalar()
    return None if text is None else _sheet(text)


def put_gpu_times(connection: Connection, sheet: Sheet) -> None:
    """Keep how long GPUs were held in the hour of `sheet`, which has ended."""
    table, hour_s = schema_costs.gpu_times, sheet.hour_ms // 1000
    for project, gpu_ms in held_gpus(sheet).items():
        key = {"hour_s": hour_s, "project": project}
        connection.execute(upsert(connection, table, key, {"gpu_ms": gpu_ms}))


def gpu_ms(connection: Connection, from_s: int, project: str | None = None) -> int:
    """Return how long GPUs were held from the hour of `from_s` on, the hour of now too, by a project or by all."""
    table = schema_costs.gpu_times
    ask = select(func.sum(table.c.gpu_ms)).where(table.c.hour_s >= from_s // HOUR_S * HOUR_S)
    if project is not None:
        ask = ask.where(table.c.project == project)
    now = open_sheet(connection)
    held = held_gpus(now) if now is not None and now.hour_ms // 1000 >= from_s // HOUR_S * HOUR_S else {}
    running = sum(held.values()) if project is None else held.get(project, 0)
    return int(connection.execute(ask).scalar() or 0) + running


def ended(connection: Connection) -> list[int]:
    """Return the hours (unix seconds) that ended and are no lines yet, the oldest first."""
    table = schema_costs.cost_sheets
    return list(connection.execute(select(table.c.hour_s).where(~table.c.is_open).order_by(table.c.hour_s)).scalars())


def sheet(connection: Connection, hour_s: int) -> Sheet | None:
    """Return an hour that ended and is no lines yet."""
    table = schema_costs.cost_sheets
    text = connection.execute(select(table.c.sheet).where(table.c.hour_s == hour_s, ~table.c.is_open)).scalar()
    return None if text is None else _sheet(text)


def payers(connection: Connection) -> dict[str, str]:
    """Return the project of each key, by its id."""
    return {row.id: row.project for row in connection.execute(select(schema.keys.c.id, schema.keys.c.project))}


def add_works(connection: Connection, works: Mapping[tuple[int, Asked], Done]) -> None:
    """Add to what engines did, by the hour's unix milliseconds. What comes too late for its hour goes to the next."""
    table = schema_costs.cost_works
    open_s = connection.execute(select(func.min(schema_costs.cost_sheets.c.hour_s))).scalar() or 0
    by_hour: dict[int, dict[Asked, Done]] = defaultdict(dict)
    for (at_ms, asked), done in works.items():
        hour = by_hour[max(at_ms // 1000, open_s)]
        hour[asked] = hour.get(asked, Done()) + done
    for hour_s, found in by_hour.items():
        count = connection.execute(select(func.count()).where(table.c.hour_s == hour_s)).scalar_one()
        whose = found if count + len(found) <= WORKS_MAX else _keyless(found)
        rows = [_work(hour_s, asked, done) for asked, done in whose.items()]
        add_up(connection, table, _KEY, ("units", "compute_us"), rows)


def works(connection: Connection, hour_s: int) -> dict[Asked, Done]:
    """Return what engines did in an hour."""
    table = schema_costs.cost_works
    rows = connection.execute(select(table).where(table.c.hour_s == hour_s))
    return {
        Asked(row.revision, row.kind, row.project, row.key, _tags(row.tags)): Done(row.units, row.compute_us)
        for row in rows
    }


def close(connection: Connection, hour_s: int, lines: Iterable[CostLine]) -> bool:
    """Write the lines of an hour and drop what they were made of; return False where it has lines already.

    That is so where the clock was set back: what it showed first stands.
    """
    table, sheets, done = schema_costs.cost_lines, schema_costs.cost_sheets, schema_costs.cost_works
    is_new = connection.execute(select(table.c.number).where(table.c.at_s == hour_s).limit(1)).first() is None
    if is_new:
        _insert(connection, "hour", hour_s, lines)
    connection.execute(delete(sheets).where(sheets.c.hour_s == hour_s, ~sheets.c.is_open))
    connection.execute(delete(done).where(done.c.hour_s <= hour_s))
    return is_new


def read(
    connection: Connection, from_s: int, to_s: int, by: Collection[str], project: str | None = None
) -> Iterator[Group]:
    """Yield what was spent in [`from_s`, `to_s`) by columns of WHOSE and TIMES; of a project what it pays or serves."""
    table = schema_costs.cost_lines
    known: dict[str, ColumnElement[Any]] = {**table.c, "day_s": table.c.at_s - table.c.at_s % DAY_S}
    columns = [known[name].label(name) for name in (*TIMES, *WHOSE) if name in by]
    ask = select(*columns, func.sum(table.c.nano_usd).label("nano_usd"), func.sum(table.c.ms).label("ms"))
    for row in connection.execute(ask.where(*_where(from_s, to_s, project)).group_by(*columns)):
        values = dict(row._mapping)
        nano_usd, ms = values.pop("nano_usd"), values.pop("ms")
        if nano_usd is not None:  # the sum of no row
            if "tags" in values:
                values["tags"] = _tags(values["tags"])
            yield Group(values, int(nano_usd), int(ms))


def lines(
    connection: Connection, from_s: int, to_s: int, project: str | None = None
) -> Iterator[tuple[str, int, CostLine]]:
    """Yield the lines of [`from_s`, `to_s`), each with its span, "hour" or "day", and where that begins."""
    table = schema_costs.cost_lines
    ask = select(table).where(*_where(from_s, to_s, project)).order_by(table.c.at_s, table.c.number)
    for row in connection.execute(ask):
        yield row.span, row.at_s, _line(row)


def tidy(connection: Connection, now_s: float) -> int:
    """Make days of old hours, drop old days, and hold the lines to their maximum; return how many rows went."""
    table = schema_costs.cost_lines
    gone = connection.execute(delete(table).where(table.c.at_s < now_s - DAYS_KEPT_S)).rowcount
    times = schema_costs.gpu_times
    connection.execute(delete(times).where(times.c.hour_s < now_s - HOURS_KEPT_S))
    before_s = int(now_s - HOURS_KEPT_S)
    while True:
        first = connection.execute(select(func.min(table.c.at_s)).where(table.c.span == "hour")).scalar()
        count = connection.execute(select(func.count()).select_from(table)).scalar_one()
        is_crowded = count > ROWS_MAX and first is not None and first < now_s - 2 * DAY_S
        if first is None or not (first // DAY_S * DAY_S + DAY_S <= before_s or is_crowded):
            break
        gone += _make_day(connection, first // DAY_S * DAY_S)
    while connection.execute(select(func.count()).select_from(table)).scalar_one() > ROWS_MAX:
        oldest = connection.execute(select(func.min(table.c.at_s))).scalar_one()
        gone += connection.execute(delete(table).where(table.c.at_s == oldest)).rowcount
    return gone


def _make_day(connection: Connection, day_s: int) -> int:
    """Add up the lines of a day's hours; return how many fewer there are."""
    table = schema_costs.cost_lines
    found = [line for _, _, line in lines(connection, day_s, day_s + DAY_S)]
    folded = fold(found)
    connection.execute(delete(table).where(table.c.at_s >= day_s, table.c.at_s < day_s + DAY_S))
    _insert(connection, "day", day_s, folded)
    return len(found) - len(folded)


_KEY: Final = ("hour_s", "revision", "kind", "project", "key", "tags_digest")


def _keyless(works: Mapping[Asked, Done]) -> dict[Asked, Done]:
    found: dict[Asked, Done] = defaultdict(Done)
    for asked, done in works.items():
        found[msgspec.structs.replace(asked, key="", tags=())] += done
    return found


def _work(hour_s: int, asked: Asked, done: Done) -> dict[str, Any]:
    text = msgspec.json.encode(asked.tags).decode()
    digest = hashlib.sha256(text.encode()).hexdigest()[:16] if asked.tags else ""
    whose = {**msgspec.structs.asdict(asked), "tags": text, "tags_digest": digest}
    return {"hour_s": hour_s, **whose, **msgspec.structs.asdict(done)}


def _insert(connection: Connection, span: str, at_s: int, lines: Iterable[CostLine]) -> None:
    rows = [
        {"span": span, "at_s": at_s, **msgspec.structs.asdict(line), "tags": msgspec.json.encode(line.tags).decode()}
        for line in lines
    ]
    if rows:
        connection.execute(insert(schema_costs.cost_lines), rows)


def _where(from_s: int, to_s: int, project: str | None) -> list[ColumnElement[bool]]:
    table = schema_costs.cost_lines
    found: list[ColumnElement[bool]] = [table.c.at_s >= from_s, table.c.at_s < to_s]
    if project is not None:
        found.append(or_(table.c.payer == project, table.c.project == project))
    return found


def _line(row: Any) -> CostLine:
    return CostLine(
        row.kind, row.pool, row.nano_usd, row.ms, row.payer, row.project, row.endpoint, row.revision, row.key,
        _tags(row.tags),
    )  # fmt: skip
