"""How many threads an engine call gets: the fewest that are nearly as fast as the fastest.

A thread that brings little is a core that the event loop, the other replicas and the kernel could have used.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

NEARLY: Final = 1.1  # times as long as the fastest is as good as it


def candidates(cores: int) -> tuple[int, ...]:
    """Return the counts worth a try on `cores` cores: all of them, and the powers of two below, most first."""
    return tuple(
        sorted({cores, *(1 << power for power in range(cores.bit_length()) if 1 << power < cores)}, reverse=True)
    )


def choose(seconds: Mapping[int, Sequence[float]]) -> int:
    """Return a thread count, given for each how long calls of the same sizes took.

    Sizes weigh the same, however long they take: the geometric mean is compared.
    """
    means = {threads: math.exp(sum(map(math.log, took)) / len(took)) for threads, took in seconds.items()}
    fastest = min(means.values())
    return min(threads for threads, mean in means.items() if mean <= fastest * NEARLY)
