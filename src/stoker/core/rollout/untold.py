"""What is said of hooks that cannot be told: a line of the rollout's timeline, and a condition of the endpoint. Pure.

The timeline has the first failure of a message, and its end: that it came after all, or was given up. Neither is
something that hooks are told of (core/rollout/hooks.py).
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from stoker.core import conditions
from stoker.core.rollout.course import receiver_name
from stoker.types.statuses import Condition

EVENTS: Final = ("untold", "told", "lost")  # of a timeline
RECEIVERS_SHOWN: Final = 3  # in a condition


class Failing(msgspec.Struct, frozen=True):
    """A message that a hook has not taken. `receiver`: an address, or the reference to it.

    event, rollout: what it tells. is_ours: its address or what signs it is not to be had. tries: so far.
    """

    receiver: str
    event: str
    rollout: int
    reason: str
    is_ours: bool = False
    tries: int = 1


def line(failing: Failing, outcome: str) -> tuple[str, str] | None:
    """Return event and words of the timeline; None where there is nothing to say: it was taken at once.

    outcome: later, delivered or lost.
    """
    who = receiver_name(failing.receiver)
    match outcome:
        case "later":
            return "untold", f"{who} is not told of {failing.event} yet: {failing.reason}; it is tried for an hour"
        case "lost":
            times = "once" if failing.tries == 1 else f"{failing.tries} times"
            return "lost", f"{who} is never told of {failing.event}, tried {times}: {failing.reason}"
        case _ if failing.tries > 1:
            return "told", f"{who} was told of {failing.event} at try {failing.tries}"
        case _:
            return None


def condition(found: Iterable[Failing], now_s: float) -> Condition | None:
    """Return what is said of an endpoint while hooks of its rollouts fail; None: none does.

    Without the number of tries, which would change it all the time.
    """
    by_receiver: dict[str, Failing] = {}
    for each in found:
        by_receiver.setdefault(each.receiver, each)
    if not by_receiver:
        return None
    said = [
        f"{receiver_name(each.receiver)} is not told of {each.event} of rollout {each.rollout}: {each.reason}"
        for each in by_receiver.values()
    ]
    more = f"; and {len(said) - RECEIVERS_SHOWN} more" if len(said) > RECEIVERS_SHOWN else ""
    is_ours = any(each.is_ours for each in by_receiver.values())
    words = f"{'; '.join(said[:RECEIVERS_SHOWN])}{more}; it is tried for an hour"
    return Condition(conditions.HOOKS, False, "SecretMissing" if is_ours else "ReceiverFails", words, now_s)
