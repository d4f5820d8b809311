"""Appends to dossiers how the rollouts of their revisions ended, signed.

By level: a rollout that ended and was not told of is told of, in one transaction with the mark that it was, so that
whoever dies in between leaves nothing half-done and nothing is told twice.
"""

from stoker.core.rollout import ending
from stoker.core.rollout.state import RolloutState
from stoker.protocol import dossier as wire
from stoker.protocol.signing import PrivateKey
from stoker.store import releases, rollouts
from stoker.store.engine import Connection


def tell(connection: Connection, state: RolloutState, key: PrivateKey) -> bool:
    """Append the end of a rollout to the dossier of its revision; False where it has none that is decided.

    A rollout without one (its dossier is too old, or another revision has its name now) is not looked at again.
    """
    if not rollouts.mark_told(connection, state.number):
        return False
    dossier = releases.decided(connection, state.canary)
    if dossier is None or dossier.born_s > state.began_s:
        return False
    timeline, _ = rollouts.timeline(connection, state.number)
    statement = wire.sign_verdict(dossier, ending.verdict(state, timeline), key)
    return releases.add_verdict(connection, state.canary, ending.summary(state), statement)
