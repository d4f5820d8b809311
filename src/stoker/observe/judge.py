"""How every objective stands at one moment, from sums that somebody else keeps.

Short windows are asked at every look, for an outage must be seen in 10 s. Long ones reach into the database: they are
asked once in REFRESH_S, and what happened since is added; what left them meanwhile is a tenth of them at the most.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from stoker.core import slo
from stoker.core.slo import EVERY_S, Counts, SloDecision, SloMemory
from stoker.core.snapshot import EndpointState
from stoker.observe import slis
from stoker.observe.port import SELECTORS_MAX, Selector
from stoker.observe.slis import Source
from stoker.types.slos import Objective

LONG_S: Final = 600.0  # windows over this are long
REFRESH_S: Final = 60.0


class Sums(Protocol):
    """What is asked of the history (port.Questions has it)."""

    async def sums(
        self, selectors: Sequence[Selector], windows_s: Sequence[float], *, now_s: float | None = None
    ) -> list[tuple[float, ...]]:
        """Return, for each selector, what its series counted in each window up to `now_s`."""


class Standing(msgspec.Struct, frozen=True):
    """One objective of one endpoint; `decision` is None while nothing counts its events."""

    project: str
    endpoint: str
    objective: Objective
    decision: SloDecision | None

    @property
    def key(self) -> str:
        """What its memory goes by."""
        return _key(self.project, self.endpoint, self.objective)


class Judge:
    """Keeps the counts of long windows from one look to the next. Used by one task."""

    def __init__(self, sums: Sums) -> None:
        self._sums = sums
        self._long: dict[tuple[Source, float], Counts] = {}
        self._asked_s = float("-inf")

    async def look(
        self, endpoints: Iterable[EndpointState], memory: Mapping[str, SloMemory], now_s: float
    ) -> tuple[Standing, ...]:
        """Return how each objective of each endpoint stands. `memory`: of the last look, by key; unix seconds."""
        asked = [
            (state, objective, slis.source(state.project, state.name, objective))
            for state in endpoints
            if not state.is_deleting
            for objective in slo.objectives(state.resource.spec.slos)
        ]
        counts = await self._counts([(found, objective) for _, objective, found in asked if found is not None], now_s)
        return tuple(
            Standing(
                state.project,
                state.name,
                objective,
                None
                if found is None
                else slo.decide(
                    objective,
                    {window_s: counts[found, window_s] for window_s in slo.windows(objective)},
                    memory.get(_key(state.project, state.name, objective), SloMemory()),
                    now_s,
                ),
            )
            for state, objective, found in asked
        )

    async def _counts(
        self, wanted: Sequence[tuple[Source, Objective]], now_s: float
    ) -> dict[tuple[Source, float], Counts]:
        now_s = now_s // EVERY_S * EVERY_S  # sums lie on this grid; off it, events at a seam would count twice
        since_s = now_s - self._asked_s
        is_stale = not 0 <= since_s < REFRESH_S
        by_windows: dict[tuple[float, ...], dict[Source, None]] = {}
        for source, objective in wanted:
            windows = slo.windows(objective)
            if not is_stale and all((source, each) in self._long for each in windows if each > LONG_S):
                windows = (*(each for each in windows if each <= LONG_S), *([since_s] if since_s else []))
            by_windows.setdefault(windows, {})[source] = None
        found: dict[tuple[Source, float], Counts] = {}
        for windows, sources in by_windows.items():
            found |= await self._ask(list(sources), windows, now_s)
        kept = {}
        for source, objective in wanted:
            for each in (window_s for window_s in slo.windows(objective) if window_s > LONG_S):
                if (source, each) in found:
                    kept[source, each] = found[source, each]
                    continue
                kept[source, each] = self._long[source, each]
                found[source, each] = _plus(kept[source, each], found.get((source, since_s), Counts()))
        self._long = kept
        if is_stale:
            self._asked_s = now_s
        return found

    async def _ask(
        self, sources: Sequence[Source], windows: Sequence[float], now_s: float
    ) -> dict[tuple[Source, float], Counts]:
        found = {}
        for begin in range(0, len(sources), SELECTORS_MAX // 2):
            some = sources[begin : begin + SELECTORS_MAX // 2]
            selectors = [selector for source in some for selector in (source.total, source.part)]
            sums = await self._sums.sums(selectors, windows, now_s=now_s)
            for place, source in enumerate(some):
                for window_s, total, part in zip(windows, sums[2 * place], sums[2 * place + 1], strict=True):
                    bad = total - part if source.part_is_good else part
                    found[source, window_s] = Counts(bad=max(bad, 0.0), total=total)
        return found


def _plus(one: Counts, other: Counts) -> Counts:
    return Counts(one.bad + other.bad, one.total + other.total)


def _key(project: str, endpoint: str, objective: Objective) -> str:
    return f"{project}/{endpoint}/{objective.name}"
