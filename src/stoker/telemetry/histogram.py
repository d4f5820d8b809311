"""How often values of each size were seen: a histogram whose buckets grow by 2^(1/8), so that any two can be merged.

The layout is that of Prometheus native histograms with schema 3 and of OpenTelemetry's exponential histograms with
scale 3: bucket `i` holds values in (2^((i-1)/8), 2^(i/8)]. A quantile is therefore never off by more than
RELATIVE_ERROR of the true value. Values at or under 2^-20 (a microsecond, if seconds) share the lowest bucket, values
over 2^20 the highest, so that a histogram never takes more than BUCKETS integers.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from math import isnan, ldexp
from typing import Final

import msgspec

SCHEMA: Final = 3
RELATIVE_ERROR: Final = 2 ** (1 / 8) - 1
INDEX_MIN: Final = -160  # holds everything up to 2^-20, zero and below included
INDEX_MAX: Final = 161  # holds everything over 2^20
BUCKETS: Final = INDEX_MAX - INDEX_MIN + 1

_LOW: Final = 2.0**-20
_HIGH: Final = 2.0**20
# The largest value of every bucket but the highest. One search among all of them takes two thirds of the time of
# splitting a value into exponent and fraction first.
_UPPER: Final = tuple(ldexp(2.0 ** (index % 8 / 8), index // 8) for index in range(INDEX_MIN, INDEX_MAX))
_LAST: Final = BUCKETS - 1


def bucket_index(value: float) -> int:
    """Return the bucket that holds `value`; NaN is no value, and in the lowest."""
    return bisect_left(_UPPER, value) + INDEX_MIN


def upper_bound(index: int) -> float:
    """Return the largest value of bucket `index`; infinity for the highest."""
    return float("inf") if index >= INDEX_MAX else 2.0 ** (index / 8)


class Exemplar(msgspec.Struct, frozen=True, array_like=True):
    """A value that was counted, and the trace of its request, which was kept. `at_s`: unix time of that."""

    value: float
    trace: str  # 32 hexadecimal digits
    span: str  # 16
    at_s: float


class Distribution(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a histogram had seen at one moment: a value that travels, merges and subtracts.

    buckets: count by bucket index; only buckets that hold something.
    traced: by bucket index the newest value whose request left a trace.
    """

    buckets: dict[int, int] = {}
    sum: float = 0.0
    traced: dict[int, Exemplar] = {}

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.buckets.values())

    @property
    def mean(self) -> float | None:
        """The mean of the values; None when there are none."""
        count = self.count
        return self.sum / count if count else None

    def quantile(self, q: float) -> float | None:
        """Return the value under which a share `q` (0–1) of all lie, within RELATIVE_ERROR; None when there are none.

        Inside a bucket the values are taken as spread evenly over the logarithm.
        """
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"a quantile is between 0 and 1, not {q}")
        rank = q * self.count
        seen = 0
        for index in sorted(self.buckets):
            held = self.buckets[index]
            if seen + held >= rank and held:
                if index in (INDEX_MIN, INDEX_MAX):
                    return _LOW if index == INDEX_MIN else _HIGH
                return float(2.0 ** ((index - 1 + (rank - seen) / held) / 8))
            seen += held
        return None

    def share_over(self, limit: float) -> float | None:
        """Return the share of values over the bucket that holds `limit`; None when there are none."""
        count = self.count
        if not count:
            return None
        last = bucket_index(limit)
        return sum(held for index, held in self.buckets.items() if index > last) / count

    def minus(self, older: "Distribution") -> "Distribution":
        """Return what came since `older`. A histogram that started again meanwhile counts from its start."""
        buckets: dict[int, int] = {}
        for index, held in self.buckets.items():
            change = held - older.buckets.get(index, 0)
            if change < 0:
                return self
            if change:
                buckets[index] = change
        if any(index not in self.buckets for index, held in older.buckets.items() if held):
            return self
        fresh = {index: shown for index, shown in self.traced.items() if index in buckets}
        return Distribution(buckets, self.sum - older.sum, fresh)


def merge_distributions(parts: Iterable[Distribution]) -> Distribution:
    """Return one distribution that has seen what all `parts` saw."""
    buckets: dict[int, int] = {}
    traced: dict[int, Exemplar] = {}
    total = 0.0
    for part in parts:
        total += part.sum
        for index, shown in part.traced.items():
            if index not in traced or traced[index].at_s < shown.at_s:
                traced[index] = shown
        for index, held in part.buckets.items():
            buckets[index] = buckets.get(index, 0) + held
    return Distribution(buckets, total, traced)


class Histogram:
    """Counts values as they come. Used by one thread (an event loop's); `read` takes what was seen so far."""

    __slots__ = ("_counts", "_sum", "_traced")

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self._traced: dict[int, Exemplar] | None = None  # of a histogram that has some
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count `value` (0.2 µs). NaN is not a value and changes nothing."""
        at = bisect_left(_UPPER, value)
        if 0 < at < _LAST:
            self._counts[at] += 1
            self._sum += value
        else:
            self._observe_far(value, at)

    def show(self, example: Exemplar) -> None:
        """Keep `example` as the one of its bucket. Its value was counted before; one of either end bucket is none."""
        at = bisect_left(_UPPER, example.value)
        if 0 < at < _LAST:
            if self._traced is None:
                self._traced = {}
            self._traced[at + INDEX_MIN] = example

    def observe_all(self, values: Sequence[float]) -> None:
        """Count each value; cheaper than as many calls of `observe`: a search per bucket that some are in."""
        if not values:
            return
        ordered = sorted(values)
        total = sum(ordered)
        if ordered[0] <= _LOW or ordered[-1] > _HIGH or isnan(total):
            for value in values:
                self._observe_far(value, bisect_left(_UPPER, value))
            return
        counts, seen = self._counts, 0
        while seen < len(ordered):
            at = bisect_left(_UPPER, ordered[seen])
            before, seen = seen, bisect_right(ordered, _UPPER[at], seen)
            counts[at] += seen - before
        self._sum += total

    def _observe_far(self, value: float, at: int) -> None:
        if not isnan(value):
            self._counts[at] += 1
            self._sum += min(value, _HIGH) if value > 0 else 0.0

    def read(self) -> Distribution:
        """Return what was seen so far."""
        return Distribution(
            {index: held for index, held in enumerate(self._counts, INDEX_MIN) if held},
            self._sum,
            dict(self._traced) if self._traced else {},
        )


def observe_each(histograms: Iterable[Histogram], values: Iterable[float], weight: int = 1) -> None:
    """Count each value in its histogram, `weight` times; cheaper than as many calls of `observe`."""
    for histogram, value in zip(histograms, values, strict=True):
        at = bisect_left(_UPPER, value)
        if 0 < at < _LAST:
            histogram._counts[at] += weight
            histogram._sum += value * weight
        elif value == 0.0:
            histogram._counts[0] += weight
        else:
            for _ in range(weight):
                histogram.observe(value)
