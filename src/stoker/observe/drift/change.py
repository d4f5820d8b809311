"""When a stream of numbers (errors, scores, latencies) changed its mean.

Source: Page (1954), in the two-sided form with a forgetting minimum that Hinkley (1971) gives.
"""

from typing import Final, Literal

import msgspec

ROWS_MIN: Final = 30  # numbers before anything is said


class PageHinkley(msgspec.Struct, frozen=True):
    """What is known after some numbers. `up` and `down` are the sums that test a rise and a fall."""

    rows: int = 0
    mean: float = 0.0
    up: float = 0.0
    down: float = 0.0

    def after(self, value: float, *, slack: float, limit: float) -> "tuple[PageHinkley, Literal['', 'up', 'down']]":
        """Return what is known after `value`, and which way the mean went; after a change it begins anew.

        slack: the change that is none, in the numbers' unit. limit: how much beyond it adds up to a change.
        """
        rows = self.rows + 1
        mean = self.mean + (value - self.mean) / rows
        up = max(self.up + value - mean - slack, 0.0)
        down = max(self.down + mean - value - slack, 0.0)
        if rows >= ROWS_MIN and (up > limit or down > limit):
            return PageHinkley(), "up" if up >= down else "down"
        return PageHinkley(rows, mean, up, down), ""
