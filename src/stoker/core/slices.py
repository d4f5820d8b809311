"""Time in slices, each good or bad as a whole, instead of events: OpenSLO's Timeslices and RatioTimeslices. Pure.

Every slice counts alike, however much happened in it: an hour of failures at night weighs as much as one at noon. A
slice in which nothing happened is good, for nobody was failed.
"""

from math import ceil, floor
from typing import Final

from stoker.core.slo import Counts
from stoker.types.slos import Slices

CAUGHT_UP_MAX: Final = 60  # slices that ended since the last look; of older ones nobody says how they were
_ROUNDING: Final = 1e-9


def ends(since_s: float, now_s: float, length_s: float) -> list[float]:
    """Return when the slices ended that began at `since_s` or later and ended by `now_s`, oldest first. Unix seconds.

    Slices lie on the grid of their length, so that restarts and other processes cut time alike.
    """
    first, last = ceil(since_s / length_s) + 1, floor(now_s / length_s)
    return [number * length_s for number in range(max(first, last - CAUGHT_UP_MAX + 1), last + 1)]


def goodness(counts: Counts, slices: Slices) -> float:
    """Return how good a slice was, 0 to 1: all or nothing where slices have a target, else its share of good events."""
    share = 1.0 - counts.ratio
    if slices.target is None:
        return share
    return 1.0 if share >= slices.target - _ROUNDING else 0.0
