"""Whether a row of numbers goes one way, and how steeply: Mann and Kendall's test, Theil and Sen's slope. Pure."""

from collections.abc import Sequence
from itertools import combinations
from math import erfc, sqrt
from statistics import median


def slope(values: Sequence[float]) -> float:
    """Return the median of the slopes between all pairs, per step; 0 for fewer than two values."""
    pairs = combinations(enumerate(values), 2)
    slopes = [(later - earlier) / (j - i) for (i, earlier), (j, later) in pairs]
    return median(slopes) if slopes else 0.0


def is_trend(values: Sequence[float], sure: float) -> bool:
    """Return whether values in random order would go one way as much as these less often than `sure` (0–1).

    Two-sided, normal approximation with continuity and ties; good from about ten values on.
    """
    return _p_value(values) < sure


def _p_value(values: Sequence[float]) -> float:
    count = len(values)
    score = sum((later > earlier) - (later < earlier) for earlier, later in combinations(values, 2))
    ties = [values.count(value) for value in set(values)]
    variance = count * (count - 1) * (2 * count + 5) - sum(tie * (tie - 1) * (2 * tie + 5) for tie in ties)
    if variance <= 0 or score == 0:
        return 1.0
    return erfc((abs(score) - 1) / sqrt(variance / 18) / sqrt(2))
