"""Whether a failed request may be tried again: only what cannot have been answered, and only within a budget.

Source: finagle's RetryBudget: 20 % of the requests of the last ten seconds, and 10 a second besides. A retry without
a budget turns a slow fleet into a dead one. At least two replicas' worth of requests always fits, because the death of
a full replica is no overload: each of its requests moves once.
"""

from typing import Final

RATIO: Final = 0.2
PER_S: Final = 10.0
WINDOW_S: Final = 10.0
TRIES_MAX: Final = 6  # of one request, the first included


class Budget:
    """Requests and retries of the last WINDOW_S or so (both fade), and whether one more retry fits.

    Args:
        places: requests that one replica may hold.
    """

    __slots__ = ("_at_s", "_floor", "_requests", "_retries")

    def __init__(self, places: int, now_s: float) -> None:
        self._floor = max(PER_S * WINDOW_S, 2.0 * places)
        self._requests = 0.0
        self._retries = 0.0
        self._at_s = now_s

    def earn(self) -> None:
        """Count one request that is no retry."""
        self._requests += 1

    def spend(self, now_s: float) -> bool:
        """Count one retry, if it fits; return whether it did."""
        self.fade(now_s)
        if self._retries + 1 > self._floor + RATIO * self._requests:
            return False
        self._retries += 1
        return True

    def fade(self, now_s: float) -> None:
        """Forget what lies back; call it about once a second."""
        keep = 0.5 ** (max(now_s - self._at_s, 0.0) / (WINDOW_S / 2))
        self._at_s = now_s
        self._requests *= keep
        self._retries *= keep
