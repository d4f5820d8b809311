"""Follows the busiest tenants or segments of objectives that judge each by itself (core/parts.py)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from stoker.core import parts
from stoker.core.snapshot import EndpointState
from stoker.observe.objectives import slis
from stoker.observe.port import Selector, select
from stoker.telemetry.metrics import OTHER
from stoker.types.slos import Objective
from stoker.types.units import parse_seconds

EVERY_S: Final = 60.0
LOOKED_BACK_S: Final = 7 * 86_400.0  # at most; who asked for nothing since is not judged any more
TENANTS: Final = "stoker_tenant_requests_total"  # names the busiest of an endpoint (gateway/tenants.py)


class SumsBy(Protocol):
    """What is asked of the history (port.Questions has it)."""

    async def sums_by(
        self, selector: Selector, by: Sequence[str], windows_s: Sequence[float], *, now_s: float | None = None
    ) -> dict[tuple[str, ...], tuple[float, ...]]:
        """Return the sums by the values of the labels `by`."""


class Parts:
    """Used by one task."""

    def __init__(self, history: SumsBy) -> None:
        self._history = history
        self._looked_s: dict[str, float] = {}

    async def look(
        self, states: Iterable[EndpointState], before: Mapping[str, tuple[str, ...]], now_s: float
    ) -> dict[str, tuple[str, ...]]:
        """Return who is judged now, by the key of the objective; asks about each objective every EVERY_S."""
        found: dict[str, tuple[str, ...]] = {}
        for state in states:
            for objective in state.resource.spec.slos if not state.is_deleting else ():
                if not objective.each:
                    continue
                key = parts.key(state.project, state.name, objective)
                found[key] = before.get(key, ())[: objective.each_max]
                if not 0 <= now_s - self._looked_s.get(key, 0.0) < EVERY_S:
                    self._looked_s[key] = now_s
                    traffic = await self._traffic(state.project, state.name, objective, now_s)
                    found[key] = parts.choose(found[key], traffic, objective.each_max)
        self._looked_s = {key: self._looked_s[key] for key in found}
        return found

    async def _traffic(self, project: str, endpoint: str, objective: Objective, now_s: float) -> dict[str, float]:
        if objective.each == "tenant":
            selector = select(TENANTS, project=project, endpoint=endpoint)
        else:
            selector = slis.events_of(project, endpoint, objective)
        window_s = min(parse_seconds(objective.window), LOOKED_BACK_S)
        sums = await self._history.sums_by(selector, (objective.each,), (window_s,), now_s=now_s)
        return {name: counts[0] for (name,), counts in sums.items() if name not in ("", OTHER)}
