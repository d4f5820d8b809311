"""Where the time of this replica's start goes, from the spawn of its process to its first answer.

    process ▸ imports ▸ verify ▸ what the engine calls its stages ▸ warm-up ▸ ready … first answer

The loading thread writes, the loop reads. A phase that comes twice counts twice.
"""

import os
import time
from collections.abc import MutableMapping

from stoker.types.starts import FIRST_ANSWER, IMPORTS, PHASE_CHARS_MAX, PHASES_MAX, PROCESS, SPAWNED


class Stopwatch:
    """Measures from `began_s` (monotonic), the first line of ours, on."""

    def __init__(self, began_s: float, spawned_s: float = 0.0, born: str = PROCESS) -> None:
        self._taken: dict[str, float] = {}
        if 0 < spawned_s <= began_s:
            self._taken[born] = began_s - spawned_s
        self._phase = IMPORTS
        self._since_s = began_s

    @property
    def taken(self) -> dict[str, float]:
        """What is over, in seconds by phase, in their order."""
        return dict(self._taken)

    def enter(self, phase: str) -> None:
        """Be in `phase` from now on; "" when the start is over."""
        phase = phase[:PHASE_CHARS_MAX]
        now_s = time.monotonic()
        if phase != self._phase:
            if self._phase:
                has_room = self._phase in self._taken or len(self._taken) < PHASES_MAX - 1
                name = self._phase if has_room else next(reversed(self._taken))
                self._taken[name] = self._taken.get(name, 0.0) + now_s - self._since_s
            self._phase, self._since_s = phase, now_s

    def answered(self, seconds: float) -> None:
        """Take note of the first answer."""
        self._taken.setdefault(FIRST_ANSWER, seconds)


def begun(began_s: float, born: str = PROCESS, environment: MutableMapping[str, str] = os.environ) -> Stopwatch:
    """Return the stopwatch of this process, and take out of its environment when it was spawned.

    born: the phase from the spawn to `began_s`.
    """
    try:
        spawned_s = float(environment.pop(SPAWNED, ""))
    except ValueError:  # started by hand
        spawned_s = 0.0
    return Stopwatch(began_s, spawned_s, born)
