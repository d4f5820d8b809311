"""What serving cost, as it is asked for: sums by whom, rows for FinOps tools, and the prices of pools.

The hour of now, and one that ended a moment ago, are no lines yet: they are shown by their sheets, as far as they go.
"""

import csv
import io
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Final

import msgspec

from stoker.control.costs import closing, outlook
from stoker.control.costs.prices import price_list, set_price_list
from stoker.control.costs.watch import CostWatch
from stoker.control.observe import State
from stoker.core.cost import focus, report
from stoker.core.cost.focus import Charged
from stoker.core.cost.report import Group, Report
from stoker.store import costs, usage
from stoker.store.costs import DAY_S, HOUR_S
from stoker.store.engine import Connection, Database
from stoker.types.costs import CostLine, PriceList
from stoker.types.resources import Task

OF_ENDPOINTS: Final = frozenset(("project", "endpoint", "kind"))


class CostBook:
    """Answers about costs. One in a control process, whether or not it acts. watch: keeps them, while it does."""

    def __init__(self, database: Database, watch: CostWatch, state: Callable[[], State | None]) -> None:
        self.watch = watch
        self._database = database
        self._state = state

    async def report(self, from_s: int, to_s: int, by: Sequence[str], project: str | None) -> Report:
        """Return what was spent by the names `by`, of what a project pays or serves, or of all.

        Raises ValueError for an unknown name.
        """
        needed = report.columns(by)
        span, now_s = (from_s, to_s), time.time()
        found = await self._database.reading(lambda each: _report(each, span, by, needed, project, now_s))
        anomaly = self.watch.anomaly
        if anomaly is None or project is not None:
            return found
        return msgspec.structs.replace(found, unusual=anomaly.sentence)

    async def focus(self, from_s: int, to_s: int, project: str | None) -> AsyncIterator[bytes]:
        """Yield the lines of hours and days that are over as a CSV file of FOCUS rows, day after day."""
        tasks = self._tasks()
        yield _csv([focus.COLUMNS])
        for day_s in range(from_s - from_s % DAY_S, to_s, DAY_S):
            span = max(from_s, day_s), min(to_s, day_s + DAY_S)
            found = await self._database.reading(partial(_charged, span=span, project=project, tasks=tasks))
            if found:
                yield _csv(focus.rows(found))

    async def prices(self) -> PriceList:
        """Return the prices of all pools."""
        return await self._database.reading(price_list)

    async def set_prices(self, prices: PriceList) -> None:
        """Make `prices` those of all pools, for hours that are not over yet. Raises ValueError."""
        await self._database.writing(lambda connection: set_price_list(connection, prices))

    def _tasks(self) -> dict[tuple[str, str], Task]:
        state = self._state()
        revisions = state.revisions if state is not None else ()
        return {(each.project, each.endpoint): each.config.task for each in revisions}


def _report(
    connection: Connection,
    span: tuple[int, int],
    by: Sequence[str],
    needed: set[str],
    project: str | None,
    now_s: float,
) -> Report:
    under_way = list(_under_way(connection, project))
    of_span = [each for each in under_way if span[0] <= each.by["at_s"] < span[1]]
    items, total = report.rows((*costs.read(connection, *span, needed, project), *of_span), by)
    kinds = [*costs.read(connection, *span, OF_ENDPOINTS, project), *of_span]
    used = {
        (whose["project"], whose["endpoint"]): sums
        for whose, _, sums in usage.read(connection, *span, ("project", "endpoint"), project)
    }
    today_s = int(now_s) // DAY_S * DAY_S
    open_nano_usd = sum(each.nano_usd for each in under_way if each.by["day_s"] == today_s)
    return Report(
        *span,
        items,
        total,
        report.endpoints(kinds, used),
        *report.ratios(kinds),
        month=report.month_of(outlook.forecast(connection, now_s, open_nano_usd, project)),
    )


def _under_way(connection: Connection, project: str | None) -> Iterator[Group]:
    """Yield what is spent and no line yet."""
    sheets = [
        (each, (hour_s + HOUR_S) * 1000)
        for hour_s in costs.ended(connection)
        if (each := costs.sheet(connection, hour_s))
    ]
    now = costs.open_sheet(connection)
    if now is not None:
        sheets.append((now, now.at_ms))
    for sheet, to_ms in sheets:
        at_s = sheet.hour_ms // 1000
        for line in closing.lines_of(connection, sheet, to_ms):
            if project is None or project in (line.payer, line.project):
                yield _group(line, at_s)


def _group(line: CostLine, at_s: int) -> Group:
    whose = {name: getattr(line, name) for name in (*report.WHOSE, "tags")}
    return Group({**whose, "at_s": at_s, "day_s": at_s - at_s % DAY_S}, line.nano_usd, line.ms)


def _charged(
    connection: Connection, span: tuple[int, int], project: str | None, tasks: Mapping[tuple[str, str], Task]
) -> list[Charged]:
    found = []
    for (length, at_s), lines in groupby(costs.lines(connection, *span, project), key=lambda each: each[:2]):
        end_s = at_s + (DAY_S if length == "day" else HOUR_S)
        found.append(Charged(at_s * 1000, end_s * 1000, tuple(line for _, _, line in lines), tasks))
    return found


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
