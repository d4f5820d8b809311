"""Money as whole nano-dollars: amounts over time that add up, and a sum split without losing any of it."""

from collections.abc import Sequence
from typing import Final

HOUR_MS: Final = 3_600_000


def between(rate: int, from_ms: int, to_ms: int) -> int:
    """Return what [from_ms, to_ms) costs at `rate` nano-dollars an hour.

    Rounded as the difference of two running totals, so that the parts of any time add up to what the whole costs.
    """
    return rate * to_ms // HOUR_MS - rate * from_ms // HOUR_MS


def split(total: int, weights: Sequence[int]) -> list[int]:
    """Return the parts of `total` in proportion to `weights`; they add up to it exactly.

    Each part is less than one from its true share; what rounding leaves goes to the largest remainders (Hamilton's
    method), and among equals to the first. Raises ValueError when there is something to split and no weight.
    """
    whole = sum(weights)
    if whole <= 0 or min(weights) < 0:
        if total == 0 and not any(weights):
            return [0] * len(weights)
        raise ValueError(f"nothing to split {total} by: weights {list(weights)[:8]}")
    parts = [total * weight // whole for weight in weights]
    left = total - sum(parts)
    if left:
        by_remainder = sorted(range(len(weights)), key=lambda each: -(total * weights[each] % whole))
        for index in by_remainder[:left]:
            parts[index] += 1
    return parts
