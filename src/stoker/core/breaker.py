"""Whether a replica is alive: liveness is progress, not an open port.

A replica that answers pings but finishes nothing while it holds our requests is stuck; one that is slow but emits
tokens or finishes anything is not. How long "nothing" may last is learned: the longest silence with work that ended
well, times a margin, within bounds. While its peers answer, a replica is given less time than when all are slow at
once: then it is the machine. Fails open: at most half of an endpoint's replicas are ever out, because when all seem
ill the judge is.
"""

from typing import Final, Literal

import msgspec

SILENT_S: Final = 5.0  # without an answer to any ping
STUCK_MIN_S: Final = {"predict": 10.0, "embed": 10.0, "chat": 30.0}  # chat: a long prompt on a slow machine
STUCK_MAX_S: Final = 120.0
MARGIN: Final = 3.0
# While most peers answer pings. An engine may hold the interpreter for a second; the pings it then answered late are
# remembered, and it is given twice as long.
SILENT_ALONE_S: Final = 1.5
SILENT_MARGIN: Final = 2.0
# While the peers finish work. Not for chat: one long prompt is no sign of anything.
STUCK_ALONE_S: Final = 3.0
STUCK_PEERS_FACTOR: Final = 8.0
_LATE_HALF_S: Final = 60.0

Verdict = Literal["healthy", "silent", "stuck"]


class Progress(msgspec.Struct, frozen=True):
    """What was seen of one replica. `mark` is any number that changes with each sign of progress.

    since_s: when it last changed, or when the replica last had nothing to do. gap_max_s: the longest wait for a change.
    """

    mark: int
    since_s: float
    gap_max_s: float = 0.0


class Pings(msgspec.Struct, frozen=True):
    """What is known of a replica's answers to pings.

    asked_s: when the oldest unanswered one was sent; 0: all are answered. late_s: the longest wait for an answer that
    came, fading over minutes; as of late_at_s.
    """

    heard_s: float
    asked_s: float = 0.0
    late_s: float = 0.0
    late_at_s: float = 0.0


class Peers(msgspec.Struct, frozen=True):
    """The other replicas of an endpoint that should be well.

    count, answering: how many there are, and how many answered a ping just now. finished: whether one of them ended a
    request lately. slowest_s: the longest any of their requests took lately. gap_max_s: see Progress.
    """

    count: int = 0
    answering: int = 0
    finished: bool = False
    slowest_s: float = 0.0
    gap_max_s: float = 0.0


NO_PEERS: Final = Peers()


def observe(seen: Progress, mark: int, has_work: bool, now_s: float) -> Progress:
    """Return what is known after looking once more."""
    if mark != seen.mark:
        return Progress(mark, now_s, max(seen.gap_max_s, now_s - seen.since_s))
    if not has_work:
        return Progress(mark, now_s, seen.gap_max_s)
    return seen


def asked(pings: Pings, now_s: float) -> Pings:
    """Return what is known after one more ping was sent."""
    return pings if pings.asked_s else msgspec.structs.replace(pings, asked_s=now_s)


def heard(pings: Pings, now_s: float) -> Pings:
    """Return what is known after an answer."""
    waited_s = now_s - pings.asked_s if pings.asked_s else 0.0
    faded_s = pings.late_s * 0.5 ** (max(now_s - pings.late_at_s, 0.0) / _LATE_HALF_S)
    return Pings(now_s, 0.0, max(waited_s, faded_s), now_s)


def judge(seen: Progress, pings: Pings, task: str, now_s: float, peers: Peers = NO_PEERS) -> Verdict:
    """Return the verdict on a replica of an endpoint with `task`."""
    if now_s - pings.heard_s > SILENT_S:
        return "silent"
    if pings.asked_s and peers.answering and 2 * peers.answering >= peers.count:
        limit_s = min(max(SILENT_ALONE_S, SILENT_MARGIN * pings.late_s), SILENT_S)
        if now_s - pings.asked_s > limit_s:
            return "silent"
    still_s = now_s - seen.since_s
    limit_s = min(max(STUCK_MIN_S.get(task, 30.0), MARGIN * seen.gap_max_s), STUCK_MAX_S)
    if peers.finished and task != "chat":
        gap_max_s = max(seen.gap_max_s, peers.gap_max_s)
        limit_s = min(limit_s, max(STUCK_ALONE_S, STUCK_PEERS_FACTOR * peers.slowest_s, MARGIN * gap_max_s))
    return "stuck" if still_s > limit_s else "healthy"


def may_eject(out: int, total: int) -> bool:
    """Return whether one more of `total` replicas may be taken out when `out` already are."""
    return 2 * (out + 1) <= total
