"""Which requests kill replicas: suspicion by shape, a trial alone, quarantine.

When a replica dies, each request in it is a suspect, by its shape (a digest of endpoint, method and body). A suspect
is tried again alone: one trial at a time in an endpoint, in a replica that takes nothing else meanwhile. Success clears
the shape, for all requests that have it; a death in a trial convicts it. So one killer among 64 innocents costs two
deaths, and a healthy replica killed from outside convicts nobody: its requests pass their trials.
A shape that is in company at DEATHS_MAX deaths without one success is convicted too: it kills too late for a trial.
"""

from collections import OrderedDict
from typing import Final, Literal

SUSPECTS_MAX: Final = 4096
CONVICTS_MAX: Final = 1024
SUSPICION_S: Final = 120.0
QUARANTINE_S: Final = 600.0
DEATHS_MAX: Final = 4

Standing = Literal["clear", "suspect", "convicted"]


class Book:
    """What is known of shapes. Bounded: the oldest entry makes room for a new one."""

    __slots__ = ("_convicts", "_suspects")

    def __init__(self) -> None:
        self._suspects: OrderedDict[bytes, tuple[frozenset[str], float]] = OrderedDict()  # deaths, time of the last
        self._convicts: OrderedDict[bytes, float] = OrderedDict()

    def __bool__(self) -> bool:
        """Return whether anything is known; while nothing is, nobody needs to compute a digest."""
        return bool(self._suspects or self._convicts)

    def standing(self, shape: bytes, now_s: float) -> Standing:
        """Return what is held against `shape`."""
        until_s = self._convicts.get(shape)
        if until_s is not None:
            if now_s < until_s:
                return "convicted"
            del self._convicts[shape]
        known = self._suspects.get(shape)
        if known is None:
            return "clear"
        if now_s - known[1] > SUSPICION_S:
            del self._suspects[shape]
            return "clear"
        return "suspect"

    def died(self, shape: bytes, death: str, in_trial: bool, now_s: float) -> Standing:
        """Take note that a replica died with `shape` in it; return the standing now.

        `death` names the process that died, so that many requests of one shape in it count as one death.
        """
        deaths = self._suspects.get(shape, (frozenset[str](), 0.0))[0] | {death}
        if in_trial or len(deaths) >= DEATHS_MAX:
            self.convict(shape, now_s)
            return "convicted"
        self._suspects[shape] = (deaths, now_s)
        self._suspects.move_to_end(shape)
        if len(self._suspects) > SUSPECTS_MAX:
            self._suspects.popitem(last=False)
        return "suspect"

    def survived(self, shape: bytes) -> None:
        """Clear `shape`: a request of it was answered."""
        self._suspects.pop(shape, None)

    def convict(self, shape: bytes, now_s: float) -> None:
        """Put `shape` into quarantine for QUARANTINE_S."""
        self._suspects.pop(shape, None)
        self._convicts[shape] = now_s + QUARANTINE_S
        self._convicts.move_to_end(shape)
        if len(self._convicts) > CONVICTS_MAX:
            self._convicts.popitem(last=False)

    def sweep(self, now_s: float) -> None:
        """Forget what is too old to matter."""
        for shape in [shape for shape, (_, last_s) in self._suspects.items() if now_s - last_s > SUSPICION_S]:
            del self._suspects[shape]
        for shape in [shape for shape, until_s in self._convicts.items() if now_s >= until_s]:
            del self._convicts[shape]
