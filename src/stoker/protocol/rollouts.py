"""What is wrong with how an endpoint rolls out, beyond the types of its fields."""

import re
from itertools import pairwise
from typing import Final

from stoker.protocol.conform import shown
from stoker.protocol.hooked import receiver_problems
from stoker.types.rollouts import Hook, Rollout
from stoker.types.units import parse_seconds

_HEADER: Final = re.compile(r"header:[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_SEGMENTS: Final = ("tenant", "size")
WITHIN_MAX_S: Final = 30 * 86_400.0  # of an approval
_STICKY: Final = ("key", "user", "session")


def rollout_problems(rollout: Rollout) -> list[tuple[str, str]]:
    """Return (field, message) of each problem."""
    steps = rollout.steps
    found = [
        ("spec.rollout.pause_at", f"{percent} is none of the steps, {list(steps)}")
        for percent in rollout.pause_at
        if percent not in steps
    ]
    if any(after <= before for before, after in pairwise(steps)):
        found.append(("spec.rollout.steps", f"{list(steps)}: each step takes more of the traffic than the one before"))
    found += [
        ("spec.rollout.segments", f"{shown(segment)} is none of tenant, size, header:NAME")
        for segment in rollout.segments
        if segment not in _SEGMENTS and not _HEADER.fullmatch(segment)
    ]
    if rollout.sticky not in _STICKY and not _HEADER.fullmatch(rollout.sticky):
        found.append(("spec.rollout.sticky", f"{shown(rollout.sticky)} is none of key, user, session, header:NAME"))
    for number, hook in enumerate(rollout.hooks):
        found.extend((f"spec.rollout.hooks[{number}].{field}", message) for field, message in _hook(hook))
    if sum(hook.holds for hook in rollout.hooks) > 1:
        found.append(("spec.rollout.hooks", "one hook at most holds; let that one ask everybody else"))
    return found


def _hook(hook: Hook) -> list[tuple[str, str]]:
    found = receiver_problems(hook)
    if not hook.webhook and hook.webhook_from is None:
        found.append(("webhook", "missing; `webhook` or `webhook_from` says where to"))
    if hook.holds and "pre-release" not in hook.events:
        found.append(("events", "a hook that holds must be told of pre-release"))
    if hook.holds and not 1.0 <= parse_seconds(hook.within) <= WITHIN_MAX_S:
        found.append(("within", f"{hook.within} is not between 1s and {WITHIN_MAX_S / 86_400:.0f}d"))
    return found
