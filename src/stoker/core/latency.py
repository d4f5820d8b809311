"""What an engine call is expected to take: a line `a + b * rows` for each shape of input, fitted over every call.

A model that takes any length has no one line: 8 tokens a row and 512 cost as different as two models. So each bucket
(requests whose rows have equal shapes) has its own, at most LINES_MAX of them; the longest unused is forgotten. A
bucket that nobody measured yet borrows from a line over all calls, in input values instead of rows: that one may cap a
batch but refuses nobody, or a bucket that is cheaper than it looks would never be tried.

Source: Clipper and BentoML fit one such line a model; one a bucket is Nexus' batching profile.
"""

import math
from typing import Final

import msgspec

FORGET: Final = 0.98  # weight of the past at each observation: a memory of about 50 engine calls
LEARNED_CALLS: Final = 4  # fewer observations than this predict nothing
BELIEF_S: Final = 1.0  # a line not confirmed for this long refuses nobody: one stall must not starve an endpoint
INLINE_BELOW_S: Final = 0.0007  # an engine call this short costs less than handing it to a thread and back
INLINE_ABOVE_S: Final = 0.0014  # and one this long would hold up the loop's other sockets
OUTLIER_RATIO: Final = 10.0  # a call longer than so many times its bound counts as that long: a stall is no trend
RECENT_STEP: Final = 0.25  # weight of the newest call in the mean that decides where the next one runs
QUANTILE: Final = 0.95
QUANTILE_STEP: Final = 0.2  # of the mean residual, for each observation
LINES_MAX: Final = 256  # buckets with a line of their own; 0.5 kB each
NEVER: Final = math.inf

Shapes = tuple[tuple[int, ...], ...]  # of one row of each input; () where the model fixes them all


class Line(msgspec.Struct, frozen=True):
    """Engine seconds as a function of rows, fitted over what was seen, the recent more.

    `weight` … `rows_seconds` are sums for least squares; `residual_s` is the mean distance from the line and
    `margin_s` the distance that 95 % of calls stay below. `recent_s` is the mean of the last few calls as they were.
    """

    base_s: float = 0.0
    row_s: float = 0.0
    margin_s: float = 0.0
    calls: int = 0
    seen_s: float = -NEVER  # when the last call ended
    weight: float = 0.0
    rows: float = 0.0
    rows_rows: float = 0.0
    seconds: float = 0.0
    rows_seconds: float = 0.0
    residual_s: float = 0.0
    recent_s: float = 0.0
    is_guess: bool = False  # borrowed: nobody measured this bucket yet


_UNKNOWN: Final = Line()


class Lines:
    """The lines of one replica, by bucket."""

    __slots__ = ("_by_shapes", "_by_values")

    def __init__(self) -> None:
        self._by_shapes: dict[Shapes, Line] = {}  # the longest unused first
        self._by_values = Line()  # over input values instead of rows; learned once there are two buckets

    def __len__(self) -> int:
        return len(self._by_shapes)

    def of(self, shapes: Shapes) -> Line:
        """Return the line of a bucket, or the guess that stands for it until LEARNED_CALLS were seen."""
        line = self._by_shapes.get(shapes, _UNKNOWN)
        if line.calls >= LEARNED_CALLS or self._by_values.calls < LEARNED_CALLS:
            return line
        return self._guess(values_of(shapes))

    def overall(self) -> Line:
        """Return one line for all that is asked: the only bucket's, or a guess for rows of the buckets' mean size."""
        table = self._by_shapes
        if len(table) <= 1 or self._by_values.calls < LEARNED_CALLS:
            return next(reversed(table.values()), _UNKNOWN)
        weight = sum([line.weight for line in table.values()])
        return self._guess(sum([values_of(shapes) * line.weight for shapes, line in table.items()]) / weight)

    def _guess(self, values: float) -> Line:
        borrowed = self._by_values
        return Line(
            base_s=borrowed.base_s,
            row_s=borrowed.row_s * values,
            margin_s=borrowed.margin_s,
            calls=borrowed.calls,
            seen_s=borrowed.seen_s,
            is_guess=True,
        )

    def learn(self, shapes: Shapes, rows: int, took_s: float, now_s: float) -> None:
        """Take in an engine call over `rows` rows of these shapes."""
        table = self._by_shapes
        table[shapes] = learned(table.pop(shapes, _UNKNOWN), rows, took_s, now_s)
        if len(table) > 1:
            self._by_values = learned(self._by_values, rows * values_of(shapes), took_s, now_s)
            if len(table) > LINES_MAX:
                del table[next(iter(table))]


def values_of(shapes: Shapes) -> int:
    """Return how many input values one row has; 1 for fixed shapes, whose number does not matter."""
    return sum([math.prod(shape) for shape in shapes]) or 1


def learned(line: Line, rows: int, took_s: float, now_s: float) -> Line:
    """Return the line after an engine call over `rows` rows took `took_s` seconds. Neither slope is ever negative."""
    recent_s = line.recent_s + (took_s - line.recent_s) * RECENT_STEP
    if line.calls >= LEARNED_CALLS:
        took_s = min(took_s, OUTLIER_RATIO * bound_s(line, rows))
    weight = line.weight * FORGET + 1.0
    sum_rows = line.rows * FORGET + rows
    sum_rows_rows = line.rows_rows * FORGET + rows * rows
    seconds = line.seconds * FORGET + took_s
    rows_seconds = line.rows_seconds * FORGET + rows * took_s
    spread = weight * sum_rows_rows - sum_rows * sum_rows
    # All calls of one size say nothing about the slope: hold the line flat through their mean.
    row_s = (weight * rows_seconds - sum_rows * seconds) / spread if spread > 1e-6 * weight * sum_rows_rows else 0.0
    row_s = max(0.0, row_s)
    base_s = (seconds - row_s * sum_rows) / weight
    if base_s < 0.0:
        base_s, row_s = 0.0, rows_seconds / sum_rows_rows
    residual = took_s - (base_s + row_s * rows)
    size = line.residual_s * FORGET + abs(residual) * (1.0 - FORGET) if line.calls else abs(residual)
    # Stochastic approximation of the quantile (Robbins-Monro): up by 0.95 steps when above, down by 0.05 when below.
    up = QUANTILE if residual > line.margin_s else QUANTILE - 1.0
    return Line(
        base_s=base_s,
        row_s=row_s,
        margin_s=max(0.0, line.margin_s + QUANTILE_STEP * size * up),
        calls=line.calls + 1,
        seen_s=now_s,
        weight=weight,
        rows=sum_rows,
        rows_rows=sum_rows_rows,
        seconds=seconds,
        rows_seconds=rows_seconds,
        residual_s=size,
        recent_s=recent_s,
    )


def expected_s(line: Line, rows: int) -> float:
    """Return the mean seconds of an engine call over `rows` rows; 0 while nothing is known."""
    return line.base_s + line.row_s * rows


def bound_s(line: Line, rows: int) -> float:
    """Return the seconds within which 95 % of such calls end; 0 until LEARNED_CALLS were seen."""
    if line.calls < LEARNED_CALLS:
        return 0.0
    return line.base_s + line.row_s * rows + line.margin_s


def runs_inline(line: Line, rows: int, *, was_inline: bool) -> bool:
    """Return whether a call over `rows` rows is short enough for the event loop itself.

    Two thresholds, so that noise around one does not move the engine between loop and thread at every call. The last
    few calls count besides the line: an engine that became slow must leave the loop now, not when the line has turned.
    """
    if line.calls < LEARNED_CALLS or line.is_guess:
        return False
    return max(expected_s(line, rows), line.recent_s) < (INLINE_ABOVE_S if was_inline else INLINE_BELOW_S)
