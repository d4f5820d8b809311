"""Which moves of its budgets' policies an endpoint is under, and what each changes. Pure.

Objectives ask (core/slo.py); what begins and ends is journaled with its reason. A move that goes on keeps the reason
and the moment it began with, however the budget looks meanwhile.

- shed-sheddable: gateways refuse the sheddable band of the endpoint (gateway/layers/admit.py).
- scale-up: one replica more than the load calls for (core/scale), within `replicas.max`. It is a bonus: traffic moves
  to a new revision when the usual number is ready, for the fix of a burning endpoint must not wait for room.
- freeze-rollouts: who applies is refused (control/specs.py).
"""

from collections.abc import Mapping
from typing import Final

from stoker.types.resources import Replicas
from stoker.types.slos import Move, MoveInForce

Asked = Mapping[Move, str]  # with why

# A replica takes seconds to minutes to load and to drain: one that was added stays at least so long.
SCALE_HOLD_S: Final = 300.0


def decide(before: tuple[MoveInForce, ...], asked: Asked, now_s: float) -> tuple[MoveInForce, ...]:
    """Return the moves in force now, each once, by name. `now_s`: unix seconds, as are the times in `before`."""
    kept = {each.move: each for each in before if each.move in asked or _must_last(each, now_s)}
    begun = {move: MoveInForce(move, because, now_s) for move, because in asked.items() if move not in kept}
    return tuple(each for _, each in sorted((kept | begun).items()))


def replicas(usual: int, bounds: Replicas, moves: tuple[MoveInForce, ...]) -> int:
    """Return how many replicas shall run where `usual` are enough: one more is never over `bounds.max`.

    An endpoint that is at 0 stays there: whoever asks for it wakes it.
    """
    has_bonus = usual and usual < bounds.max and is_in_force("scale-up", moves)
    return usual + 1 if has_bonus else usual


def is_in_force(move: Move, moves: tuple[MoveInForce, ...]) -> bool:
    """Return whether `move` is among `moves`."""
    return any(each.move == move for each in moves)


def _must_last(each: MoveInForce, now_s: float) -> bool:
    return each.move == "scale-up" and 0.0 <= now_s - each.since_s < SCALE_HOLD_S
