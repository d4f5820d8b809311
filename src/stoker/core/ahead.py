"""Which versions a node should have ready before a replica of them is wanted, in which order, within which bytes. Pure.

A revision that is about to start comes first: its gates run, or its rollout prepares it. Then those that serve and
sleep, by what a start of theirs that is quicker is worth: starts a second times the seconds that one takes.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from stoker.core.gate.law import DossierState
from stoker.core.rollout.state import RolloutState
from stoker.core.snapshot import Assignment, EndpointKey, EndpointState, Revision
from stoker.types.ahead import AHEAD_MAX
from stoker.types.starts import Start

BUDGET_RATIO: Final = 0.25  # of the node's free memory: what is read ahead is the first that the kernel drops
OVER_S: Final = 86_400.0  # starts are counted over this time
ABOUT_S: Final = 3600.0  # a revision that has not started within this time is about to no more


class Candidate(msgspec.Struct, frozen=True):
    """A revision that may start soon. `worth` in seconds of waiting a second; an infinite one is about to start."""

    revision: Revision
    worth: float
    because: str


def about(
    revisions: Iterable[Revision],
    rollouts: Iterable[RolloutState],
    dossiers: Mapping[str, DossierState],
    *,
    asked: Collection[str],
    now_s: float,
) -> dict[str, str]:
    """Return why each revision is about to start that is, by its id.

    Args:
        asked: the revisions that the specs ask for now. The dossier of another may be pending for good: gates that were
            changed since have not been passed, and nobody asks.
        now_s: unix seconds.
    """
    canaries = {each.canary for each in rollouts if not each.is_ended}
    found = {}
    for each in revisions:
        stands = dossiers.get(each.revision)
        is_judged = stands is not None and stands.state == "pending" and each.revision in asked
        if is_judged and 0 <= now_s - each.created_at_s < ABOUT_S:
            found[str(each.revision)] = "its gates run"  # a rollout that has begun waits for them
        elif each.revision in canaries:
            found[str(each.revision)] = "its rollout has begun"
    return found


def candidates(
    endpoints: Iterable[EndpointState],
    revisions: Sequence[Revision],
    assignments: Iterable[Assignment],
    coming: Mapping[str, str],
    starts: Mapping[EndpointKey, Sequence[Start]],
    *,
    now_s: float,
) -> list[Candidate]:
    """Return the revisions without a replica that may start soon, the most valuable first.

    Args:
        coming: what `about` returns.
        starts: the newest of each endpoint.
        now_s: unix seconds, as those of starts.
    """
    running = {each.revision for each in assignments}
    newest = {(each.project, each.endpoint): each for each in sorted(revisions, key=lambda one: one.number)}
    by_name = {str(each.revision): each for each in revisions}
    found = []
    for endpoint in endpoints:
        if endpoint.is_deleting:
            continue
        last, serving = newest.get(endpoint.key), by_name.get(endpoint.serving)
        if last is not None and last.revision not in running and last is not serving and last.revision in coming:
            found.append(Candidate(last, float("inf"), coming[last.revision]))
        if serving is not None and serving.revision not in running:
            rate, load_s = _wakes(starts.get(endpoint.key, ()), now_s)
            because = f"it sleeps; {rate * 3600:.2g} starts an hour, {load_s:.2g} s each"
            found.append(Candidate(serving, rate * load_s, because))
    return sorted(found, key=lambda each: -each.worth)


def fits(sizes: Sequence[int], free_bytes: int) -> list[int]:
    """Return which of `sizes`, the most valuable first, fit into what a node may read ahead. A large one is passed."""
    left = int(free_bytes * BUDGET_RATIO)
    chosen: list[int] = []
    for at, size_bytes in enumerate(sizes):
        if size_bytes <= left and len(chosen) < AHEAD_MAX:
            chosen.append(at)
            left -= size_bytes
    return chosen


def _wakes(starts: Sequence[Start], now_s: float) -> tuple[float, float]:
    """Return starts a second over OVER_S, and the seconds that one takes; of none that is known a day's one of 1 s."""
    lately = [each for each in starts if now_s - each.at_s < OVER_S]
    rate = max(len(lately), 1) / OVER_S
    return rate, sum(each.total_s for each in lately) / len(lately) if lately else 1.0
