"""What a replica should be given of its node, from what it was seen to use: memory and cores, with room to spare.

Memory is what a replica is killed over, so the most that was ever seen counts, and a third more. Cores are what it
computes with: an average hides that one call uses them all, so what is proposed here is only tried, on an engine slowed
down in proportion (sim/sizing/advice.py).
"""

import math
from typing import Final

MEMORY_ROOM: Final = 1.33  # over the most that was seen
MEMORY_STEP: Final = 64 << 20
MEMORY_MIN: Final = 128 << 20
CORES_ROOM: Final = 1.5  # over the busiest minute
CORES_STEP: Final = 0.25
LESS_RATIO: Final = 0.8  # what would not be a fifth less stays as it is


def memory(now: int, most_seen: int) -> int:
    """Return the bytes that a replica should be given, in whole steps; `now` where little would change."""
    if most_seen <= 0:
        return now
    wanted = max(math.ceil(most_seen * MEMORY_ROOM / MEMORY_STEP) * MEMORY_STEP, MEMORY_MIN)
    return wanted if (wanted > now and most_seen > now / MEMORY_ROOM) or wanted <= now * LESS_RATIO else now


def cores(now: float, most_seen: float) -> float:
    """Return the cores to try, in whole steps; `now` where little would change. most_seen: busy, of its busiest minute.

    More cores than now are never proposed: that they were all busy does not say that more would be used.
    """
    if most_seen <= 0.0:
        return now
    wanted = max(math.ceil(most_seen * CORES_ROOM / CORES_STEP) * CORES_STEP, CORES_STEP)
    return wanted if wanted <= now * LESS_RATIO else now


def share(replica: tuple[float, int], node: tuple[float, int]) -> float:
    """Return what a replica of so many (cores, bytes) holds of a node: the larger of its two shares, at most all."""
    return min(max(replica[0] / max(node[0], 1e-9), replica[1] / max(node[1], 1)), 1.0)
