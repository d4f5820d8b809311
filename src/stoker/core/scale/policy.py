"""The bounds and numbers that a scaling decision keeps, in seconds and counts: what `spec.scaling` means."""

import msgspec

from stoker.types.scaling import SIGNALS, Signal


class Window(msgspec.Struct, frozen=True):
    """A stretch of the week with bounds of its own, in local time. days: on which it begins; 0 is Monday."""

    name: str
    days: frozenset[int]
    begins_s: float  # of the day
    lasts_s: float
    min: int | None = None
    max: int | None = None


class Policy(msgspec.Struct, frozen=True):
    """How an endpoint scales. The defaults come from simulation (docs/how-to/scaling.md)."""

    min: int = 1
    max: int = 1
    signals: tuple[Signal, ...] = SIGNALS
    utilization: float = 0.0  # share of its places that a replica fills; 0: all but what chance may fill
    drain_s: float = 5.0  # a queue shall be gone so long after what is ordered for it is ready
    down_window_s: float = 0.0  # what was needed within it stays; 0: learned
    idle_timeout_s: float = 600.0  # without a request, until nothing runs (min 0); 0: never
    waiting_worth: float = 0.0  # see core/warm.py
    fallback_replicas: int = 0  # when nothing can be measured; 0: as many as there are
    schedules: tuple[Window, ...] = ()
    queue_max: int = 0  # requests that may wait in all gateways together; 0: any number
    overflow: str = "the rest waits"  # what becomes of requests at the maximum, in words
