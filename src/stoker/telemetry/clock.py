"""Whether the wall clock was set: by how much it moved against the time that went by."""

import time
from typing import Final

from stoker.telemetry.metrics import Counter

STEP_MIN_S: Final = 0.5  # smaller ones are what time daemons do all day
SLEW_RATIO: Final = 0.001  # a daemon that turns a clock gently does so by half of this at most


class ClockWatch:
    """Adds to `stepped` the seconds of each step, forth or back, that lies between two looks."""

    def __init__(self, stepped: Counter) -> None:
        self._stepped = stepped
        self._at_s, self._apart_s = self._now()

    def look(self) -> None:
        """Compare with the last look."""
        at_s, apart_s = self._now()
        moved_s = abs(apart_s - self._apart_s)
        if moved_s >= STEP_MIN_S + SLEW_RATIO * (at_s - self._at_s):
            self._stepped.add(moved_s)
        self._at_s, self._apart_s = at_s, apart_s

    @staticmethod
    def _now() -> tuple[float, float]:
        # Of the clocks that nobody sets, the one that goes on while the machine sleeps: waking up is no step.
        went_by_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        return went_by_s, time.time() - went_by_s
