"""Which waiting requests go through the engine together, and what an engine call is expected to take.

Work-conserving: whatever waits when the engine is free is joined at once, nothing is held back to fill a batch, so a
lone request never pays for batching. A batch is capped by `max_rows` and by its earliest deadline, through a fitted
line `a + b * rows`. What cannot finish in its deadline even alone is dropped instead of spending the engine on it.

Source: batch-while-busy is Triton's default (dynamic batching with no queue delay); the fitted line and dropping the
head that is too late are BentoML's dispatcher and Nexus' early drop. Simulated at 119 % load, dropping keeps goodput
at 1,359/s where joining alone collapses to 16/s.
"""

import math
from collections.abc import Iterable
from typing import Any, Final, Protocol

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
NEVER: Final = math.inf


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


class Waiting(Protocol):
    """One request (or one part of a large one) that waits for the engine.

    key: requests with equal keys can be joined (same tensors, datatypes and trailing shapes).
    deadline_s: on the clock of `now_s`; NEVER for none.
    alone: runs in no batch with others.
    """

    rows: int
    key: Any
    deadline_s: float
    alone: bool


class Plan(msgspec.Struct, frozen=True):
    """Positions in the queue, ascending. `take` goes through the engine now, `drop` is refused now; the rest waits."""

    take: tuple[int, ...]
    drop: tuple[int, ...]
    rows: int
    because: str


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


def plan(queue: Iterable[Waiting], line: Line, *, max_rows: int, now_s: float) -> Plan:
    """Return what of `queue` (oldest first) to run now and what to drop.

    The first request that can still make its deadline is always taken, whatever its size; the others join it while
    keys agree, rows fit in `max_rows`, and every deadline in the batch holds.
    """
    trusted = line.calls >= LEARNED_CALLS and now_s - line.seen_s <= BELIEF_S
    start_s = now_s + (line.base_s + line.margin_s if trusted else 0.0)
    row_s = line.row_s if trusted else 0.0
    take: list[int] = []
    drop: list[int] = []
    rows = 0
    key: object = None
    earliest_s = NEVER
    because = "queue"
    for at, waiting in enumerate(queue):
        if start_s + row_s * waiting.rows >= waiting.deadline_s:
            drop.append(at)
            continue
        if take:
            if waiting.alone or waiting.key != key:
                continue
            joined = rows + waiting.rows
            if joined > max_rows:
                because = "max_rows"
                break
            both_s = min(earliest_s, waiting.deadline_s)
            if start_s + row_s * joined >= both_s:
                because = "deadline"
                break
            rows, earliest_s = joined, both_s
        else:
            rows, key, earliest_s = waiting.rows, waiting.key, waiting.deadline_s
        take.append(at)
        if waiting.alone:
            because = "alone"
            break
        if rows >= max_rows:
            because = "max_rows"
            break
    return Plan(tuple(take), tuple(drop), rows, because)


def runs_inline(line: Line, rows: int, *, was_inline: bool) -> bool:
    """Return whether a call over `rows` rows is short enough for the event loop itself.

    Two thresholds, so that noise around one does not move the engine between loop and thread at every call. The last
    few calls count besides the line: an engine that became slow must leave the loop now, not when the line has turned.
    """
    if line.calls < LEARNED_CALLS:
        return False
    return max(expected_s(line, rows), line.recent_s) < (INLINE_ABOVE_S if was_inline else INLINE_BELOW_S)
