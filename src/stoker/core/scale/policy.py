"""The bounds and numbers that a scaling decision keeps, read from an endpoint's manifest once."""

from typing import Final

import msgspec

from stoker.types.scaling import SIGNALS, Signal


class Window(msgspec.Struct, frozen=True):
    """A stretch of the week with bounds of its own. Minutes count from Monday 00:00 in local time."""

    days: frozenset[int]  # 0 is Monday: the day on which it begins
    begins_min: int  # of the day
    lasts_min: int
    min: int | None
    max: int | None
    name: str


class Policy(msgspec.Struct, frozen=True):
    """How an endpoint scales. The defaults come from simulation (docs/how-to/scaling.md)."""

    min: int = 1
    max: int = 1
    signals: tuple[Signal, ...] = SIGNALS
    utilization: float = 0.0  # share of its places that a replica fills; 0: as much as chance leaves free
    drain_s: float = 10.0  # a queue shall be gone after so long
    down_window_s: float = 0.0  # nothing goes down that was wanted within; 0: from the cold start
    idle_timeout_s: float = 600.0  # without a request, until nothing runs; 0: never
    fallback_replicas: int = 0  # when nothing can be measured; 0: as many as there are
    schedules: tuple[Window, ...] = ()


STALE_S: Final = 15.0  # older numbers hold what is
