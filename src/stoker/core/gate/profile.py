"""Whether one replica is surely slower or larger than another, from requests sent to both in turns. Pure.

A difference of medians, and of the 95th of a hundred, is held against the bound by the bound itself *and* by chance: an
interval from order statistics (Mood's sign test for quantiles, no assumption about the distribution). It convicts where
even the short end of the new one's interval is longer than the long end of the old one's, and the difference as seen is
over the bound. Requests that both were sent alternately meet the same disturbances.
"""

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from stoker.types.releases import ProfileGate

REQUESTS_MIN: Final = 20  # fewer say nothing
LEAST_S: Final = 0.001  # differences under this are the clock's and the socket's
LEAST_BYTES: Final = 32 << 20  # and this much a process may be larger by chance
_Z: Final = 1.2816  # either end is passed by chance one time in ten, both together one in a hundred


class Measured(msgspec.Struct, frozen=True):
    """What was measured of one replica: seconds of each request in order, and its resident memory."""

    seconds: tuple[float, ...]
    memory_bytes: int = 0


class Judgement(msgspec.Struct, frozen=True):
    """Whether a revision passes, a sentence, and the numbers behind it."""

    is_passed: bool
    because: str
    numbers: dict[str, float]


def judge(gate: ProfileGate, new: Measured, old: Measured | None) -> Judgement:
    """Return whether a new replica is neither much slower nor much larger. old: of the serving revision, if any."""
    numbers = _numbers(new, "")
    if old is None:
        return Judgement(True, f"{_words(numbers, '')}; nothing serves to compare it with", numbers)
    numbers |= _numbers(old, "_serving")
    words = f"{_words(numbers, '')}; the serving revision {_words(numbers, '_serving')}"
    if min(len(new.seconds), len(old.seconds)) < REQUESTS_MIN:
        return Judgement(True, f"{words}; too few requests to tell", numbers)
    for name, share in (("median", 0.5), ("p95", 0.95)):
        here, there = quantile(new.seconds, share), quantile(old.seconds, share)
        low, high = interval(new.seconds, share)[0], interval(old.seconds, share)[1]
        longer = here / max(there, 1e-9) - 1.0
        if longer > gate.latency_worse_max and here - there > LEAST_S and low > high:
            said = f"its {name} is {longer:.0%} longer, at most {gate.latency_worse_max:.0%} is allowed"
            return Judgement(False, f"{words}: {said}, and chance does not explain it", numbers)
    more = new.memory_bytes / old.memory_bytes - 1.0 if old.memory_bytes and new.memory_bytes else 0.0
    if more > gate.memory_worse_max and new.memory_bytes - old.memory_bytes > LEAST_BYTES:
        said = f"its process is {more:.0%} larger, at most {gate.memory_worse_max:.0%} is allowed"
        return Judgement(False, f"{words}: {said}", numbers)
    return Judgement(True, words, numbers)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of all are not over."""
    ordered = sorted(values)
    return ordered[min(max(math.ceil(share * len(ordered)) - 1, 0), len(ordered) - 1)]


def interval(values: Sequence[float], share: float) -> tuple[float, float]:
    """Return between which values the true quantile lies, one tenth to each side; open where too few are beyond it."""
    ordered, count = sorted(values), len(values)
    spread = _Z * math.sqrt(count * share * (1.0 - share))
    low, high = math.floor(count * share - spread) - 1, math.ceil(count * share + spread)
    return (ordered[low] if low >= 0 else 0.0, ordered[high] if high < count else math.inf)


def _numbers(measured: Measured, whose: str) -> dict[str, float]:
    found = {f"memory{whose}_bytes": float(measured.memory_bytes)} if measured.memory_bytes else {}
    if measured.seconds:
        found |= {
            f"median{whose}_s": quantile(measured.seconds, 0.5),
            f"p95{whose}_s": quantile(measured.seconds, 0.95),
            f"requests{whose}": float(len(measured.seconds)),
        }
    return found


def _words(numbers: dict[str, float], whose: str) -> str:
    median, p95 = numbers.get(f"median{whose}_s", 0.0), numbers.get(f"p95{whose}_s", 0.0)
    memory = numbers.get(f"memory{whose}_bytes", 0.0)
    size = f", {memory / 2**20:.0f} MiB" if memory else ""
    return f"median {median * 1000:.2f} ms, p95 {p95 * 1000:.2f} ms{size}"
