"""What is wrong with how an endpoint scales, beyond the types of its fields."""

from typing import Final
from zoneinfo import ZoneInfo

from stoker.protocol.conform import shown
from stoker.types.resources import EndpointSpec
from stoker.types.scaling import Schedule
from stoker.types.units import parse_seconds

DAY_S: Final = 86_400.0


def scaling_problems(spec: EndpointSpec) -> list[tuple[str, str]]:
    """Return (field, message) of each problem."""
    scaling = spec.scaling
    found = []
    if spec.replicas.max < spec.replicas.min:
        found.append(("spec.replicas.max", f"{spec.replicas.max} is less than min, {spec.replicas.min}"))
    if not 0 < parse_seconds(scaling.drain) <= DAY_S:
        found.append(("spec.scaling.drain", f"{shown(scaling.drain)} is not between 0 and one day"))
    found += [
        (f"spec.scaling.{name}", f"{shown(getattr(scaling, name))} is more than seven days")
        for name in ("down_window", "idle_timeout")
        if parse_seconds(getattr(scaling, name)) > 7 * DAY_S
    ]
    if len(set(scaling.signals)) < len(scaling.signals):
        found.append(("spec.scaling.signals", "one of them is there twice"))
    if scaling.fallback_replicas > spec.replicas.max:
        message = f"{scaling.fallback_replicas} is more than replicas.max, {spec.replicas.max}"
        found.append(("spec.scaling.fallback_replicas", message))
    for number, schedule in enumerate(scaling.schedules):
        where = f"spec.scaling.schedules[{number}]"
        found += [(f"{where}.{field}", message) for field, message in _schedule(schedule, spec)]
    return found


def _schedule(schedule: Schedule, spec: EndpointSpec) -> list[tuple[str, str]]:
    found = []
    try:
        ZoneInfo(schedule.zone)
    except (ValueError, OSError, LookupError):
        found.append(("zone", f"{shown(schedule.zone)} is no time zone; write one as Europe/Berlin or UTC"))
    if schedule.min is None and schedule.max is None:
        found.append(("min", "a schedule has min, max or both"))
    least = spec.replicas.min if schedule.min is None else schedule.min
    most = spec.replicas.max if schedule.max is None else schedule.max
    if most < least:
        found.append(("max", f"{most} is less than the minimum then, {least}"))
    return found
