"""How a limit of requests at once is split between gateways: whole places, by what each needs. Pure.

Two promises: the parts sum up to the limit and no more, and nobody who needs less than an even part gets less than it
needs. What nobody needs is split evenly, so that the next request anywhere finds a place without asking.
"""

import math
from collections.abc import Sequence
from typing import Final

EPSILON: Final = 1e-6
TURN_S: Final = 10.0  # after so long another gateway has what cannot be split evenly


def even(limit: int, gateway: int, gateways: int) -> int:
    """Return the places that gateway number `gateway` has when nobody said anything. They sum up to `limit`."""
    return limit // gateways + (gateway < limit % gateways)


def split(limit: int, needs: Sequence[float], turn: int = 0) -> list[int]:
    """Return the places of each gateway.

    Args:
        needs: requests at once that each has or would have had; a part of one counts as one.
        turn: which of them is first in line for places that cannot be split; a number that grows with time.
    """
    count = len(needs)
    wanted = [min(math.ceil(each - EPSILON), limit) for each in needs]
    given = [0] * count
    left, open_to = limit, [at for at in range(count) if wanted[at] > 0]
    while open_to and left >= len(
        open_to
    ):  # filling up: who needs less than an even part leaves the rest to the others
        part = left // len(open_to)
        for at in open_to:
            more = min(part, wanted[at] - given[at])
            given[at] += more
            left -= more
        open_to = [at for at in open_to if given[at] < wanted[at]]
    if open_to:  # fewer places than gateways that need one more
        line = sorted(open_to, key=lambda at: (at - turn) % count)
        for at in line[:left]:
            given[at] += 1
        return given
    return [each + even(left, at, count) for at, each in enumerate(given)]


def whole(share: float, limit: int) -> int:
    """Return the places that a share of a limit is, never more than it says."""
    return int(share * limit + EPSILON)
