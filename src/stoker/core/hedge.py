"""When a second replica is asked because the first is slow, and how often at the most.

Source: "The Tail at Scale" (Dean, Barroso): a second request after the 95th percentile of the first ones' time cuts the
tail for a few percent of load. The time is learned from the last SAMPLES answers of the endpoint. The budget is strict:
over its whole life an endpoint is hedged at most RATIO times a request, so that a slow fleet is not asked twice.

One in twenty is slower than the 95th percentile by definition, which alone would use up the budget and leave none for
the moment when a replica pauses. So the wait grows as the credit shrinks: what is left goes to the slowest.
"""

from typing import Final

QUANTILE: Final = 0.95
RATIO: Final = 0.05
CREDIT_MAX: Final = 10.0  # hedges saved up for a bad moment
SAMPLES: Final = 256
SAMPLES_MIN: Final = 64  # before anything is hedged
LEARN_EVERY: Final = 32  # answers between two looks at the quantile; sorting 256 numbers takes 10 µs
DELAY_MIN_S: Final = 0.002  # less is the noise of an event loop


class Hedges:
    """Times and credit of one endpoint."""

    __slots__ = ("_credit", "_quantile_s", "_seen", "_took_s")

    def __init__(self) -> None:
        self._quantile_s = 0.0
        self._credit = 0.0
        self._took_s: list[float] = []
        self._seen = 0

    @property
    def delay_s(self) -> float:
        """After how long a second replica is asked: the quantile with full credit, ten times that with the last."""
        return self._quantile_s * CREDIT_MAX / max(self._credit, 1.0)

    def earn(self) -> None:
        """Count one request."""
        self._credit = min(self._credit + RATIO, CREDIT_MAX)

    def spend(self) -> bool:
        """Count one hedge, if the credit allows it; return whether it did."""
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True

    def observe(self, took_s: float) -> None:
        """Learn how long a request took from its place in a replica to its answer, whoever gave it."""
        if len(self._took_s) < SAMPLES:
            self._took_s.append(took_s)
        else:
            self._took_s[self._seen % SAMPLES] = took_s
        self._seen += 1
        if self._seen >= SAMPLES_MIN and self._seen % LEARN_EVERY == 0:
            ranked = sorted(self._took_s)
            self._quantile_s = max(ranked[int(QUANTILE * len(ranked))], DELAY_MIN_S)
