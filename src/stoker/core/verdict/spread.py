"""Whether the canary's latencies are longer than the baseline's, from their histograms, and by how much for sure.

Each request is late or not: later than half, or than nine in ten, of what the baseline had done *before* that look.
What was before is no part of the look, so that late requests of alike arms fall on either by its share, and the bet of
odds.py is as fair on them as on errors. It finds a canary of one request in ten that takes half as long again in some
thousand requests. Tails beyond are bad events of their own: "slower than the objective allows".

A canary that takes a little longer is none the worse: what it may take besides (LONGER) is taken off its latencies
first. Two processes that run the same model differ by some tenths of a millisecond, by how full their batches are and
how warm their caches, and in enough requests any difference is seen.

How large the gap is at the least, whatever chance did, comes from a confidence sequence around both distribution
functions, which holds at every moment at once: Howard and Ramdas 2022 ("Sequential estimation of quantiles", theorem
2), radius 0.85·√((ln ln(e·n) + 0.8·ln(1612/α)) / n). To abort by it alone takes three times as many requests.
"""

from collections.abc import Mapping
from math import ceil, inf, log, log2, sqrt
from typing import Final

import msgspec

from stoker.core.verdict.odds import Odds, Tally

Buckets = Mapping[int, int]  # counts by bucket index (telemetry/histogram.py)

LATER_THAN: Final = (0.5, 0.9)  # of the baseline's requests
LONGER_BUCKETS: Final = 1  # of 9 % each (telemetry/histogram.py)
LONGER_S: Final = 0.0005
_LEAST: Final = -1000  # under every bucket
BASELINE_MIN: Final = 50  # requests of it before anything is late


class Gap(msgspec.Struct, frozen=True):
    """How much larger a share of the baseline's requests was done by some moment than of the canary's.

    ratio: in 0–1, as seen. surely: what is left of it after chance; negative: nothing can be said. bucket: where.
    """

    ratio: float = 0.0
    surely: float = -inf
    bucket: int = 0


class Spread(msgspec.Struct, frozen=True):
    """What the looks so far say: all that either arm did, and for each of LATER_THAN the bet on who was late."""

    canary: dict[int, int] = {}
    baseline: dict[int, int] = {}
    odds: tuple[Odds, ...] = (Odds(),) * len(LATER_THAN)

    def seen(self, canary: Buckets, baseline: Buckets, gap_max: float) -> "Spread":
        """Return what these and one more look say.

        Args:
            canary: what came to it since the look before.
            baseline: the same of the other arm.
            gap_max: the share of all requests that may be late besides those that always are.
        """
        odds, excused = self.odds, _excused(canary)
        if sum(self.baseline.values()) >= BASELINE_MIN:
            odds = tuple(
                each.seen(_late(excused, limit), _late(baseline, limit), _tolerated(1.0 - ratio, gap_max))
                for each, ratio, limit in zip(
                    odds, LATER_THAN, (_quantile(self.baseline, ratio) for ratio in LATER_THAN), strict=True
                )
            )
        return Spread(_sum(self.canary, canary), _sum(self.baseline, baseline), odds)


def radius(count: int, alpha: float) -> float:
    """Return how far the share of values under any limit may be from the true one, at any moment, but for `alpha`."""
    if count < 1:
        return inf
    return 0.85 * sqrt((log(1.0 + log(count)) + 0.8 * log(1612.0 / alpha)) / count)


def gap(canary: Buckets, baseline: Buckets, alpha: float) -> Gap:
    """Return the widest gap between two distributions. The chance that `surely` is ever over it is at most `alpha`."""
    canary_count, baseline_count = sum(canary.values()), sum(baseline.values())
    if not canary_count or not baseline_count:
        return Gap()
    widest = Gap(0.0)
    canary_done = baseline_done = 0
    for bucket in sorted(canary.keys() | baseline.keys()):
        canary_done += canary.get(bucket, 0)
        baseline_done += baseline.get(bucket, 0)
        ratio = baseline_done / baseline_count - canary_done / canary_count
        if ratio > widest.ratio:
            widest = Gap(ratio, bucket=bucket)
    chance = radius(canary_count, alpha / 2) + radius(baseline_count, alpha / 2)
    return Gap(widest.ratio, widest.ratio - chance, widest.bucket)


def _excused(buckets: Buckets) -> dict[int, int]:
    """Return latencies without what a canary may take longer."""
    found: dict[int, int] = {}
    for bucket, count in buckets.items():
        seconds = 2.0 ** (bucket / 8) - LONGER_S
        shorter = ceil(8 * log2(seconds)) - LONGER_BUCKETS if seconds > 0.0 else _LEAST
        found[shorter] = found.get(shorter, 0) + count
    return found


def _quantile(buckets: Buckets, ratio: float) -> int:
    """Return the bucket that a share `ratio` of all lie in or under."""
    left = ceil(ratio * sum(buckets.values()))
    for bucket in sorted(buckets):
        left -= buckets[bucket]
        if left <= 0:
            return bucket
    raise ValueError("nothing was seen")


def _late(buckets: Buckets, limit: int) -> Tally:
    return Tally(sum(count for bucket, count in buckets.items() if bucket > limit), sum(buckets.values()))


def _tolerated(late: float, gap_max: float) -> float:
    """Return the odds of being late, in times the usual, that `gap_max` more are late with."""
    more = min(late + gap_max, 0.99)
    return max(more / (1.0 - more) * (1.0 - late) / late, 1.0)


def _sum(one: Buckets, other: Buckets) -> dict[int, int]:
    return {bucket: one.get(bucket, 0) + other.get(bucket, 0) for bucket in sorted(one.keys() | other.keys())}
