"""The bounds and numbers that a scaling decision keeps, in seconds and counts: what `spec.scaling` means."""

from collections.abc import Sequence

import msgspec

from stoker.types.resources import EndpointSpec
from stoker.types.scaling import USUAL_SIGNALS, WEEKDAYS, Schedule, Signal
from stoker.types.units import parse_seconds

DAY_S = 86_400.0


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
    signals: tuple[Signal, ...] = USUAL_SIGNALS
    utilization: float = 0.0  # share of its places that a replica fills; 0: all but what chance may fill
    drain_s: float = 5.0  # a queue shall be gone so long after what is ordered for it is ready
    down_window_s: float = 0.0  # what was needed within it stays; 0: learned
    idle_timeout_s: float = 600.0  # without a request, until nothing runs (min 0); 0: never
    waiting_worth: float = 0.0  # see core/warm.py
    fallback_replicas: int = 0  # when nothing can be measured; 0: as many as there are
    schedules: tuple[Window, ...] = ()
    queue_max: int = 0  # requests that may wait in all gateways together; 0: any number
    overflow: str = "the rest waits"  # what becomes of requests at the maximum, in words


def is_scaled(spec: EndpointSpec) -> bool:
    """Return whether the number of replicas may change by itself."""
    return not spec.backends and (spec.replicas.max > spec.replicas.min or bool(spec.scaling.schedules))


def can_sleep(spec: EndpointSpec) -> bool:
    """Return whether nothing may run while nobody asks, and the next request is waited for."""
    return not spec.backends and sleeps(spec.replicas.min, spec.replicas.max, spec.scaling.schedules)


def sleeps(least: int, most: int, schedules: Sequence[Schedule | Window]) -> bool:
    """Return whether bounds that may change by themselves ever let nothing run."""
    lows = (least, *(each.min for each in schedules if each.min is not None))
    return (most > least or bool(schedules)) and not min(lows)


def policy_of(spec: EndpointSpec, gateways: int) -> Policy:
    """Return the policy of an endpoint whose requests wait in so many `gateways`."""
    scaling = spec.scaling
    return Policy(
        min=spec.replicas.min,
        max=spec.replicas.max,
        signals=scaling.signals,
        utilization=scaling.utilization or 0.0,
        drain_s=parse_seconds(scaling.drain),
        down_window_s=parse_seconds(scaling.down_window),
        idle_timeout_s=parse_seconds(scaling.idle_timeout),
        waiting_worth=scaling.waiting_worth,
        fallback_replicas=scaling.fallback_replicas,
        schedules=tuple(window(each) for each in scaling.schedules),
        queue_max=spec.limits.queue_max * gateways,
        overflow=overflow(spec),
    )


def window(schedule: Schedule) -> Window:
    """Return a schedule as seconds of its days."""
    begins_s, ends_s = _seconds(schedule.begin), _seconds(schedule.end)
    return Window(
        name=schedule.name,
        days=frozenset(WEEKDAYS.index(each) for each in schedule.days),
        begins_s=begins_s,
        lasts_s=ends_s - begins_s if ends_s > begins_s else ends_s - begins_s + DAY_S,
        min=schedule.min,
        max=schedule.max,
    )


def overflow(spec: EndpointSpec) -> str:
    """Return what becomes of requests that find every replica full."""
    elsewhere = spec.fallback if "overload" in spec.fallback_on else ()
    then = f"then {elsewhere[0]} answers" if elsewhere else "then 429, the sheddable ones first"
    return f"what finds no place waits, {spec.limits.queue_max} requests in a gateway at the most, {then}"


def _seconds(time: str) -> float:
    hours, _, minutes = time.partition(":")
    return 3600.0 * int(hours) + 60.0 * int(minutes)
