"""Which replica takes a request: the cheaper of two drawn at random.

Source: "the power of two choices" (Mitzenmacher; finagle's P2C). Looking at all and taking the least loaded sends every
gateway to the same one between two looks; two random candidates lose almost nothing against it and never herd.
Load is what this gateway has in flight itself; what replicas report only adds the load of others.
"""

from collections.abc import Sequence


def pair(count: int, first: float, second: float) -> tuple[int, int]:
    """Return two different indices below `count` (at least 2) from two draws in [0, 1)."""
    one = int(first * count)
    other = int(second * (count - 1))
    return one, other + 1 if other >= one else other


def weighted(weights: Sequence[int], draw: float) -> int:
    """Return the index that `draw` in [0, 1) falls on when each index is as wide as its weight; -1 if all are 0."""
    point = draw * sum(weights)
    last = -1
    for index, weight in enumerate(weights):
        if weight <= 0:
            continue
        last = index
        if point < weight:
            return index
        point -= weight
    return last  # rounding put the point at the very end


def load_of_others(reported: int, own: int) -> int:
    """Return how many requests of other gateways a replica holds, when it reports so many and ours are `own`."""
    return max(reported - own, 0)
