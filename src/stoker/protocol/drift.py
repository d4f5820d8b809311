"""What is wrong with how an endpoint's drift is to be watched, beyond the types of its fields."""

from typing import Final

from stoker.protocol.conform import shown
from stoker.protocol.hooked import FILE, receiver_problems
from stoker.types.drift import FEATURES_MAX
from stoker.types.resources import Drift
from stoker.types.units import parse_seconds

DRIFT_EVERY_S_MIN: Final = 1.0
DRIFT_WINDOW_S_MAX: Final = 30 * 86_400.0


def drift_problems(drift: Drift | None) -> list[tuple[str, str]]:
    """Return (field, message) of each problem."""
    if drift is None:
        return []
    found = []
    every_s, window_s = parse_seconds(drift.every), parse_seconds(drift.window)
    if every_s < DRIFT_EVERY_S_MIN:
        found.append(("spec.drift.every", f"{shown(drift.every)} is less than a second"))
    if not every_s <= window_s <= DRIFT_WINDOW_S_MAX:
        found.append(("spec.drift.window", f"{shown(drift.window)} is not between `every` and 30 days"))
    if len(drift.thresholds) > FEATURES_MAX or any(not 0 < one <= 10 for one in drift.thresholds.values()):
        found.append(("spec.drift.thresholds", f"at most {FEATURES_MAX}, each more than 0 and at most 10"))
    trigger = drift.trigger
    if trigger is None:
        return found
    if bool(trigger.webhook or trigger.webhook_from) == bool(trigger.command):
        found.append(("spec.drift.trigger", "name a webhook or a command, one of them"))
    found.extend((f"spec.drift.trigger.{field}", message) for field, message in receiver_problems(trigger))
    if trigger.command and not FILE.fullmatch(trigger.command):
        found.append(("spec.drift.trigger.command", f"{shown(trigger.command)} cannot be a file in hooks/"))
    return found
