"""Whether a replica is alive: liveness is progress, not an open port.

A replica that answers pings but finishes nothing while it holds our requests is stuck; one that is slow but emits
tokens or finishes anything is not. How long "nothing" may last is learned: the longest silence with work that ended
well, times a margin, within bounds. Fails open: at most half of an endpoint's replicas are ever out, because when all
seem ill the judge is.
"""

from typing import Final, Literal

import msgspec

SILENT_S: Final = 5.0  # without an answer to five pings
STUCK_MIN_S: Final = {"predict": 10.0, "embed": 10.0, "chat": 30.0}  # chat: a long prompt on a slow machine
STUCK_MAX_S: Final = 120.0
MARGIN: Final = 3.0

Verdict = Literal["healthy", "silent", "stuck"]


class Progress(msgspec.Struct, frozen=True):
    """What was seen of one replica. `mark` is any number that changes with each sign of progress.

    since_s: when it last changed, or when the replica last had nothing to do. gap_max_s: the longest wait for a change.
    """

    mark: int
    since_s: float
    gap_max_s: float = 0.0


def observe(seen: Progress, mark: int, has_work: bool, now_s: float) -> Progress:
    """Return what is known after looking once more."""
    if mark != seen.mark:
        return Progress(mark, now_s, max(seen.gap_max_s, now_s - seen.since_s))
    if not has_work:
        return Progress(mark, now_s, seen.gap_max_s)
    return seen


def judge(seen: Progress, task: str, heard_s: float, now_s: float) -> Verdict:
    """Return the verdict on a replica of an endpoint with `task`, last heard of at `heard_s`."""
    if now_s - heard_s > SILENT_S:
        return "silent"
    limit_s = min(max(STUCK_MIN_S.get(task, 30.0), MARGIN * seen.gap_max_s), STUCK_MAX_S)
    return "stuck" if now_s - seen.since_s > limit_s else "healthy"


def may_eject(out: int, total: int) -> bool:
    """Return whether one more of `total` replicas may be taken out when `out` already are."""
    return 2 * (out + 1) <= total
