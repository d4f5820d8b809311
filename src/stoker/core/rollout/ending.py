"""How a rollout ended, as its revision's dossier says it: a sentence, and what it is made of. Pure."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from stoker.core.rollout.state import Entry, RolloutState
from stoker.types.releases import BECAUSE_MAX

ENTRIES_MAX: Final = 50  # of its timeline, the newest that are no mere looks


def summary(state: RolloutState) -> str:
    """Return the sentence: what became of it, and why."""
    approved = f"; {state.approved}" if state.approved else ""
    return f"{state.number} {state.phase} ({state.strategy}): {state.because}{approved}"[:BECAUSE_MAX]


def verdict(state: RolloutState, timeline: Sequence[Entry]) -> dict[str, Any]:
    """Return what is signed. `timeline`: the oldest first."""
    told = [each for each in timeline if each.event != "look"][-ENTRIES_MAX:]
    found: dict[str, Any] = msgspec.to_builtins(
        {
            "rollout": state.number,
            "verdict": state.phase,
            "because": state.because,
            "strategy": state.strategy,
            "baseline": state.baseline,
            "canary": state.canary,
            "began_s": state.began_s,
            "ended_s": state.ended_s,
            "approved": state.approved,
            "findings": state.findings,
            "timeline": told,
        }
    )
    return found
