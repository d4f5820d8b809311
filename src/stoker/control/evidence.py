"""Labels as evidence in a rollout: of the predictions that each arm made since it began, how many were wrong.

It is counted anew at each look and kept as a metric that only grows (`wrong`), so a control that dies loses nothing.
What the store had to drop by then (spec.feedback.max) stays counted; a label that is corrected later changes it only
to the worse.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from stoker.core.rollout.state import RolloutState
from stoker.observe.feedback.quality import RIGHT
from stoker.observe.feedback.store import FeedbackStore
from stoker.store import endpoints, rollouts
from stoker.store.engine import Connection
from stoker.types.rollouts import WRONG, ArmCounts, Arms

_COUNTS: Final = """SELECT revision, count(score), coalesce(sum(score < ?), 0) FROM predictions
  WHERE project = ? AND endpoint = ? AND at >= ? AND labelled IS NOT NULL AND revision IN (?, ?) GROUP BY 1"""


class Labelled(msgspec.Struct, frozen=True):
    """What labels say of one rollout."""

    number: int
    arms: Arms


def asked(connection: Connection) -> list[RolloutState]:
    """Return the rollouts that labels are evidence in: those that run, of endpoints that keep predictions."""
    running = [each.state for each in rollouts.running(connection)]
    if not running:
        return []
    kept = {each.key for each in endpoints.everything(connection) if each.resource.spec.feedback is not None}
    return [each for each in running if (each.project, each.endpoint) in kept]


def labelled(store: FeedbackStore, state: RolloutState) -> Labelled:
    """Return what labels say of a rollout. May take seconds. Raises Unavailable."""
    values = (RIGHT, state.project, state.endpoint, state.began_s, state.canary, state.baseline)
    found = {str(row[0]): _counts(row[1], row[2]) for row in store.read(_COUNTS, values)}
    return Labelled(state.number, Arms(found.get(state.canary, ArmCounts()), found.get(state.baseline, ArmCounts())))


def keep(connection: Connection, found: Sequence[Labelled]) -> bool:
    """Keep what labels say; return whether there was anything new."""
    return any([rollouts.grow(connection, each.number, WRONG, each.arms) for each in found])  # noqa: C419 - each of them


def _counts(total: object, bad: object) -> ArmCounts:
    assert isinstance(total, int)
    assert isinstance(bad, int)
    return ArmCounts(total, {WRONG: bad}) if total else ArmCounts()
