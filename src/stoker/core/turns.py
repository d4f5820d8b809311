"""In which order the requests that wait in a replica are looked at, where gateways say that some go first or last.

AHEAD: its tenant holds less than its part of the places, and came past full ones (core/occupants.py). BEHIND: its key
was refused by its own limits lately, so it asks for all it may have and more. It gets that, but not at the cost of the
others' time: while any of theirs waits, its rows fill up a call only to a tenth more than calls had lately. A call is
then as long as the load asks for, whichever rows were there, and the others' time is nearly what it was alone. Calls
still grow to whatever the load needs: filled up each time, they are a tenth larger each time.

Nobody starves: with every PASSES calls in which it was passed over, a request goes one rank up, and whoever is at the
top is overtaken by nobody.

Simulated (tests/core/test_neighbours.py) with calls of 8 + n ms, at most 16 rows, two tenants with a quarter of the
capacity each, one of which asks for 20 times as much and is held by its limit: the other's 99th percentile is 1.24 of
what it is alone in order of arrival, 1.14 so; the neighbour's own is 49 ms instead of 28. Filled up to a fifth more, or
not at all, it is 1.15; with PASSES 4 as good, and the neighbour's is 60 ms.
"""

from collections.abc import Collection, Sequence
from math import ceil
from typing import Final, Protocol

AHEAD: Final = 1
BEHIND: Final = -1
PASSES: Final = 2
FILL_RATIO: Final = 1.1  # of the rows that calls had lately
PRESSES_S: Final = 1.0  # a key that was refused by its limits asks for more than they are for so long


class Turn(Protocol):
    """One request that waits. passed: the calls in which it was passed over."""

    rows: int
    turn: int
    passed: int


def rank(turn: int, passed: int) -> int:
    """Return where a request stands: higher ones go first, of equals the oldest."""
    return min(turn + passed // PASSES, AHEAD)


def line_up(queue: Sequence[Turn], rows_mean: float) -> list[int] | None:
    """Return the positions of `queue` (oldest first) that the next call may take, in their order; None for all, as is.

    Args:
        rows_mean: rows of the last calls, on average.
    """
    ranks = [rank(each.turn, each.passed) for each in queue]
    if not ranks or max(ranks) == min(ranks):
        return None
    order = sorted(range(len(queue)), key=lambda at: -ranks[at])
    room = ceil(max(rows_mean, 1.0) * FILL_RATIO)
    for count, at in enumerate(order):
        room -= queue[at].rows
        if ranks[at] < 0 and room < 0:
            return order[:count]
    return order


def passed_over(count: int, order: Collection[int], taken: Collection[int]) -> list[int]:
    """Return which of `count` positions were passed over: not in `order`, or left while a younger one was `taken`."""
    last = max(taken, default=-1)
    return [at for at in range(count) if at not in taken and (at < last or at not in order)]
