"""The last two hours of every metric in control's memory, a snapshot a minute: what `stoker why` looks at.

Kept packed: of ten endpoints a snapshot takes some 40 kB, all of them 5 MB. What control counted nothing of (it was
down, or has just started) is not guessed: such minutes have no requests.
"""

import asyncio
import logging
import time
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import Final

from stoker.core.diagnose.onset import Point
from stoker.core.diagnose.window import Change, ChangeKind
from stoker.observe.compared import point
from stoker.observe.explain import STEP_S
from stoker.store import journal, revisions
from stoker.store.engine import Connection, Database
from stoker.store.journal import Entry
from stoker.telemetry.snapshot import (
    MetricValues,
    Series,
    Snapshot,
    decode_snapshot,
    encode_snapshot,
    merge,
    subtract,
)

MINUTES_MAX: Final = 135  # an hour of incident, an hour of baseline, and some
JOURNAL_READ: Final = 200
# What the gateways all see the same of; every other gauge is a part each, and adds up.
_SHARED: Final = frozenset(("stoker_replicas_ready", "stoker_breaker_state"))
_KINDS: Final[dict[str, ChangeKind]] = {
    "CreateRevision": "config",
    "SetServing": "traffic",
    "Rollback": "version",
    "StartReplica": "scale",
    "DrainReplica": "scale",
    "StopReplica": "scale",
    "ForgetReplica": "restart",
}

log = logging.getLogger(__name__)


class Minutes:
    """An evidence source (observe/explain.py). `take` returns what each process has counted since its start."""

    def __init__(
        self,
        database: Database,
        take: Callable[[], Awaitable[list[Snapshot]]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._take = take
        self._clock = clock
        self._kept: deque[tuple[float, tuple[bytes, ...]]] = deque(maxlen=MINUTES_MAX)

    async def run(self) -> None:
        """Take a snapshot at every full minute; returns only by cancellation."""
        while True:
            await asyncio.sleep(STEP_S - self._clock() % STEP_S)
            try:
                await self.sample()
            except (OSError, ValueError):
                log.exception("a minute of metrics is missing; the next one is taken again")

    async def sample(self) -> None:
        """Keep what is counted now as the numbers of the nearest full minute."""
        at_s = round(self._clock() / STEP_S) * STEP_S
        taken = await self._take()
        if taken and (not self._kept or self._kept[-1][0] < at_s):
            self._kept.append((at_s, tuple(encode_snapshot(each) for each in taken)))

    async def change(self, project: str, endpoint: str, start_s: float, end_s: float) -> Snapshot:
        """See observe.explain.Evidence."""
        return await asyncio.to_thread(_between, list(self._kept), start_s, end_s)

    async def points(self, project: str, endpoint: str, start_s: float, end_s: float, step_s: float) -> Sequence[Point]:
        """See observe.explain.Evidence."""
        kept = list(self._kept)
        decoded = cache(
            lambda at: tuple(decode_snapshot(each) for each in kept[at][1])
        )  # each ends one step, begins one

        def every() -> list[Point]:
            starts = [start_s + step_s * number for number in range(round((end_s - start_s) / step_s))]
            return [point(_between(kept, at_s, at_s + step_s, decoded), project, endpoint, at_s) for at_s in starts]

        return await asyncio.to_thread(every)

    async def changes_of(self, project: str, endpoint: str, start_s: float, end_s: float) -> Sequence[Change]:
        """See observe.explain.Evidence."""
        found = await self._database.reading(lambda each: journal.last(each, JOURNAL_READ, project, endpoint))
        return [_change(one) for one in reversed(found) if start_s <= one.at_s <= end_s and one.action in _KINDS]

    async def places(self, project: str, endpoint: str) -> Mapping[str, str]:
        """See observe.explain.Evidence."""

        def ask(connection: Connection) -> dict[str, str]:
            return {str(one.replica): str(one.node) for one in revisions.assignments(connection, project, endpoint)}

        return await self._database.reading(ask)

    def quarantined(self, now_s: float) -> set[tuple[str, str]]:
        """Return the endpoints with a new shape in quarantine in the last minutes that were kept."""
        metric = "stoker_quarantined_total"
        seen = _between(list(self._kept), now_s - 2 * STEP_S, now_s)
        found = {
            (project, endpoint)
            for project in seen.values_of(metric, "project")
            for endpoint in seen.values_of(metric, "endpoint")
        }
        return {each for each in found if seen.total(metric, project=each[0], endpoint=each[1]) > 0}


def _change(entry: Entry) -> Change:
    what = f"{entry.action} {entry.subject}: {entry.because}"
    return Change(entry.at_s, _KINDS[entry.action], what, entry.subject)


def _between(
    kept: list[tuple[float, tuple[bytes, ...]]],
    start_s: float,
    end_s: float,
    decoded: Callable[[int], tuple[Snapshot, ...]] | None = None,
) -> Snapshot:
    """Return what was counted between the minutes nearest before both times; nothing where they are not kept."""
    times = [at_s for at_s, _ in kept]
    first, last = (bisect_right(times, at_s + 1.0) - 1 for at_s in (start_s, end_s))
    first = max(first, 0)
    if last <= first:
        return Snapshot("", end_s)
    take = decoded or (lambda at: tuple(decode_snapshot(each) for each in kept[at][1]))
    before = {each.process: each for each in take(first)}
    after = take(last)
    counted = merge(subtract(each, before.get(each.process, Snapshot(each.process, 0.0))) for each in after)
    tellers = Counter(metric.name for each in after for metric in each.metrics)
    return Snapshot("", kept[last][0], tuple(_even(metric, tellers[metric.name]) for metric in counted.metrics))


def _even(metric: MetricValues, processes: int) -> MetricValues:
    """Return a gauge that every process sees the same of as one of them sees it."""
    if metric.kind != "gauge" or metric.name not in _SHARED or processes < 2:
        return metric
    series = tuple(Series(each.labels, each.value / processes) for each in metric.series)
    return MetricValues(metric.name, metric.kind, metric.labels, series)
