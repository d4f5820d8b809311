"""How busy the machine was lately: shares of time from counters that the kernel keeps since its boot."""

import time
from typing import Final

from stoker.agent import kernel

OVER_S: Final = 5.0  # what a share is of: as long as control's samples are apart


class MachineLoad:
    """To be looked at about once a second; the shares are of the last OVER_S, None before and where unknown."""

    def __init__(self) -> None:
        self.cpu_ratio: float | None = None
        self.pressure_ratio: float | None = None
        self.memory_pressure_ratio: float | None = None
        self._at_s, self._times, self._pressed_s, self._starved_s = self._now()

    def look(self) -> None:
        """Read the counters, and set the shares when OVER_S went by."""
        at_s, (busy_s, whole_s), pressed_s, starved_s = self._now()
        if at_s - self._at_s < OVER_S:
            return
        if whole_s > self._times[1]:
            self.cpu_ratio = _ratio(busy_s - self._times[0], whole_s - self._times[1])
        self.pressure_ratio = _share(pressed_s, self._pressed_s, at_s - self._at_s)
        self.memory_pressure_ratio = _share(starved_s, self._starved_s, at_s - self._at_s)
        self._at_s, self._times, self._pressed_s, self._starved_s = at_s, (busy_s, whole_s), pressed_s, starved_s

    @staticmethod
    def _now() -> tuple[float, tuple[float, float], float | None, float | None]:
        return time.monotonic(), kernel.cpu_times(), kernel.pressed_s("cpu"), kernel.pressed_s("memory")


def _share(now_s: float | None, before_s: float | None, over_s: float) -> float | None:
    return _ratio(now_s - before_s, over_s) if now_s is not None and before_s is not None else None


def _ratio(part: float, whole: float) -> float:
    return round(min(max(part / whole, 0.0), 1.0), 4)
