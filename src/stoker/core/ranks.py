"""Between which values of a sample the quantile of what it was drawn from lies. Pure.

Source: confidence intervals for quantiles from order statistics (Thompson 1936; David and Nagaraja, Order Statistics,
7.1), with the exact binomial: nothing is supposed of the distribution but that each value was drawn by itself. Requests
that wait for each other are not, so among those the truth may lie further out.
"""

import math
from collections.abc import Sequence
from typing import Final

SURE: Final = 0.95


def ranks(count: int, share: float, sure: float = SURE) -> tuple[int, int]:
    """Return the ranks, 1 to `count`, of the values between which the quantile at `share` lies so surely.

    0 and `count + 1` where none of so few is surely below or above it. Each side fails at most half as often as both.
    """
    return _below(count, share, sure), count + 1 - _below(count, 1.0 - share, sure)


def interval(values: Sequence[float], share: float, sure: float = SURE) -> tuple[float, float]:
    """Return between which values, none below 0, the quantile lies; 0 and infinite where that is open."""
    ordered = sorted(values)
    low, high = ranks(len(ordered), share, sure)
    return ordered[low - 1] if low else 0.0, ordered[high - 1] if high <= len(ordered) else math.inf


def _below(count: int, share: float, sure: float) -> int:
    """Return the largest rank whose value is above the quantile by a chance of at most half of what is not sure."""
    below, rank = 0.0, 0
    while rank < count:
        below += _chance(count, rank, share)
        if below > (1.0 - sure) / 2.0:
            break
        rank += 1
    return rank


def _chance(count: int, below: int, share: float) -> float:
    """Return how likely exactly `below` of `count` draws are under the quantile at `share`."""
    ways = math.lgamma(count + 1) - math.lgamma(below + 1) - math.lgamma(count - below + 1)
    return math.exp(ways + below * math.log(share) + (count - below) * math.log1p(-share))
