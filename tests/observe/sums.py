"""Sums that a test makes up."""

from collections.abc import Sequence

from stoker.client.views import Chart
from stoker.observe.port import Selector
from stoker.telemetry.histogram import Distribution
from stoker.telemetry.snapshot import Snapshot


class Sums:
    """Counts by metric: events and the share of them that is bad, the same in every window."""

    def __init__(self, **bad_ratio: float) -> None:
        self.bad_ratio = bad_ratio
        self.asked: list[tuple[int, tuple[float, ...]]] = []

    async def sums(
        self, selectors: Sequence[Selector], windows_s: Sequence[float], *, now_s: float | None = None
    ) -> list[tuple[float, ...]]:
        self.asked.append((len(selectors), tuple(windows_s)))
        found = []
        for selector in selectors:
            ratio = self.bad_ratio.get(selector.metric.removeprefix("stoker_"), 0.0)
            is_bad = any(matcher.label == "outcome" for matcher in selector.matchers)
            share = ratio if is_bad else 1 - ratio if selector.at_most is not None else 1.0
            found.append(tuple(100.0 * window_s * share for window_s in windows_s))
        return found

    async def sums_by(
        self, selector: Selector, by: Sequence[str], windows_s: Sequence[float], *, now_s: float | None = None
    ) -> dict[tuple[str, ...], tuple[float, ...]]:
        return {}

    async def distribution(self, selector: Selector, window_s: float, *, end_s: float | None = None) -> Distribution:
        return Distribution()

    async def query(self, text: str, *, end_s: float | None = None) -> Chart:
        return Chart([end_s or 0.0], [])

    async def snapshots(self, selectors: Sequence[Selector], edges_s: Sequence[float]) -> list[Snapshot]:
        return [Snapshot("", end_s) for end_s in edges_s[1:]]
