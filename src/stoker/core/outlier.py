"""Whether a replica answers so much worse than its peers that it is taken out for a while, and for how long.

Source: Envoy's outlier detection (5 consecutive errors; a share of 85 % over 50 requests; 30 s times the number of
ejections, at most 300 s). Two things differ. An error counts against a replica only while its peers do better: a
client whose requests fail everywhere must not empty the fleet. And slowness is judged by a run of answers that are
each SLOW_FACTOR times slower than the peers' usual ones: one quick answer ends it, so neither a pause of the machine
nor a few large requests make a replica slow.
"""

from collections.abc import Collection
from statistics import median
from typing import Final, Literal

import msgspec

ERRORS_IN_A_ROW: Final = 5
ERRORS_RATIO: Final = 0.85
ERRORS_OF_MIN: Final = 50.0
GOOD_MIN: Final = 0.5  # one good answer of the peers, faded
PEERS_RATIO_MAX: Final = 0.5  # of the peers' answers may be errors, or it is not the replica
SLOW_FACTOR: Final = 4.0
SLOW_MIN_S: Final = 0.01  # a replica this quick is never too slow: the routing by cost is enough
SLOW_RUN: Final = 8
SLOW_SPAN_S: Final = 1.0
SLOW_OF_MIN: Final = 3  # replicas: of two nobody knows which is the usual one
MEASURED_MIN: Final = 20  # answers of a peer before its pace counts
EJECTION_S: Final = 30.0
EJECTION_MAX_S: Final = 300.0
PROBE_S: Final = 5.0  # an ejected replica gets one request after this; a good answer brings the next at once
PROBES: Final = 3  # good answers in a row that bring it back early
FORGIVE_S: Final = 300.0  # without an ejection, one of those before is forgotten
_HALF_S: Final = 5.0
_MEAN_STEP: Final = 0.1

Fault = Literal["", "errors", "slow"]


class Record:
    """What a replica answered lately: errors and good answers (both fade), and their pace in seconds a unit of work."""

    __slots__ = (
        "_faded_s", "_slow_since_s", "answers", "bad", "failing_since_s", "good", "in_a_row", "last_s", "mean_s",
        "slow_over_s", "slow_run", "slowest_s",
    )  # fmt: skip

    def __init__(self) -> None:
        self.answers = 0
        self.good = 0.0
        self.bad = 0.0
        self.in_a_row = 0  # errors
        self.failing_since_s = 0.0  # when the first of them came
        self.mean_s = 0.0
        self.slow_over_s = float("inf")  # set from the peers' pace
        self.slow_run = 0
        self.slowest_s = 0.0  # fades
        self.last_s = 0.0  # when it last answered
        self._slow_since_s = 0.0
        self._faded_s = 0.0

    def answered(self, sample_s: float, now_s: float) -> None:
        """Take a good answer."""
        self.in_a_row = 0
        self.good += 1.0
        self.mean_s += (sample_s - self.mean_s) * (_MEAN_STEP if self.answers else 1.0)
        self.answers += 1
        self.last_s = now_s
        if sample_s > self.slowest_s:  # noqa: PLR1730 - max() costs five times as much
            self.slowest_s = sample_s
        if sample_s <= self.slow_over_s:
            self.slow_run = 0
        else:
            if not self.slow_run:
                self._slow_since_s = now_s
            self.slow_run += 1

    def failed(self, now_s: float) -> None:
        """Take an error that was the replica's own."""
        if not self.in_a_row:
            self.failing_since_s = now_s
        self.in_a_row += 1
        self.bad += 1.0

    def fade(self, now_s: float) -> None:
        """Forget what lies back; call it about once a second or oftener."""
        keep = 0.5 ** (max(now_s - self._faded_s, 0.0) / _HALF_S)
        self._faded_s = now_s
        self.good *= keep
        self.bad *= keep
        self.slowest_s *= keep**0.2  # half in 25 s

    def is_slow(self, now_s: float) -> bool:
        """Return whether all its answers have been too slow, for long enough."""
        return self.slow_run >= SLOW_RUN and now_s - self._slow_since_s >= SLOW_SPAN_S


class All(msgspec.Struct, frozen=True):
    """The replicas of an endpoint together.

    failing: how many gave an error last. well_s: when each of the others last answered. pace_s: of each that has
    answered MEASURED_MIN times.
    """

    good: float = 0.0
    bad: float = 0.0
    failing: int = 0
    well_s: tuple[float, ...] = ()
    pace_s: tuple[float, ...] = ()


def together(records: Collection[Record]) -> All:
    """Return what `records` say together."""
    return All(
        good=sum(record.good for record in records),
        bad=sum(record.bad for record in records),
        failing=sum(record.in_a_row > 0 for record in records),
        well_s=tuple(record.last_s for record in records if not record.in_a_row),
        pace_s=tuple(record.mean_s for record in records if record.answers >= MEASURED_MIN),
    )


def slow_over_s(every: All) -> float:
    """Return the pace above which an answer is too slow; infinite while too few replicas are measured."""
    if len(every.pace_s) < SLOW_OF_MIN:
        return float("inf")
    return max(SLOW_FACTOR * median(every.pace_s), SLOW_MIN_S)


def judge(record: Record, every: All, now_s: float) -> Fault:
    """Return what is wrong with a replica's answers, "" for nothing. `every` includes its own."""
    if record.in_a_row >= ERRORS_IN_A_ROW:
        well = sum(last_s > record.failing_since_s for last_s in every.well_s)
        if well and well >= every.failing - 1:
            return "errors"
    total = record.good + record.bad
    if total >= ERRORS_OF_MIN and record.bad >= ERRORS_RATIO * total:
        good, bad = every.good - record.good, every.bad - record.bad  # its peers'
        if good >= GOOD_MIN and bad <= PEERS_RATIO_MAX * (good + bad):
            return "errors"
    return "slow" if record.is_slow(now_s) else ""


def ejection_s(count: int) -> float:
    """Return how long the `count`-th ejection of a replica lasts."""
    return min(EJECTION_S * max(count, 1), EJECTION_MAX_S)
