"""Judges slices of time as they end, and counts them: the events of objectives that budget by slices.

What is counted goes through the history as every count does, so windows, budgets and rules see slices as they see
requests. A slice that this process has not seen from its beginning to its end is not counted.
"""

from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from stoker.core import slices
from stoker.core.slo import Counts
from stoker.observe.objectives.slis import SLICES, Mean, Source
from stoker.observe.port import Selector
from stoker.telemetry.histogram import Distribution
from stoker.telemetry.metrics import Registry
from stoker.types.slos import Slices
from stoker.types.units import parse_seconds

OUTCOMES: Final = ("good", "bad")


class Watched(msgspec.Struct, frozen=True):
    """An objective that budgets by slices: whose it is, and where the events in a slice are counted.

    mean: of one that judges a slice by the mean of its values.
    """

    project: str
    endpoint: str
    slo: str
    slices: Slices
    events: Source
    mean: Mean | None = None

    @property
    def labels(self) -> dict[str, str]:
        """Those of its series."""
        return {"project": self.project, "endpoint": self.endpoint, "slo": self.slo}


class Asked(Protocol):
    """Asks for sums (Judge has it)."""

    async def __call__(
        self, sources: list[Source], windows: tuple[float, ...], now_s: float
    ) -> Mapping[tuple[Source, float], Counts]:
        """Return the counts of each source in each window up to `now_s`."""


class Means(Protocol):
    """What is asked of the history (port.Questions has it)."""

    async def distribution(self, selector: Selector, window_s: float, *, end_s: float | None = None) -> Distribution:
        """Return what the histograms saw in the window that ends at `end_s`, merged."""


class Slicer:
    """Used by one task."""

    def __init__(self, means: Means, metrics: Registry) -> None:
        self._means = means
        self._metrics = metrics
        self._since_s: dict[tuple[str, ...], float] = {}  # when the next slice of each begins, at the earliest

    def forget(self) -> None:
        """Begin anew: another process judged meanwhile."""
        self._since_s.clear()

    async def judge(self, watched: list[Watched], ask: Asked, now_s: float) -> None:
        """Count the slices that ended since the last call. `now_s`: unix seconds, on the grid of sums."""
        due: dict[tuple[float, float], list[Watched]] = {}
        since_s: dict[tuple[str, ...], float] = {}
        for each in watched:
            key, length_s = tuple(each.labels.values()), parse_seconds(each.slices.length)
            known_s = min(self._since_s.get(key, now_s), now_s)  # a clock may be set back
            ended = slices.ends(known_s, now_s, length_s)
            since_s[key] = ended[-1] if ended else known_s
            for end_s in ended:
                due.setdefault((end_s, length_s), []).append(each)
        for (end_s, length_s), some in sorted(due.items(), key=lambda item: item[0]):
            counts = await ask(list({each.events: None for each in some if each.mean is None}), (length_s,), end_s)
            for each in some:
                if each.mean is None:
                    self._count(each, slices.goodness(counts[each.events, length_s], each.slices))
                else:
                    seen = await self._means.distribution(each.mean.values, length_s, end_s=end_s)
                    self._count(each, float(each.mean.is_kept(seen.mean)))
        for project, endpoint, slo in self._since_s.keys() - since_s.keys():
            for outcome in OUTCOMES:
                self._metrics.drop(SLICES, project=project, endpoint=endpoint, slo=slo, outcome=outcome)
        self._since_s = since_s

    def _count(self, each: Watched, good: float) -> None:
        for outcome, share in zip(OUTCOMES, (good, 1.0 - good), strict=True):
            self._metrics.counter(SLICES, outcome=outcome, **each.labels).add(share)
