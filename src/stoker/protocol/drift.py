"""What is wrong with how an endpoint's drift is to be watched, beyond the types of its fields."""

import re
from typing import Final

from stoker.core.secrets import has_userinfo
from stoker.protocol.conform import shown
from stoker.types.drift import FEATURES_MAX
from stoker.types.resources import Drift
from stoker.types.units import parse_seconds

DRIFT_EVERY_S_MIN: Final = 1.0
DRIFT_WINDOW_S_MAX: Final = 30 * 86_400.0
_HOOK: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")


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
    if bool(trigger.webhook) == bool(trigger.command):
        found.append(("spec.drift.trigger", "name a webhook or a command, one of them"))
    if trigger.webhook and not trigger.webhook.startswith(("http://", "https://")):
        found.append(("spec.drift.trigger.webhook", f"{shown(trigger.webhook)} is no http or https URL"))
    if has_userinfo(trigger.webhook):
        found.append(("spec.drift.trigger.webhook", "no manifest may hold a password; sign what is sent with `secret`"))
    for name, value in (("secret", trigger.secret), ("command", trigger.command)):
        if value and not _HOOK.fullmatch(value):
            found.append((f"spec.drift.trigger.{name}", f"{shown(value)} cannot be a file in hooks/"))
    return found
