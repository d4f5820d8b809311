"""How far the counts of a window are from those of a reference: a statistic for each type of feature.

All are on scales of their own; `as_psi` puts them on one, that of two normal distributions of equal spread: a PSI of d²
is a mean moved by d deviations, and, for small d, a Jensen–Shannon distance (base 2) of d / √(8 ln 2).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from stoker.types.drift import Feature, Kind, Statistic

EPS: Final = 1e-4  # the least share of a slot in a PSI
FITTING: Final[Mapping[Kind, tuple[Statistic, ...]]] = {
    "number": ("psi", "js", "wasserstein"),
    "category": ("psi", "js", "chi2"),
}


def distance(statistic: Statistic, feature: Feature, seen: Sequence[int]) -> float:
    """Return what `statistic` says of the slots of a window."""
    return _DISTANCES[statistic](feature, seen)


def as_psi(statistic: Statistic, value: float, feature: Feature, rows: int) -> float:
    """Return the PSI of two normals that are as far apart."""
    match statistic:
        case "js":
            return 8.0 * math.log(2.0) * value * value
        case "wasserstein":
            return value * value
        case "chi2":  # n times the squared differences over the middle, n the rows of both that count
            return value * (1.0 / rows + 1.0 / feature.rows)
        case "psi":
            return value


def psi(expected: Sequence[float], seen: Sequence[float]) -> float:
    """Return the population stability index of two lists of shares, each held above EPS."""
    total = 0.0
    for p, q in zip(expected, seen, strict=True):
        p, q = max(p, EPS), max(q, EPS)  # noqa: PLW2901 - the same values, held
        total += (q - p) * math.log(q / p)
    return total


def js_distance(expected: Sequence[float], seen: Sequence[float]) -> float:
    """Return the Jensen–Shannon distance (base 2): 0 for equal shares, 1 for disjoint ones."""
    total = 0.0
    for p, q in zip(expected, seen, strict=True):
        middle = (p + q) / 2
        total += (p * math.log2(p / middle) if p else 0.0) + (q * math.log2(q / middle) if q else 0.0)
    return math.sqrt(min(max(total / 2, 0.0), 1.0))


def wasserstein(feature: Feature, seen: Sequence[int]) -> float:
    """Return how far the mass of a number moved, in standard deviations of the reference; 0 for a category.

    Values spread evenly within a bin; what is outside counts as at the outermost edge, so the answer is a lower bound.
    """
    if feature.kind == "category" or not feature.sd:
        return 0.0
    before, now = shares(feature.counts[:-1]), shares(seen[:-1])
    gap, moved = before[0] - now[0], 0.0
    for at in range(feature.bins):
        next_gap = gap + before[at + 1] - now[at + 1]
        moved += (feature.edges[at + 1] - feature.edges[at]) * _mean_abs(gap, next_gap)
        gap = next_gap
    return moved / feature.sd


def chi_square(before: Sequence[float], now: Sequence[float]) -> float:
    """Return Pearson's statistic of two samples, which need not be of one size; 0 when either is empty."""
    total_before, total_now = sum(before), sum(now)
    if not total_before or not total_now:
        return 0.0
    up, down = math.sqrt(total_now / total_before), math.sqrt(total_before / total_now)
    return sum((up * a - down * b) ** 2 / (a + b) for a, b in zip(before, now, strict=True) if a + b)


def mean_shift(feature: Feature, now: Sequence[float]) -> float:
    """Return by how much the binned mean moved, in standard deviations, with its sign; 0 for a category."""
    if feature.kind == "category" or not feature.sd:
        return 0.0
    before = shares(feature.counts)
    edges = feature.edges
    middles = [edges[0], *((a + b) / 2 for a, b in pairwise(edges)), edges[-1]]

    def mean(of: Sequence[float]) -> float:
        present = 1.0 - of[-1]
        return sum(m * p for m, p in zip(middles, of, strict=False)) / present if present else 0.0

    return (mean(now) - mean(before)) / feature.sd


def shares(counts: Sequence[float]) -> list[float]:
    """Return each count's share of all; zeros when there is nothing."""
    total = sum(counts)
    return [count / total for count in counts] if total else [0.0] * len(counts)


def weights(feature: Feature) -> list[float]:
    """Return the reference's counts with what a sample cannot have shown.

    The edges of a number are the least and the greatest value of n rows: the next row is beyond either with the chance
    1/(n+1) (Wilks 1941), so each has the weight of a row. An unknown category has that of the values seen once (Good
    1953), a missing value half a row.
    """
    found: list[float] = list(feature.counts)
    if feature.kind == "number":
        found[0] += 1.0
        found[-2] += 1.0
    else:
        found[-2] += max(sum(1 for count in feature.counts[1:-2] if count == 1), 0.5)
    found[-1] += 0.5
    return found


def expected_shares(feature: Feature) -> list[float]:
    """Return what is expected of a window, a share a slot."""
    return shares(weights(feature))


def _mean_abs(start: float, end: float) -> float:
    """Return the mean of |y| along a line from `start` to `end`."""
    if start * end >= 0:
        return abs(start + end) / 2
    return (start * start + end * end) / (2 * abs(start - end))


_DISTANCES: Final[Mapping[Statistic, Callable[[Feature, Sequence[int]], float]]] = {
    "psi": lambda feature, seen: psi(expected_shares(feature), shares(seen)),
    "js": lambda feature, seen: js_distance(expected_shares(feature), shares(seen)),
    "wasserstein": wasserstein,
    "chi2": lambda feature, seen: chi_square(feature.counts, seen),
}
