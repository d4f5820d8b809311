"""Whether a process that is running should be killed and started again, and why. Liveness is progress.

A busy process that moves on is left alone however slow it is; one that answers but finishes nothing, or answers
nothing at all, is not. Time is counted in steps of the observer, each at most STEP_MAX_S long: an observer that was
itself stopped for a minute saw nothing in that minute and must not blame the process for it.
"""

from typing import Final

import msgspec

from stoker.types.process import KilledFor
from stoker.types.replica import ReplicaStats
from stoker.types.units import format_bytes

SILENT_S: Final = 30.0  # without an answer to PING, once it was ready
FAILED_S: Final = 10.0  # it says that it failed, but does not exit
STEP_MAX_S: Final = 3.0


class Limits(msgspec.Struct, frozen=True):
    """What one process is held to. 0 bytes: no limit; a stall of 0 s: none is looked for."""

    start_timeout_s: float = 120.0
    stall_s: float = 120.0
    memory_bytes: int = 0
    silent_s: float = SILENT_S


class Seen(msgspec.Struct, frozen=True):
    """One look at a process: `stats` is its last answer, None while it never answered."""

    answered: bool  # since the look before
    stats: ReplicaStats | None
    rss_bytes: int = 0


class Liveness(msgspec.Struct, frozen=True):
    """What the observer remembers between two looks."""

    was_ready: bool = False
    silent_s: float = 0.0
    still_s: float = 0.0  # since loading, or work, last moved on
    failed_s: float = 0.0
    mark: tuple[str, float, int, int] = ("", 0.0, 0, 0)  # stage, fraction, finished, tokens at the last look


class Judgement(msgspec.Struct, frozen=True):
    """`fault` is why the process must be killed, "" while it is well; `kind` the same in a word.

    is_stuck: where it stands would tell why.
    """

    fault: str
    memory: Liveness
    is_stuck: bool = False
    kind: KilledFor = ""


def judge(memory: Liveness, seen: Seen, limits: Limits, *, step_s: float) -> Judgement:
    """Return whether the process must go, after `step_s` seconds since the last look."""
    step_s = min(max(step_s, 0.0), STEP_MAX_S)
    stats = seen.stats
    state = stats.state if stats is not None else "starting"
    mark = (stats.stage, stats.fraction, stats.finished, stats.tokens) if stats is not None else ("", 0.0, 0, 0)
    is_ready = state in ("ready", "draining")
    works = is_ready and stats is not None and stats.running > 0
    moved = mark != memory.mark or (is_ready and not works) or is_ready != memory.was_ready
    after = Liveness(
        was_ready=is_ready,
        silent_s=0.0 if seen.answered else memory.silent_s + step_s,
        still_s=0.0 if moved else memory.still_s + step_s,
        failed_s=memory.failed_s + step_s if state == "failed" else 0.0,
        mark=mark,
    )
    if 0 < limits.memory_bytes < seen.rss_bytes:
        return Judgement(
            f"used {format_bytes(seen.rss_bytes)} of {format_bytes(limits.memory_bytes)} allowed", after, kind="memory"
        )
    kind, fault = _standstill(after, seen, limits, works=works)
    return Judgement(fault, after, is_stuck=bool(fault), kind=kind)


def _standstill(memory: Liveness, seen: Seen, limits: Limits, *, works: bool) -> tuple[KilledFor, str]:
    if memory.was_ready:
        if memory.silent_s >= limits.silent_s:
            return "silent", f"answered no PING for {memory.silent_s:.0f} s"
        if works and 0 < limits.stall_s <= memory.still_s:
            running = seen.stats.running if seen.stats is not None else 0
            return "still", f"finished nothing for {memory.still_s:.0f} s with {running} requests running"
        return "", ""
    if memory.failed_s >= FAILED_S:
        said = seen.stats.error if seen.stats is not None else ""
        return "start", said or "said that it failed, and did not exit"
    # A load holds the interpreter for long stretches: its silence counts as standing still, not as death.
    if memory.still_s >= limits.start_timeout_s:
        stage = f", at {memory.mark[0]} {memory.mark[1]:.0%}" if memory.mark[0] else ""
        return "start", f"was not ready and made no progress for {memory.still_s:.0f} s{stage}"
    return "", ""
