"""What keeps replicas that are not needed now: what was needed within a window, whose length is learned.

A replica that goes and is missed soon after has cost a start and somebody's wait, so the window then becomes as long as
would have kept it; unless that is so long that a start now and then is cheaper. It fades while nothing is missed.
A fixed window is either too short for loads that return or too long for those that do not (docs/how-to/scaling.md).
Nor is anything kept for long while a load surely falls.
"""

from typing import Final

import msgspec

from stoker.core.scale import forecast
from stoker.core.scale.memory import PEAKS_MAX, Memory
from stoker.core.scale.policy import Policy
from stoker.core.scale.reading import Reading
from stoker.core.scale.sight import Sight, cold_start_s
from stoker.types.scaling import Signal

LEAST_COLD_STARTS: Final = 3.0
LEAST_S: Final = 60.0
# While a load surely falls, which saves 3 to 4 % of the hours of days and waves and makes none late (bench/scaling).
FALLING_COLD_STARTS: Final = 1.0
FALLING_S: Final = 10.0
FALL_RATIO_MAX: Final = 1.5  # under what was needed within the window: a step is no slope
MOST_COLD_STARTS: Final = 15.0
MOST_S: Final = 600.0
MISSED_RATIO: Final = 1.1  # of the window that would have kept what is missed
MISSED_HALF_S: Final = 14_400.0  # what was learned is worth half so long after it was last of use
USED_RATIO: Final = 0.9  # of the largest need of the window, back again: what was kept was of use
# Keeps nothing: what was only foreseen was not needed. A step looks like a slope at first, and what was ordered for it
# would stay for a whole window.
FORESEEN: Final[frozenset[Signal]] = frozenset(("forecast", "season"))


def length_s(sight: Sight, policy: Policy, memory: Memory, now_s: float) -> float:
    """Return how long a replica that is not needed stays."""
    if policy.down_window_s:
        return policy.down_window_s
    least_s = _least_s(sight)
    learned_s: float = max(memory.window_s - least_s, 0.0) * 0.5 ** max((now_s - memory.missed_s) / MISSED_HALF_S, 0.0)
    return least_s + learned_s


def counting_s(sight: Sight, policy: Policy, memory: Memory, now_s: float) -> float:
    """Return how long ago a replica may have been needed that stays for it: the window, or less while the load falls.

    A load that surely falls is followed, unless replicas were missed here after they had gone.
    """
    window_s = length_s(sight, policy, memory, now_s)
    is_learned = window_s >= MISSED_RATIO * _least_s(sight)
    if policy.down_window_s or is_learned or not forecast.is_falling(memory):
        return window_s
    return max(FALLING_S, FALLING_COLD_STARTS * cold_start_s(sight))


def last_needed(memory: Memory, counting_s: float, now_s: float) -> tuple[float, float]:
    """Return when the most was needed that counts, and how many replicas that was; at least a share of the window's."""
    first = memory.peaks[0]
    lately = next((each for each in memory.peaks if now_s - each[0] <= counting_s), memory.peaks[-1])
    return lately if lately[1] >= first[1] / FALL_RATIO_MAX else (first[0], first[1] / FALL_RATIO_MAX)


def needed(sight: Sight, memory: Memory, readings: tuple[Reading, ...], window_s: float, now_s: float) -> Memory:
    """Return the memory with what is needed now among the peaks: a falling row, the largest of the window first.

    A forecast is not among them.
    """
    now = max((each.stay for each in readings if each.signal not in FORESEEN), default=0.0)
    if memory.peaks and now >= USED_RATIO * memory.peaks[0][1] and now_s - memory.peaks[0][0] > _least_s(sight):
        memory = msgspec.structs.replace(memory, missed_s=now_s)
    peaks = [each for each in memory.peaks if each[1] > now and now_s - each[0] <= window_s]
    if not peaks or now_s - peaks[-1][0] >= window_s / PEAKS_MAX:  # a smaller one so near to the last tells nothing
        peaks.append((now_s, now))
    return msgspec.structs.replace(memory, peaks=tuple(peaks))


def went(sight: Sight, policy: Policy, memory: Memory, now_s: float) -> Memory:
    """Return the memory after replicas go. Those that go within the shortest window of each other go for one reason.

    They were needed until the window began, or when they were ordered: what is sent back while it starts was not kept
    for a window in vain.
    """
    if memory.down_s and now_s - memory.went_s <= _least_s(sight):
        return msgspec.structs.replace(memory, went_s=now_s)
    needed_s = max(now_s - length_s(sight, policy, memory, now_s), memory.up_s)
    return msgspec.structs.replace(memory, went_s=now_s, down_s=needed_s)


def missed(sight: Sight, policy: Policy, memory: Memory, now_s: float) -> Memory:
    """Return the memory after requests wait for replicas that went."""
    if not memory.down_s:
        return memory  # nothing has gone since the last time
    window_s = length_s(sight, policy, memory, now_s)
    kept_s = MISSED_RATIO * (now_s - memory.down_s)
    if kept_s > max(MOST_S, MOST_COLD_STARTS * cold_start_s(sight)):
        kept_s = window_s
    return msgspec.structs.replace(memory, window_s=max(kept_s, window_s), missed_s=now_s, down_s=0.0)


def _least_s(sight: Sight) -> float:
    return max(LEAST_S, LEAST_COLD_STARTS * cold_start_s(sight))
