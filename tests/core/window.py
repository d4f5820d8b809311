"""How many events lie in the last seconds, minutes and days, from running sums, in bounded memory.

Sums are kept every 5 s for the last 10 minutes, every minute for 6 hours, every 10 minutes for 3 days and every hour
for 90 days: a window of any length is found to within a hundredth of it (5 s at the least).
"""

from bisect import bisect_left
from typing import Final

from stoker.core.slo import Counts

# Seconds between two sums that are kept, and how many of them.
LEVELS: Final = ((5.0, 132), (60.0, 372), (600.0, 444), (3600.0, 2172))
_SLACK: Final = 0.2  # of a step: a sum that comes a little early is kept all the same


class Window:
    """The sums of one objective. Times are seconds of any clock that does not go back; one that does is ignored."""

    __slots__ = ("_bad", "_levels", "_total")

    def __init__(self) -> None:
        self._bad = 0.0
        self._total = 0.0
        # Of each level: when, bad and total until then; the oldest first.
        self._levels: tuple[list[tuple[float, float, float]], ...] = tuple([] for _ in LEVELS)

    def add(self, bad: float, total: float, at_s: float) -> None:
        """Take note of what happened since the last call. The first call says when watching began."""
        finest = self._levels[0]
        if finest and at_s <= finest[-1][0]:
            return
        if finest:
            self._bad += bad
            self._total += total
        for (step_s, kept), sums in zip(LEVELS, self._levels, strict=True):
            if not sums or at_s - sums[-1][0] >= step_s * (1 - _SLACK):
                sums.append((at_s, self._bad, self._total))
                if len(sums) > kept:
                    del sums[0]

    def counts(self, length_s: float) -> Counts:
        """Return what lies in the last `length_s` before the newest sum."""
        if not self._levels[0]:
            return Counts(covered_s=0.0)
        now_s = self._levels[0][-1][0]
        began_s = now_s - length_s
        sums = next((sums for sums in self._levels if sums[0][0] <= began_s), self._levels[-1])
        place = bisect_left(sums, (began_s,))
        if place == len(sums) or (place and began_s - sums[place - 1][0] < sums[place][0] - began_s):
            place -= 1
        at_s, bad, total = sums[place]
        return Counts(bad=self._bad - bad, total=self._total - total, covered_s=now_s - at_s)
