"""The questions that are not text: sums over windows, distributions, lines. Functions of a Reader; checked maxima."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from stoker.observe.history.reading import ANY_GRAIN_S, Index, Reader, tick
from stoker.observe.history.ring import Row
from stoker.observe.port import (
    POINTS_MAX,
    SELECTORS_MAX,
    TICK_S,
    WINDOW_MAX_S,
    WINDOWS_MAX,
    Chart,
    Selector,
    Series,
)
from stoker.observe.query.evaluate import evaluate
from stoker.observe.query.expressions import Call, Expression, Metric, Number
from stoker.observe.query.parse import parse
from stoker.telemetry.catalogue import BY_NAME
from stoker.telemetry.histogram import Distribution
from stoker.types.errors import InvalidInput

VALUES_MAX: Final = 200_000  # series times moments


class When(NamedTuple):
    """The moments of a chart: every `step_s` from `since_s` before `end_s`; `since_s` 0: `end_s` alone."""

    end_s: int
    since_s: float
    step_s: int

    @classmethod
    def of(cls, end_s: int, since_s: float, step_s: float) -> "When":
        """Return the moments that can be had: a step is a multiple of TICK_S. Raises InvalidInput over a maximum."""
        if not 0 <= since_s <= WINDOW_MAX_S:
            raise InvalidInput(
                f"{since_s:g} s back; between 0 and {WINDOW_MAX_S / 86_400:g} days are kept", field="since"
            )
        if not 0 < step_s <= WINDOW_MAX_S:
            raise InvalidInput(f"a step of {step_s:g} s; it must be longer than nothing", field="step")
        step = max(-(-math.ceil(step_s) // TICK_S), 1) * TICK_S
        if since_s / step > POINTS_MAX:
            least_s = math.ceil(since_s / POINTS_MAX)
            raise InvalidInput(
                f"{since_s / step:,.0f} points; at most {POINTS_MAX:,} are computed: ask for a step of {least_s} s",
                field="step",
            )
        return cls(end_s, since_s, step)

    def times(self) -> list[int]:
        """Return the moments, rising."""
        if not self.since_s:
            return [self.end_s]
        last_s = self.end_s // self.step_s * self.step_s
        return list(range(last_s - int(self.since_s) // self.step_s * self.step_s, last_s + 1, self.step_s))


def sums(
    reader: Reader, index: Index, selectors: Sequence[Selector], windows_s: Sequence[float], now_s: int
) -> list[tuple[float, ...]]:
    """See port.Questions.sums. Time is cut at the windows' beginnings, so that each cell is read once for all."""
    if len(selectors) > SELECTORS_MAX:
        raise InvalidInput(f"{len(selectors)} selectors; at most {SELECTORS_MAX} are summed at once")
    edges = _edges(windows_s, now_s)
    afters = [tick(each.after_s) for each in selectors]
    edges = sorted({*edges, *(after for after in afters if edges[0] < after < now_s)})
    chosen = [[(series, each.at_most) for series in index.select(_counting(each))] for each in selectors]
    totals = reader.totals({counted: None for wanted in chosen for counted in wanted}, edges)
    return [
        _windows([totals[counted] for counted in wanted], edges, windows_s, now_s, after)
        for wanted, after in zip(chosen, afters, strict=True)
    ]


def sums_by(
    reader: Reader, index: Index, selector: Selector, by: Sequence[str], windows_s: Sequence[float], now_s: int
) -> dict[tuple[str, ...], tuple[float, ...]]:
    """See port.Questions.sums_by."""
    edges = _edges(windows_s, now_s)
    totals = reader.totals([(series, selector.at_most) for series in index.select(_counting(selector))], edges)
    groups: dict[tuple[str, ...], list[list[float]]] = {}
    for (series, _), pieces in totals.items():
        groups.setdefault(tuple(series.label(name) for name in by), []).append(pieces)
    return {group: _windows(pieces, edges, windows_s, now_s) for group, pieces in groups.items()}


def distribution(reader: Reader, index: Index, selector: Selector, window_s: float, end_s: int) -> Distribution:
    """See port.Questions.distribution."""
    if (known := BY_NAME.get(selector.metric)) is not None and known.kind != "histogram":
        raise InvalidInput(f"{selector.metric} is a {known.kind}; only a histogram has a distribution")
    return reader.distribution(index.select(selector), _begin(window_s, end_s), end_s)


def query(reader: Reader, index: Index, text: str, when: When, project: str | None) -> Chart:
    """See port.Questions.query."""
    return chart(reader, index, parse(text, index.known, index.names), when, project)


def series(reader: Reader, index: Index, selector: Selector, by: Sequence[str], when: When) -> Chart:
    """See port.Questions.series."""
    known = index.known(selector.metric)
    if known is None:
        return Chart([float(at) for at in when.times()], [])
    over = Metric(selector, known.kind, float(when.step_s), 0)
    if known.kind == "gauge":
        return chart(reader, index, Call("sum", (Call("avg", (over,), None, 0),), tuple(by), 0), when, None)
    if selector.at_most is not None:
        counted = Call("under", (Number(selector.at_most, 0), over), tuple(by), 0)
        return chart(reader, index, counted, when, None)
    return chart(reader, index, Call("increase", (over,), tuple(by), 0), when, None)


def chart(reader: Reader, index: Index, expression: Expression, when: When, project: str | None) -> Chart:
    """Return what `expression` gives over the series that `project` may see."""
    times = when.times()

    def read(selector: Selector, window_s: float) -> dict[Series, list[Row]]:
        chosen = index.select(selector.within(project))
        if len(chosen) * len(times) > VALUES_MAX:
            raise InvalidInput(
                f"{len(chosen)} series at {len(times)} moments; at most {VALUES_MAX:,} values are computed: ask for a"
                " longer step, less time, or name more labels"
            )
        # One window is exact at both edges; those of a chart lie on the grid that step and window have in common.
        grain_s = ANY_GRAIN_S if len(times) == 1 else math.gcd(when.step_s, max(int(window_s), 1))
        return reader.rows(chosen, tick(times[0] - window_s), times[-1], grain_s)

    return evaluate(expression, times, read)


def _counting(selector: Selector) -> Selector:
    known = BY_NAME.get(selector.metric)
    if known is not None and known.kind == "gauge":
        raise InvalidInput(f"{selector.metric} is a gauge: it counts nothing that could be summed over time")
    if known is not None and known.kind == "counter" and selector.at_most is not None:
        raise InvalidInput(f"{selector.metric} is a counter: it has no values that could be at most so large")
    return selector


def _begin(window_s: float, end_s: int) -> int:
    if not TICK_S <= window_s <= WINDOW_MAX_S:
        raise InvalidInput(f"a window of {window_s:g} s; it is between {TICK_S} s and {WINDOW_MAX_S / 86400:g} days")
    return tick(end_s - window_s)


def _edges(windows_s: Sequence[float], now_s: int) -> list[int]:
    if not 1 <= len(windows_s) <= WINDOWS_MAX:
        raise InvalidInput(f"{len(windows_s)} windows; between 1 and {WINDOWS_MAX} are summed at once")
    return sorted({*(_begin(window_s, now_s) for window_s in windows_s), now_s})


def _windows(
    pieces: Sequence[Sequence[float]], edges: Sequence[int], windows_s: Sequence[float], now_s: int, after_s: int = 0
) -> tuple[float, ...]:
    """Return the sum of each window: of all pieces of time from its beginning on, without those before `after_s`."""
    since = {edges[-1]: 0.0}
    for at in range(len(edges) - 2, -1, -1):
        piece = sum(each[at] for each in pieces) if edges[at] >= after_s else 0.0
        since[edges[at]] = since[edges[at + 1]] + piece
    return tuple(since[_begin(window_s, now_s)] for window_s in windows_s)
