"""How much a key may ask for: rates that forget nothing and allow bursts, and what a request is expected to cost.

Source: GCRA (ITU-T I.371), the leaky bucket as one number. OpenAI's own practice for tokens: a request is charged what
it may cost when it comes in and what it did cost when it has ended.
"""

import math
from typing import Final

EPSILON: Final = 1e-9
# Characters of JSON a prompt token has, until an endpoint's own answers say better: 4 of English text and some framing.
BYTES_PER_TOKEN: Final = 5.0
OUTPUT_FIRST: Final = 256.0  # output tokens expected of an endpoint that has answered nothing yet
LEARN: Final = 0.05  # weight of one answer: a memory of about 20
QUANTILE: Final = 0.9


class Rate:
    """A rate of `per_s` units a second, of which `burst` may come at once.

    Whatever is asked, the units taken in any span of t seconds stay within burst + per_s · t, and one request's cost
    more: a request that costs over `burst` is let in when nothing is owed, and leaves a debt.
    """

    __slots__ = ("_full_s", "_unit_s", "burst", "per_s")

    def __init__(self, per_s: float, burst: float) -> None:
        self.per_s = per_s
        self.burst = burst
        self._unit_s = 1.0 / per_s
        self._full_s = -math.inf  # when all of the burst is there again (the theoretical arrival time)

    def resize(self, per_s: float, burst: float, now_s: float) -> None:
        """Go on with other numbers; what was used stays used, in units."""
        owed = max(self._full_s - now_s, 0.0) * self.per_s
        self.per_s, self.burst, self._unit_s = per_s, burst, 1.0 / per_s
        self._full_s = now_s + owed * self._unit_s

    def wait_s(self, cost: float, now_s: float) -> float:
        """Return how long until `cost` units may be taken; 0 when they may be now."""
        owed_s = self._full_s - now_s
        if owed_s <= EPSILON:
            return 0.0
        room_s = (self.burst - cost) * self._unit_s if cost < self.burst else 0.0
        return 0.0 if owed_s <= room_s + EPSILON else owed_s - room_s

    def take(self, cost: float, now_s: float) -> None:
        """Take `cost` units. Negative ones give back what was taken for nothing, and never more than was taken."""
        self._full_s = max(self._full_s, now_s) + cost * self._unit_s

    def left(self, now_s: float) -> int:
        """Return how many whole units may be taken now."""
        if self._full_s <= now_s:
            return int(self.burst + EPSILON)
        return max(int(self.burst - (self._full_s - now_s) * self.per_s + EPSILON), 0)

    def full_in_s(self, now_s: float) -> float:
        """Return when the whole burst will be there again."""
        return 0.0 if self._full_s <= now_s else self._full_s - now_s


class Expectation:
    """What requests of one endpoint cost in tokens, learned from those that ended."""

    __slots__ = ("_bytes_per_token", "_output_p90", "_step")

    def __init__(self) -> None:
        self._bytes_per_token = BYTES_PER_TOKEN
        self._output_p90 = OUTPUT_FIRST
        self._step = OUTPUT_FIRST / 8

    def tokens(self, body_bytes: int, max_tokens: int, *, writes: bool = True) -> float:
        """Return what a request of `body_bytes` may cost.

        Args:
            max_tokens: its own limit for the answer, 0 for none.
            writes: whether its answer is made of tokens at all.
        """
        output = self._output_p90 if max_tokens <= 0 else min(float(max_tokens), self._output_p90)
        return body_bytes / self._bytes_per_token + (output if writes else 0.0)

    def learn(self, body_bytes: int, input_tokens: int, output_tokens: int) -> None:
        """Take note of what a request did cost."""
        if input_tokens > 0:
            self._bytes_per_token += LEARN * (body_bytes / input_tokens - self._bytes_per_token)
        # Stochastic approximation of the quantile (Robbins-Monro), in steps of the usual distance from it.
        distance = output_tokens - self._output_p90
        self._step += LEARN * (abs(distance) - self._step)
        self._output_p90 += self._step * LEARN * (QUANTILE if distance > 0 else QUANTILE - 1.0) / QUANTILE
        self._output_p90 = max(self._output_p90, 1.0)
