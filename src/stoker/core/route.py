"""Which replica takes a request: the cheaper of two drawn at random, and what a replica costs.

Source: "the power of two choices" (Mitzenmacher; finagle's P2C) and finagle's peak-EWMA. Looking at all replicas and
taking the least loaded sends every gateway to the same one between two looks; two random candidates lose almost
nothing against it and never herd. Load is what this gateway has in flight itself; what replicas report adds the load
of others. What a request will cost is what requests cost there lately, times those ahead of it: a replica ten times
slower than its peers gets about a tenth of their requests.
"""

from collections.abc import Sequence
from typing import Final

TAU_S: Final = 10.0  # finagle's and linkerd's decay
# A replica that has not answered yet gets one request; the next ones go there when everything else costs this much.
UNMEASURED_S: Final = 1e6
PEAK_FACTOR: Final = 2.0
FORGET_STEP: Final = 0.05
PENALTY_MAX_S: Final = 10.0
_LEAST_S: Final = 1e-9  # faded, but measured


def pair(count: int, first: float, second: float) -> tuple[int, int]:
    """Return two different indices below `count` (at least 2) from two draws in [0, 1)."""
    one = int(first * count)
    other = int(second * (count - 1))
    return one, other + 1 if other >= one else other


def weighted(weights: Sequence[int], draw: float) -> int:
    """Return the index that `draw` in [0, 1) falls on when each index is as wide as its weight; -1 if all are 0."""
    point = draw * sum(weights)
    last = -1
    for index, weight in enumerate(weights):
        if weight <= 0:
            continue
        last = index
        if point < weight:
            return index
        point -= weight
    return last  # rounding put the point at the very end


def price_s(cost_s: float, load: float) -> float:
    """Return what one more request will cost in a replica with `load` requests in it; `cost_s` 0: never measured."""
    return cost_s * (load + 1.0) or UNMEASURED_S * load


class Cost:
    """What a unit of work costs in one replica, in seconds: quick to rise, slow to fall (peak-EWMA).

    Two things differ from finagle's, because a pause of the machine makes all that is in flight late, once. A rise is
    believed whole only when it comes twice (one answer at most doubles what is known), and a peak is forgotten over
    TAU_S or over some 20 quick answers, whichever is sooner: over TAU_S alone, a pause of one second in a replica that
    answers in five milliseconds kept it empty for 50 s.
    """

    __slots__ = ("_at_s", "_last_s", "value_s")

    def __init__(self) -> None:
        self.value_s = 0.0  # 0: never measured
        self._last_s = 0.0
        self._at_s = 0.0

    def observe(self, sample_s: float, now_s: float) -> None:
        """Take what a unit of work took just now."""
        value_s = self.value_s
        if not value_s:
            self.value_s = max(sample_s, _LEAST_S)
        elif sample_s < value_s:
            age_s = now_s - self._at_s
            step = age_s / (TAU_S + age_s)  # for small ages 1 - exp(-age / TAU)
            self.value_s = max(value_s + (sample_s - value_s) * max(step, FORGET_STEP), _LEAST_S)
        else:
            self.value_s = min(sample_s, PEAK_FACTOR * max(value_s, self._last_s))
        self._last_s = sample_s
        self._at_s = now_s

    def penalize(self, now_s: float) -> None:
        """Make it twice as dear: a replica that fails at once and cannot be taken out looks like the quickest."""
        self.value_s = max(min(PEAK_FACTOR * self.value_s, PENALTY_MAX_S), self.value_s, _LEAST_S)
        self._at_s = now_s

    def fade(self, now_s: float) -> None:
        """Forget a little: nothing was asked of the replica lately, so that it is tried again some time."""
        if self.value_s:
            age_s = max(now_s - self._at_s, 0.0)
            self.value_s = max(self.value_s * TAU_S / (TAU_S + age_s), _LEAST_S)
            self._at_s = now_s

    def reset(self) -> None:
        """Begin again: it is another process."""
        self.value_s = self._last_s = 0.0
