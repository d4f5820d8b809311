"""How every objective stands at one moment, from sums that somebody else keeps.

Short windows are asked at every look, for an outage must be seen in 10 s. Long ones reach into the database: they are
asked about once in REFRESH_S, a few at each look, and what happened since is added; what left them meanwhile is a small
part of them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import ceil
from typing import Final, Protocol

import msgspec

from stoker.core import parts, slo
from stoker.core.slo import EVERY_S, Counts, SloDecision, SloMemory
from stoker.core.snapshot import EndpointState
from stoker.observe.objectives import slis
from stoker.observe.objectives.slicer import Means, Slicer, Watched
from stoker.observe.objectives.slis import Source
from stoker.observe.port import SELECTORS_MAX, Selector
from stoker.telemetry.metrics import Registry
from stoker.types.slos import Objective

LONG_S: Final = 600.0  # windows over this are long
REFRESH_S: Final = 60.0


class Sums(Means, Protocol):
    """What is asked of the history (port.Questions has it)."""

    async def sums(
        self, selectors: Sequence[Selector], windows_s: Sequence[float], *, now_s: float | None = None
    ) -> list[tuple[float, ...]]:
        """Return, for each selector, what its series counted in each window up to `now_s`."""


class Standing(msgspec.Struct, frozen=True):
    """One objective of one endpoint."""

    project: str
    endpoint: str
    objective: Objective
    decision: SloDecision

    @property
    def key(self) -> str:
        """What its memory goes by."""
        return parts.key(self.project, self.endpoint, self.objective)


class Judge:
    """Keeps the counts of long windows from one look to the next. Used by one task."""

    def __init__(self, sums: Sums, metrics: Registry) -> None:
        self._sums = sums
        self._slicer = Slicer(sums, metrics)
        self._long: dict[Source, dict[float, Counts]] = {}
        self._asked_s: dict[Source, float] = {}

    async def look(
        self,
        endpoints: Iterable[EndpointState],
        memory: Mapping[str, SloMemory],
        followed: Mapping[str, tuple[str, ...]],
        made: Callable[[EndpointState], Mapping[str, float]],
        now_s: float,
    ) -> tuple[Standing, ...]:
        """Return how each objective of each endpoint stands.

        Args:
            memory: of the last look, by key.
            followed: tenants or segments of objectives that judge each, by key.
            made: when the versions that may have answered for an endpoint were made, by revision.
            now_s: unix seconds, as are those of `made`.
        """
        asked: list[tuple[EndpointState, Objective, Source]] = []
        watched: list[Watched] = []
        for state in endpoints:
            promised = slo.objectives(state.resource.spec.slos) if not state.is_deleting else ()
            for objective in parts.judged(state.key, promised, followed):
                known = made(state) if objective.sli == "freshness" else {}
                found = slis.source(state.project, state.name, objective, known, now_s)
                if objective.slices is not None:
                    mean, label = slis.mean(state.project, state.name, objective), slo.label(objective)
                    watched.append(Watched(state.project, state.name, label, objective.slices, found, mean))
                    found = slis.sliced(state.project, state.name, objective)
                asked.append((state, objective, found))
        await self._slicer.judge(watched, self._ask, now_s // EVERY_S * EVERY_S)
        counts = await self._counts([(found, objective) for _, objective, found in asked], now_s)
        return tuple(
            Standing(
                state.project,
                state.name,
                objective,
                slo.decide(
                    objective,
                    {window_s: counts[found, window_s] for window_s in slo.windows(objective)},
                    memory.get(parts.key(state.project, state.name, objective), SloMemory()),
                    now_s,
                ),
            )
            for state, objective, found in asked
        )

    def forget(self) -> None:
        """Begin anew: another process looked meanwhile."""
        self._slicer.forget()

    async def _counts(
        self, wanted: Sequence[tuple[Source, Objective]], now_s: float
    ) -> dict[tuple[Source, float], Counts]:
        now_s = now_s // EVERY_S * EVERY_S  # sums lie on this grid; off it, events at a seam would count twice
        windows: dict[Source, set[float]] = {}
        for source, objective in wanted:
            windows.setdefault(source, set()).update(slo.windows(objective))
        due = self._due(windows, now_s)
        by_windows: dict[tuple[float, ...], list[Source]] = {}
        for source, every in windows.items():
            asked = every if source in due else {each for each in every if each <= LONG_S} | self._since(source, now_s)
            by_windows.setdefault(tuple(sorted(asked)), []).append(source)
        found: dict[tuple[Source, float], Counts] = {}
        for lengths, sources in by_windows.items():
            found |= await self._ask(sources, lengths, now_s)
        kept = {}
        for source, every in windows.items():
            if source in due:
                kept[source] = {each: found[source, each] for each in every if each > LONG_S}
                continue
            kept[source] = self._long[source]
            newer = [found[source, length_s] for length_s in self._since(source, now_s)]
            found |= {(source, each): _sum(counts, *newer) for each, counts in kept[source].items()}
        self._asked_s = {source: now_s if source in due else self._asked_s[source] for source in windows}
        self._long = kept
        return found

    def _due(self, windows: Mapping[Source, set[float]], now_s: float) -> set[Source]:
        """Return whose long windows are asked now: those that never were, and a share of those asked longest ago."""
        new = {
            source
            for source, every in windows.items()
            if source not in self._long or any(each > LONG_S and each not in self._long[source] for each in every)
        }
        # A clock that was set back makes every one of them old.
        old = [source for source in windows if not 0 <= now_s - self._asked_s.get(source, now_s) < REFRESH_S]
        old.sort(key=lambda source: self._asked_s[source])
        return new | set(old[: ceil(len(windows) * EVERY_S / REFRESH_S)])

    def _since(self, source: Source, now_s: float) -> set[float]:
        """Return the one window that reaches back to when the source's long windows were asked; none when it is now."""
        since_s = now_s - self._asked_s[source]
        return {since_s} if since_s >= EVERY_S else set()

    async def _ask(
        self, sources: Sequence[Source], windows: Sequence[float], now_s: float
    ) -> dict[tuple[Source, float], Counts]:
        found = {}
        for some in _together(sources):
            selectors = [selector for source in some for selector in (source.total, *source.parts)]
            sums = iter(await self._sums.sums(selectors, windows, now_s=now_s))
            for source in some:
                totals = next(sums)
                parts = [next(sums) for _ in source.parts]
                for place, (window_s, total) in enumerate(zip(windows, totals, strict=True)):
                    part = sum(each[place] for each in parts)
                    bad = total - part if source.parts_are_good else part
                    found[source, window_s] = Counts(bad=max(bad, 0.0), total=total)
        return found


def _together(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """Yield the sources in groups that one question may ask."""
    some: list[Source] = []
    asked = 0
    for source in sources:
        needed = 1 + len(source.parts)
        if some and asked + needed > SELECTORS_MAX:
            yield some
            some, asked = [], 0
        some.append(source)
        asked += needed
    if some:
        yield some


def _sum(*parts: Counts) -> Counts:
    return Counts(sum(each.bad for each in parts), sum(each.total for each in parts))
