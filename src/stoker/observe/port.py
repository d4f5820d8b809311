"""What is asked of the history: which series (Selector), over which time, and what comes back. Nothing here reads.

The data plane counts, control keeps; screens, SLOs, rollout verdicts, diagnosis and the API ask through Questions.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec

from stoker.client.views import Chart, Line
from stoker.observe.patterns import fits
from stoker.telemetry.catalogue import MetricKind
from stoker.telemetry.histogram import Distribution
from stoker.telemetry.snapshot import Snapshot

# A chart is what the API answers too, so the client's views have it.
__all__ = ["Chart", "Labels", "Like", "Line", "Matcher", "Questions", "Selector", "Series", "like", "select"]

TICK_S: Final = 5  # what the collector samples by, and the finest time there is
WINDOW_MAX_S: Final = 400 * 86_400.0
POINTS_MAX: Final = 2_000  # of a chart's line; a screen is not wider
SERIES_MAX: Final = 500  # that one question may read
WINDOWS_MAX: Final = 32
SELECTORS_MAX: Final = 500

Operator = Literal["=", "!=", "=~", "!~"]
Labels = tuple[tuple[str, str], ...]  # sorted by name


class Series(NamedTuple):
    """What tells one series from another: all processes that count the same add up in it."""

    metric: str
    kind: MetricKind
    labels: Labels

    def label(self, name: str) -> str:
        """Return the value of a label; "" where there is none."""
        return next((value for label, value in self.labels if label == name), "")


class Matcher(msgspec.Struct, frozen=True):
    """A claim about one label; a label that a series has not is "". Patterns are those of patterns.py."""

    label: str
    operator: Operator
    value: str

    def holds(self, series: Series) -> bool:
        """Return whether the claim is true of `series`."""
        found = series.label(self.label)
        if self.operator in ("=", "!="):
            return (found == self.value) is (self.operator == "=")
        return fits(self.value, found) is (self.operator == "=~")


class Selector(msgspec.Struct, frozen=True):
    """The series of one metric of which all `matchers` hold.

    at_most: of a histogram, count only values up to this; the bucket that holds it counts whole (9 % wide).
    after_s: count only what came after this moment (unix seconds); of `sums` alone.
    """

    metric: str
    matchers: tuple[Matcher, ...] = ()
    at_most: float | None = None
    after_s: float = 0.0

    def holds(self, series: Series) -> bool:
        """Return whether `series` is selected."""
        return series.metric == self.metric and all(each.holds(series) for each in self.matchers)

    def within(self, project: str | None) -> "Selector":
        """Return the selector that sees nothing but the series of `project`; None is every project."""
        if project is None:
            return self
        return msgspec.structs.replace(self, matchers=(*self.matchers, Matcher("project", "=", project)))


class Like(msgspec.Struct, frozen=True):
    """A pattern where `select` would take a value."""

    pattern: str


def like(pattern: str) -> Like:
    """Return `pattern` as a value for `select`: `code=like("5..")`."""
    return Like(pattern)


def select(metric: str, *, at_most: float | None = None, **labels: str | Like) -> Selector:
    """Return the selector of `metric` whose labels are so: `select("stoker_requests_total", endpoint="chat")`."""
    return Selector(
        metric,
        tuple(
            Matcher(label, "=~", value.pattern) if isinstance(value, Like) else Matcher(label, "=", value)
            for label, value in labels.items()
        ),
        at_most,
    )


class Questions(Protocol):
    """What can be asked of a History. Every method raises InvalidInput for what is over a written maximum."""

    async def sums(
        self, selectors: Sequence[Selector], windows_s: Sequence[float], *, now_s: float | None = None
    ) -> list[tuple[float, ...]]:
        """Return, for each selector, what its series counted in each window up to `now_s`.

        Of counters the increase, of histograms how many values were observed (`at_most` counted). A window's
        beginning is exact to TICK_S in the last 70 minutes (of histograms in the last 10), else to a minute (7 days),
        five minutes (35 days) or an hour; its end is exact to TICK_S.
        """

    async def sums_by(
        self, selector: Selector, by: Sequence[str], windows_s: Sequence[float], *, now_s: float | None = None
    ) -> dict[tuple[str, ...], tuple[float, ...]]:
        """Return the sums by the values of the labels `by`; groups without any series are not there."""

    async def distribution(self, selector: Selector, window_s: float, *, end_s: float | None = None) -> Distribution:
        """Return what the histograms saw in the window that ends at `end_s`, merged."""

    async def series(
        self, selector: Selector, *, since_s: float, step_s: float, by: Sequence[str] = (), end_s: float | None = None
    ) -> Chart:
        """Return a line for each value of the labels `by`: a step's increase (counter), count (histogram) or mean.

        Gauges of one group are summed. `since_s` is how far back the chart begins, in seconds before `end_s`.
        """

    async def snapshots(self, selectors: Sequence[Selector], edges_s: Sequence[float]) -> list[Snapshot]:
        """Return what the series did between each two of the rising `edges_s` (unix seconds).

        Counters and histograms with what they gained, gauges as means; series that did nothing are not there. Edges
        are exact as those of `sums`.
        """

    async def query(
        self,
        text: str,
        *,
        since_s: float = 0.0,
        step_s: float = 60.0,
        end_s: float | None = None,
        project: str | None = None,
    ) -> Chart:
        """Return what the expression `text` gives, at `end_s` alone or at every step since `since_s` before it.

        `project` limits what is seen to the series that carry that project. Raises InvalidInput with the position.
        """

    async def known(self, selector: Selector) -> list[dict[str, Any]]:
        """Return the labels of every series that `selector` selects."""
