"""How many requests one replica holds at once; more wait in the gateway, where order, deadlines and shares count.

Known where the engine says it: the slots of a language model, or what a batching engine clears in HOLD_S by its fitted
line. Learned elsewhere, from how the first token's time grows with what is in flight.

Source of the learned limit: the gradient of Netflix' concurrency-limits and Envoy's adaptive concurrency, with what
models need: a minimum of 1 instead of 20, because a remote model may well serve one at a time; growth by the root of
the limit; the time to the first byte for each prompt token instead of the whole round trip, which for a stream is the
length of its answer. The latency without a queue is the least seen lately, and looked for again now and then at a
quarter of the limit: a long mean, as Gradient2 has it, learns the queue that the limit itself made (simulated: a limit
of 50 for a server of 1).
"""

import math
from collections import deque
from typing import Final

# What waits inside a replica is out of the gateway's hands: it cannot be overtaken by a more urgent request. So much of
# it keeps the engine busy over the way to the gateway and back (0.2 ms) many times over.
HOLD_S: Final = 0.05
BUSY_KV_RATIO: Final = 0.95  # a replica whose cache is this full takes no request beside those it has

LEARNED_FIRST: Final = 4
LEARNED_MAX: Final = 256
WINDOW_SAMPLES: Final = 10  # of a window, at the least
WINDOW_S: Final = 1.0
TOLERANCE: Final = 1.5  # latency may grow so much over its least before the limit shrinks
PROBE_EVERY: Final = 20  # windows; in one of so many the least latency is looked for
LEAST_OF: Final = 2 * PROBE_EVERY + 2  # windows that the least is of: two looks
SMOOTHING: Final = 0.2
REFUSED_RATIO: Final = 0.9  # of the limit is left when a server refuses what is sent over its own
# After a refusal the limit does not grow for so long. Each look at what is too much costs a refused request and the
# wait that the server asks for, a second at the least: 3 % of the time.
REFUSED_HOLD_S: Final = 30.0
PROMPT_TOKENS_MIN: Final = 256  # a short prompt's first token takes about as long as this one's


def holdable(base_s: float, row_s: float, max_rows: int) -> int:
    """Return how many one-row requests a batching engine with the line `base_s + row_s * rows` clears in HOLD_S.

    At least 2, so that the next is there when one ends; whole batches while several fit, else one that runs and one
    that waits.
    """
    full_s = max(base_s + row_s * max_rows, 1e-6)
    if 2 * full_s <= HOLD_S:
        return int(HOLD_S / full_s) * max_rows
    rows = (HOLD_S - base_s) / row_s if row_s > 0.0 else max_rows
    return 2 * int(min(max(rows, 1.0), max_rows))


def places(
    *, slots: int, others: int, in_flight: int, kv_used_ratio: float, gateways: int, most: int, waiting: int = 0
) -> int:
    """Return how many requests this gateway may have in a replica that can work on `slots` at once.

    Each of `gateways` may always use its even share, and what the others (`others` requests in it, as last seen) leave.

    Args:
        most: at once in the replica, whatever it can work on (`limits.concurrency`). At least one each gateway.
        waiting: other gateways in which somebody waits. They leave nothing of their shares: what is seen of them
            between two calls is about to be filled again.
    """
    slots = min(slots, most)
    even = -(-slots // gateways)
    share = max(even, slots - max(others, waiting * even))
    if kv_used_ratio >= BUSY_KV_RATIO:
        share = min(share, in_flight)
    return max(share, 1)


class Learned:
    """The limit of a replica that does not say what it can do."""

    __slots__ = ("_is_probing", "_limit", "_refused_s", "_samples", "_seen", "_sum_s", "_until_s", "_windows")

    def __init__(self) -> None:
        self._limit = float(LEARNED_FIRST)
        self._seen: deque[float] = deque(maxlen=LEAST_OF)  # mean of each window
        self._windows = 0
        self._samples = 0
        self._sum_s = 0.0
        self._until_s = -math.inf
        self._refused_s = -math.inf  # when the limit shrank for a refusal
        self._is_probing = False

    @property
    def limit(self) -> int:
        """Return how many requests it may hold now."""
        return max(int(self._limit / 4 if self._is_probing else self._limit), 1)

    def sample(self, first_byte_s: float, prompt_tokens: int, in_flight: int, now_s: float) -> None:
        """Take note of one answer's time to its first byte, when `in_flight` requests were in the replica with it."""
        self._sum_s += first_byte_s / max(prompt_tokens, PROMPT_TOKENS_MIN)
        self._samples += 1
        if self._samples < WINDOW_SAMPLES or now_s < self._until_s:
            return
        short_s = self._sum_s / self._samples
        self._sum_s, self._samples, self._until_s = 0.0, 0, now_s + WINDOW_S
        self._seen.append(short_s)
        self._windows += 1
        was_probe, self._is_probing = self._is_probing, self._windows % PROBE_EVERY == 0
        if was_probe or in_flight < self._limit / 2:
            return  # the limit was not what held it back: this window says nothing about it
        gradient = min(max(TOLERANCE * min(self._seen) / max(short_s, 1e-9), 0.5), 1.0)
        wanted = self._limit * gradient + math.sqrt(self._limit)
        most = self._limit if now_s < self._refused_s + REFUSED_HOLD_S else float(LEARNED_MAX)
        self._limit = min(max(self._limit + SMOOTHING * (wanted - self._limit), 1.0), most)

    def failed(self, in_flight: int, sent_s: float, now_s: float) -> None:
        """Take note of a request, sent at `sent_s`, that was refused as too much with `in_flight` there, itself too.

        The limit shrinks once for all that were sent before it did, by one at the least. A refusal far below it shrinks
        nothing: such a server counts something else than what it has at once.
        """
        if sent_s < self._refused_s or in_flight < self._limit / 2:
            return
        self._refused_s = now_s
        self._limit = max(min(self._limit * REFUSED_RATIO, int(self._limit) - 1.0), 1.0)
