"""Which replica a request is better sent to because of what it did before: its session's, or who knows its prompt.

Sources: rendezvous hashing (Thaler, Ravishankar 1996) moves 1/n of the sessions when a replica comes; consistent
hashing with bounded loads (Mirrokni et al. 2016): affinity wins until its owner is overloaded against the mean;
blocks chained by their hashes, the number of them a replica is believed to keep, the time they are believed and the
share of exploration are those of llm-d's prefix scorer and the sglang router.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Literal

from stoker.types.resources import Affinity, Task

ENTRIES_MAX: Final = 31_250  # blocks of one replica: 8 million characters, about 4 MB here
TTL_S: Final = 180.0
EXPLORE_RATIO: Final = 0.01  # of the requests with a known prefix go elsewhere, so that a second replica learns it
LOAD_RATIO: Final = 1.25  # times the mean: an owner with more has too much
MATCH_MIN_RATIO: Final = 0.25  # of the prompt: a shorter known prefix saves too little to wait for
SPILL_MIN, SPILL_MAX = 2.0, 16.0

Kind = Literal["prefix", "session", "none"]
Why = Literal["two_choices", "session", "affinity", "explore", "overloaded_owner"]

_MASK: Final = (1 << 64) - 1


def kind(wanted: Affinity, task: Task) -> Kind:
    """Return what decides for an endpoint whose manifest says `wanted`."""
    if wanted == "auto":
        return "prefix" if task == "chat" else "none"
    return wanted


class Known:
    """The prompts' blocks that one replica has seen lately: at most ENTRIES_MAX, each for TTL_S.

    A block's hash covers all before it. Of a chain the first blocks are always the youngest, so what is known of a
    chain is a prefix of it, and its length is found by halving.
    """

    __slots__ = ("_entries_max", "_seen")

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._seen: OrderedDict[int, float] = OrderedDict()  # oldest first

    def __len__(self) -> int:
        return len(self._seen)

    def matched(self, blocks: Sequence[int], now_s: float) -> int:
        """Return how many of the first `blocks` it knows."""
        seen, oldest_s = self._seen, now_s - TTL_S
        low, high = 0, len(blocks)
        while low < high:
            middle = (low + high) // 2
            if seen.get(blocks[middle], -1e18) >= oldest_s:
                low = middle + 1
            else:
                high = middle
        return low

    def learn(self, blocks: Sequence[int], now_s: float) -> None:
        """Take note that a prompt of `blocks` is sent to it."""
        seen = self._seen
        for block in reversed(blocks[: self._entries_max]):
            seen[block] = now_s
            seen.move_to_end(block)
        while len(seen) > self._entries_max:
            seen.popitem(last=False)

    def sweep(self, now_s: float) -> None:
        """Forget what is too old."""
        seen = self._seen
        while seen and next(iter(seen.values())) < now_s - TTL_S:
            seen.popitem(last=False)

    def clear(self) -> None:
        """Forget all: it is another process."""
        self._seen.clear()


def spill(slots: int) -> float:
    """Return how many requests above the mean an owner may have, when it works on `slots` at once (0: unknown)."""
    return min(max(slots / 2, SPILL_MIN), SPILL_MAX)


def bound(loads: Sequence[float], spill_: float) -> float:
    """Return the load up to which an owner takes what is its own."""
    mean = sum(loads) / len(loads)
    return max(LOAD_RATIO * mean, mean + spill_)


def by_session(session: int, nodes: Sequence[int], loads: Sequence[float], spill_: float) -> tuple[int, Why]:
    """Return the index of the node that `session` belongs to, or of the next in its order that is not overloaded.

    Args:
        nodes: a stable number (64 bits) of each replica, all different; their order does not matter.
    """
    ranked = [_mixed(session, node) for node in nodes]
    owner = ranked.index(max(ranked))
    limit = bound(loads, spill_)
    if loads[owner] <= limit:
        return owner, "session"
    fitting = [index for index, load in enumerate(loads) if load <= limit]
    return max(fitting, key=lambda index: ranked[index]), "overloaded_owner"


def by_prefix(
    matched: Sequence[int], total: int, loads: Sequence[float], prices_s: Sequence[float], spill_: float, draw: float
) -> tuple[int, Why]:
    """Return the index of the replica with the longest known prefix that is not overloaded; -1 to choose by cost.

    Args:
        matched: how many of the prompt's `total` blocks each replica knows.
        prices_s: of equals the cheapest is taken.
        draw: at random in 0–1. Below EXPLORE_RATIO one that knows less takes it, the cheapest, if there is any.
    """
    best = max(matched)
    least = max(1, MATCH_MIN_RATIO * total)
    if best < least:
        return -1, "two_choices"
    limit = bound(loads, spill_)
    fitting = [index for index, count in enumerate(matched) if count >= least and loads[index] <= limit]
    if not fitting:
        return -1, "overloaded_owner"
    owner = min(fitting, key=lambda index: (-matched[index], prices_s[index]))
    if draw < EXPLORE_RATIO:
        others = [index for index, load in enumerate(loads) if load <= limit and matched[index] < matched[owner]]
        if others:
            return min(others, key=lambda index: prices_s[index]), "explore"
    return owner, "affinity" if matched[owner] == best else "overloaded_owner"


def _mixed(session: int, node: int) -> int:
    """Return a number that looks random for each pair (the last steps of splitmix64)."""
    value = (session ^ node) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
