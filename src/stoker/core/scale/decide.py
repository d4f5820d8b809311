"""How many replicas an endpoint should have, and why. Pure: a sight in, a decision with its numbers out."""

import msgspec

from stoker.core.scale.memory import Memory
from stoker.core.scale.policy import Policy
from stoker.core.scale.sight import Sight
from stoker.types.scaling import Signal


class Reading(msgspec.Struct, frozen=True):
    """What one signal calls for: replicas, not yet rounded, with the arithmetic."""

    signal: Signal
    replicas: float
    because: str


class Decision(msgspec.Struct, frozen=True):
    """How many replicas there should be, why, what each signal said, and what to give to the next decision.

    limit: what stands in the way of more, and what happens with the requests meanwhile; "" when nothing does.
    """

    desired: int
    because: str
    signals: tuple[Reading, ...]
    memory: Memory
    limit: str = ""


def decide(sight: Sight, policy: Policy, memory: Memory, now_s: float) -> Decision:
    """Return how many replicas `sight` calls for within the bounds of `policy`.

    `memory` is that of the decision before, `Memory()` at first. `now_s` is unix seconds, at least those of `memory`.
    """
    have = sight.ready + sight.pending
    desired = min(max(have, policy.min), policy.max)
    return Decision(desired, "as it is", (), msgspec.structs.replace(memory, desired=desired, at_s=now_s))
