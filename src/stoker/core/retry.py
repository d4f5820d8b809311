"""Whether a failed request may be tried again: only what cannot have been answered, and only within a budget.

Source: finagle's RetryBudget: 20 % of the requests of the last ten seconds, and 10 a second besides. A retry without
a budget turns a slow fleet into a dead one. The first move away from a replica that died or was ejected is outside of
the budget: its number is bounded by the places of that replica, and a death is no overload. A second one is not.
"""

from math import exp
from typing import Final

RATIO: Final = 0.2
PER_S: Final = 10.0
WINDOW_S: Final = 10.0
TRIES_MAX: Final = 6  # of one request, the first included
# For a server that is full and says when to come again. Who would wait longer is told so instead, as its own client
# libraries wait no longer than a minute, and a person less.
BUSY_WAIT_MAX_S: Final = 20.0
BUSY_WAIT_S: Final = 1.0  # for one that does not say when


def is_worth_waiting(wait_s: float, left_s: float) -> bool:
    """Return whether a request with `left_s` to its deadline waits `wait_s` for a server that is full."""
    return wait_s < min(left_s, BUSY_WAIT_MAX_S)


class Budget:
    """Requests and retries of the last WINDOW_S or so, and whether one more retry fits.

    Both fade with the time constant WINDOW_S, so that a steady rate counts as rate × WINDOW_S.
    """

    __slots__ = ("_at_s", "_requests", "_retries")

    def __init__(self, now_s: float) -> None:
        self._requests = 0.0
        self._retries = 0.0
        self._at_s = now_s

    def earn(self) -> None:
        """Count one request that is no retry."""
        self._requests += 1

    def spend(self, now_s: float) -> bool:
        """Count one retry, if it fits; return whether it did."""
        self.fade(now_s)
        if self._retries + 1 > PER_S * WINDOW_S + RATIO * self._requests:
            return False
        self._retries += 1
        return True

    def fade(self, now_s: float) -> None:
        """Forget what lies back; call it about once a second."""
        keep = exp(-max(now_s - self._at_s, 0.0) / WINDOW_S)
        self._at_s = now_s
        self._requests *= keep
        self._retries *= keep
