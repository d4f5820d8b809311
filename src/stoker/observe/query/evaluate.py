"""What an expression gives at each moment of a chart. Pure, but for the cells that `read` hands in.

None is "nothing is known": arithmetic with it is None, sums leave it out, a division by zero gives it.
"""

from collections.abc import Callable, Sequence
from math import fsum, isfinite
from operator import add as plus
from operator import mul, sub, truediv
from typing import Final

from stoker.observe.history.points import Course, Point, add
from stoker.observe.history.ring import Row
from stoker.observe.port import Chart, Labels, Line, Selector, Series
from stoker.observe.query.expressions import Arithmetic, Call, Expression, Metric, Number
from stoker.observe.query.windows import windows
from stoker.telemetry.histogram import Distribution, bucket_index
from stoker.types.errors import InvalidInput

TOP_MAX: Final = 100
LAST_S: Final = 120.0  # how old the last reading of a gauge may be to be its value
# Cells that a gauge's windows look at, overlaps counted; a window of a day at each minute of a month is refused.
LOOKS_MAX: Final = 5_000_000

Values = list[float | None]
Lines = dict[Labels, Values]
Read = Callable[[Selector, float], dict[Series, list[Row]]]  # the cells that the windows of this length need
_OPERATORS: Final[dict[str, Callable[[float, float], float]]] = {"+": plus, "-": sub, "*": mul, "/": truediv}


def evaluate(expression: Expression, times: Sequence[int], read: Read) -> Chart:
    """Return the lines of `expression` (already checked) at `times`, those without any value left out."""
    found = _Evaluation(times, read).of(expression)
    lines: Lines = {(): [found] * len(times)} if isinstance(found, float) else found
    shown = sorted((labels, values) for labels, values in lines.items() if any(value is not None for value in values))
    return Chart([float(at) for at in times], [Line(dict(labels), values) for labels, values in shown])


class _Evaluation:
    def __init__(self, times: Sequence[int], read: Read) -> None:
        self._times = times
        self._read = read

    def of(self, expression: Expression) -> float | Lines:
        """Return a number, or lines."""
        if isinstance(expression, Number):
            return expression.value
        if isinstance(expression, Metric):
            points = self._points(expression, LAST_S, None)
            return {labels: [_last(point) for point in line] for labels, line in points.items()}
        if isinstance(expression, Arithmetic):
            return _combine(_OPERATORS[expression.operator], self.of(expression.left), self.of(expression.right))
        return self._call(expression)

    def _call(self, call: Call) -> Lines:
        *first, last = call.arguments
        if isinstance(last, Metric) and last.window_s is not None:
            number = self.of(first[0]) if first else 0.0
            assert isinstance(number, float)
            measure = _measure(call.name, number, last.window_s)
            points = self._points(last, last.window_s, call.by)
            counts = last.kind == "counter"  # whose silence is a value: nothing happened
            return {
                labels: [measure(point) if point is not None else 0.0 if counts else None for point in line]
                for labels, line in points.items()
            }
        if call.name == "topk":
            return _top(self.of(first[0]), self._lines(last))
        if call.name == "ratio":
            return _ratio(self._lines(first[0]), self._lines(last), len(self._times))
        return _across(call.name, self._lines(last), call.by or ())

    def _lines(self, expression: Expression) -> Lines:
        found = self.of(expression)
        return {(): [found] * len(self._times)} if isinstance(found, float) else found

    def _points(self, metric: Metric, window_s: float, by: tuple[str, ...] | None) -> dict[Labels, list[Point | None]]:
        """Return the windows' points by series, or merged by the labels `by`."""
        merged: dict[Labels, list[Point | None]] = {}
        for series, rows in self._read(metric.selector, window_s).items():
            if metric.kind == "gauge" and len(rows) > 1:
                cell_s = (rows[-1].end_s - rows[0].end_s) / (len(rows) - 1)
                if len(self._times) * window_s / max(cell_s, 1.0) > LOOKS_MAX:
                    raise InvalidInput(f"windows of {window_s:g} s overlap too often; ask for a longer step")
            points = windows(metric.kind, rows, self._times, window_s)
            labels = series.labels if by is None else tuple((name, series.label(name)) for name in sorted(by))
            held = merged.get(labels)
            merged[labels] = points if held is None else [_both(*pair) for pair in zip(held, points, strict=True)]
        return merged


def _both(one: Point | None, other: Point | None) -> Point | None:
    if one is None or other is None:
        return other if one is None else one
    return add(one, other)


def _last(point: Point | None) -> float | None:
    return point.last if isinstance(point, Course) else None


def _measure(name: str, number: float, window_s: float) -> Callable[[Point], float | None]:
    """Return what makes a number of a window's point."""
    if name == "quantile" and not 0.0 <= number <= 1.0:
        raise InvalidInput(f"a quantile is between 0 and 1, not {number:g}; the 99th percentile is 0.99", field="query")

    def measure(point: Point) -> float | None:
        if isinstance(point, Distribution):
            if name == "quantile":
                return point.quantile(number)
            if name == "avg":
                return point.mean
            if name == "under":
                last = bucket_index(number)
                return float(sum(held for index, held in point.buckets.items() if index <= last))
            return point.count / window_s if name == "rate" else float(point.count)
        if isinstance(point, Course):
            return {"avg": point.mean, "min": point.low, "max": point.high}[name]
        return point / window_s if name == "rate" else point

    return measure


def _combine(operate: Callable[[float, float], float], left: float | Lines, right: float | Lines) -> float | Lines:
    """Return lines whose labels are equal, combined; a number, or one line without labels, goes with every line."""

    def one(a: float | None, b: float | None) -> float | None:
        if a is None or b is None:
            return None
        try:
            value = operate(a, b)
        except (ZeroDivisionError, OverflowError):
            return None
        return value if isfinite(value) else None

    if isinstance(left, float) and isinstance(right, float):
        value = one(left, right)
        return {} if value is None else value
    if isinstance(left, float):
        assert not isinstance(right, float)
        return {labels: [one(left, value) for value in values] for labels, values in right.items()}
    if isinstance(right, float):
        return {labels: [one(value, right) for value in values] for labels, values in left.items()}
    if right.keys() == {()}:
        return {labels: list(map(one, values, right[()])) for labels, values in left.items()}
    if left.keys() == {()}:
        return {labels: list(map(one, left[()], values)) for labels, values in right.items()}
    return {labels: list(map(one, values, right[labels])) for labels, values in left.items() if labels in right}


def _ratio(part: Lines, whole: Lines, count: int) -> Lines:
    """Return part / whole by the labels of whole; a part that is not there is zero of it."""
    nothing: Values = [None] * count
    return {
        labels: [
            None if not all_of_it else (some or 0.0) / all_of_it
            for some, all_of_it in zip(part.get(labels, nothing), values, strict=True)
        ]
        for labels, values in whole.items()
    }


def _top(count: float | Lines, lines: Lines) -> Lines:
    """Return the lines that are the highest on average; the same ones at every moment, as a chart wants it."""
    assert isinstance(count, float)
    if not 1 <= count <= TOP_MAX:
        raise InvalidInput(f"topk takes between 1 and {TOP_MAX} lines, not {count:g}", field="query")

    def mean(values: Values) -> float:
        held = [value for value in values if value is not None]
        return fsum(held) / len(held) if held else float("-inf")

    ranked = sorted(lines.items(), key=lambda item: (-mean(item[1]), item[0]))
    return dict(ranked[: int(count)])


def _across(name: str, lines: Lines, by: tuple[str, ...]) -> Lines:
    """Return sum, avg, min or max over lines, by labels."""
    groups: dict[Labels, list[Values]] = {}
    for labels, values in lines.items():
        held = dict(labels)
        groups.setdefault(tuple((label, held.get(label, "")) for label in sorted(by)), []).append(values)

    def over(values: Sequence[float | None]) -> float | None:
        held = [value for value in values if value is not None]
        if not held:
            return None
        if name in ("min", "max"):
            return min(held) if name == "min" else max(held)
        return fsum(held) / (len(held) if name == "avg" else 1)

    return {labels: [over(column) for column in zip(*group, strict=True)] for labels, group in groups.items()}
