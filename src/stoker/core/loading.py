"""How far a starting replica is and when it will be ready, by what the starts before it took. Pure.

A start is a row of phases. Those that are over are done; from the beginning of the one that is seen to run, time goes
on as it usually does, into the phases after it too: llama.cpp holds the interpreter while it loads, so that nothing is
heard of its replica for most of a start. Digests are counted by their bytes; what engines say of themselves besides is
no measure. A share of a usual time is no promise: it stays below 1 until the replica is ready, never falls, and where a
start takes longer than it should the answer says so instead of a time.
"""

from collections.abc import Sequence
from statistics import median
from typing import Final

from stoker.types.loading import Loading, Seen, Usual
from stoker.types.starts import FIRST_ANSWER, FORKED, IMPORTS, ORDER, PROCESS, VERIFY, Start

STARTS: Final = 5  # the newest of an endpoint that its usual times are of
RATIO_MAX: Final = 0.99
LATE_RATIO: Final = 1.5  # what takes so much of its usual time, and LATE_S more, is late
LATE_S: Final = 1.0
SHORT_S: Final = 0.01  # phases that usually take less are no news
# A deadline this much shorter than what is left is too short; starts differ by so much from one to the next.
SURE_RATIO: Final = 0.8
SPREAD_RATIO: Final = 0.25  # who is sent away comes back up to so much later than needed, not all at once
SPREAD_MIN_S: Final = 2.0


def usual(starts: Sequence[Start]) -> Usual:
    """Return what the phases of a start take, by `starts` of one endpoint (newest first): the median of each.

    Only those count that were of the newest one's revision and engine, and forked like it or not; it also says which
    phases there are, in which order. Two digits are kept: a table that is made of them need not change with each start.
    """
    alike = [each for each in starts if _kind(each) == _kind(starts[0])]
    names = [name for name in alike[0].phases if name != FIRST_ANSWER] if alike else []
    middle = [(name, median(each.phases[name] for each in alike if name in each.phases)) for name in names]
    return tuple((name, float(f"{seconds:.2g}")) for name, seconds in middle if seconds >= SHORT_S)


def _kind(start: Start) -> tuple[str, str, bool]:
    return start.revision, start.engine, FORKED in start.phases


def far(times: Usual, seen: Seen) -> Loading:
    """Return how far a start is that usually takes `times`."""
    total_s = sum(seconds for _, seconds in times)
    names = [name for name, _ in times]
    stage = seen.stage
    if not times or (stage not in names and stage not in ("", ORDER)):
        return Loading(stage, usual_s=total_s)
    if seen.is_ready:
        return _loading(seen, total_s, 0.0)
    running = (stage,) if stage else (ORDER, PROCESS, FORKED, IMPORTS)
    at = max((at for at, name in enumerate(names) if name in running), default=-1)
    later_s = sum(seconds for name, seconds in times[at + 1 :] if name not in seen.over)
    own_s = sum(seconds for name, seconds in times if name in running and (stage or name != ORDER))
    own_s = max(own_s - seen.over.get(stage, 0.0), 0.0)
    if stage == VERIFY:  # the engine's imports come after it
        later_s += max(dict(times).get(IMPORTS, 0.0) - seen.over.get(IMPORTS, 0.0), 0.0)
    if not stage and seen.answers:  # its load begins in this moment
        return _loading(seen, total_s, later_s)
    if stage == VERIFY and 0.0 < seen.fraction < 1.0:  # its own speed counts the more, the more is done
        return _loading(seen, total_s, (1.0 - seen.fraction) * (seen.stage_s + own_s * (1.0 - seen.fraction)) + later_s)
    held_s = later_s if stage in ("", ORDER) else 0.0  # nothing else begins before its process answers
    due_s = own_s + later_s - held_s
    is_late = seen.stage_s > LATE_RATIO * due_s + LATE_S
    return _loading(seen, total_s, max(due_s - seen.stage_s, 0.0) + held_s, is_late=is_late)


def _loading(seen: Seen, total_s: float, left_s: float, *, is_late: bool = False) -> Loading:
    return Loading(seen.stage, min(1.0 - min(left_s / total_s, 1.0), RATIO_MAX), left_s, total_s, is_late)


def onward(before: Loading | None, now: Loading) -> Loading:
    """Return `now` so that it does not fall behind what was said `before` of the same start."""
    if before is None or before.ratio is None or (now.ratio or 0.0) >= before.ratio:
        return now
    return Loading(now.stage, before.ratio, now.left_s, now.usual_s, now.is_late)


def words(found: Loading) -> str:
    """Return how far it is: `loading 62 %, about 9 s`."""
    if not found.usual_s:
        return "loading for the first time"
    if found.stage == ORDER and found.is_late:
        return f"waits to be started, then about {_seconds(found.usual_s)}"
    share = "" if found.ratio is None else f" {int(round(found.ratio * 100, 6))} %"
    if found.left_s is None or found.is_late:
        return f"loading{share}, longer than the usual {_seconds(found.usual_s)}"
    return f"loading{share}, about {_seconds(found.left_s)}"


def fits(found: Loading, left_s: float) -> bool:
    """Return whether who has `left_s` until its deadline may wait for it. Where nobody knows, it is waited."""
    return found.left_s is None or found.is_late or left_s >= SURE_RATIO * found.left_s


def retry_after_s(found: Loading, draw: float) -> float | None:
    """Return when who is sent away should come back; None: nobody knows. draw: in 0–1, another for each."""
    if found.left_s is None:
        return None
    left_s = max(found.left_s, SPREAD_RATIO * found.usual_s if found.is_late else 0.0)
    return left_s + draw * max(SPREAD_RATIO * left_s, SPREAD_MIN_S)


def _seconds(seconds: float) -> str:
    if seconds < 99.5:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min"
