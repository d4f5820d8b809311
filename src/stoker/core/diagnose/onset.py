"""When it began: the change point of an endpoint's errors and latency.

Source: the single change point of least squares (Hinkley; the first step of binary segmentation), on the logarithm of
the latency and the arcsine of the root of the failures: there the noise is as large on a high level as on a low one.
On ranks a slow rise of the day's load and a collapse weigh the same, and the middle of the hour was found. A queue
grows over minutes and the best split lies in the middle of its slope: from there the onset goes back to the last
step that was still normal.
"""

from collections.abc import Sequence
from math import asin, log2, sqrt
from statistics import median
from typing import Final

import msgspec

POINTS_MIN: Final = 4  # on the good side; with fewer nothing was normal yet
BAD_MIN: Final = 2
# The part of the variance that two levels explain. For noise the best of 60 splits explains 0.2 at most in 99 of 100
# series; a clean step explains more than 0.7.
EXPLAINED_MIN: Final = 0.4
SILENT_USUAL: Final = 0.1  # of the steps before
NORMAL: Final = 4.0  # median deviations above the median of what was before; noise is there once in a hundred steps


class Point(msgspec.Struct, frozen=True):
    """One step of time. latency_s: the mean of those answered; failed_ratio: errors and refusals of all."""

    at_s: float
    requests: float
    latency_s: float
    failed_ratio: float


def onset_s(points: Sequence[Point]) -> float | None:
    """Return when the last stretch, worse than what was before it, began; None when no stretch stands out."""
    seen = [point for point in points if point.requests > 0]
    failed = [asin(sqrt(min(max(point.failed_ratio, 0.0), 1.0))) for point in seen]
    slow = [log2(max(point.latency_s, 1e-6)) for point in seen]
    found = [each for each in (_split(failed), _split(slow)) if each]
    if not found:
        return None
    return seen[max(found, key=lambda each: (each[1], -each[0]))[0]].at_s


def silent_since_s(points: Sequence[Point], began_s: float) -> float:
    """Return when the steps without an answer just before `began_s` began; `began_s` when there are none.

    Who stands still answers nothing; what is seen of it comes all at once when it ends. Where steps without an answer
    are usual, they tell nothing.
    """
    before = [point for point in points if point.at_s < began_s]
    at = len(before)
    while at > 0 and before[at - 1].requests <= 0:
        at -= 1
    usual = before[:at]
    silent = sum(point.requests <= 0 for point in usual)
    if len(usual) < POINTS_MIN or silent > SILENT_USUAL * len(usual) or at == len(before):
        return began_s
    return before[at].at_s


def _split(values: Sequence[float]) -> tuple[int, float] | None:
    """Return where the values rise to another level, and how much of their variance that explains."""
    count = len(values)
    mean = sum(values) / count if count else 0.0
    variance = sum((value - mean) ** 2 for value in values)
    best: tuple[int, float] | None = None
    before = 0.0
    for at in range(1, count):
        before += values[at - 1]
        if at < POINTS_MIN or count - at < BAD_MIN or variance <= 1e-9:
            continue
        low, high = before / at, (mean * count - before) / (count - at)
        explained = (at * (low - mean) ** 2 + (count - at) * (high - mean) ** 2) / variance
        if high > low and explained >= EXPLAINED_MIN and (best is None or explained > best[1]):
            best = (at, explained)
    return None if best is None else (_back(values, best[0]), best[1])


def _back(values: Sequence[float], at: int) -> int:
    """Return the first step of the rise whose middle is `at`."""
    before = values[: max(at - at // 4, POINTS_MIN)]  # without the rise itself, where it is short
    level = median(before)
    limit = level + max(NORMAL * median(abs(value - level) for value in before), 0.02)
    while at > POINTS_MIN and values[at - 1] > limit:
        at -= 1
    return at
