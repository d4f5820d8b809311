"""Which arm of a rollout a request belongs to, what a try says of the arm it went to, and in which cohort it counts.

An arm is judged by *first* tries. They are what chance, or the hash of who asks, gave to it; a second try goes to the
baseline, because the first failed somewhere, and would make the baseline look like what it was asked to repair.
"""

from typing import Final

import xxhash

from stoker.types.rollouts import COHORT_NAME_MAX, BadEvent

GOOD: Final = "good"
# Who leaves later than so many times what nearly all of the baseline's answers take did not leave in good time.
PATIENCE: Final = 4.0
PATIENCE_QUANTILE: Final = 0.99
PATIENCE_SEEN_MIN: Final = 50  # answers of the baseline before that is known
_ALL: Final = float(1 << 64)
_UNITS: Final = ("B", "KiB", "MiB", "GiB")
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:@/+-")


def is_canary(number: int, value: bytes, share: float) -> bool:
    """Return whether who is known as `value` is in the canary of rollout `number`, which has `share` (0-1) of all.

    The same in every gateway and after every restart; whoever is in stays in when `share` grows. Another rollout draws
    anew, so that nobody is first each time.
    """
    return xxhash.xxh3_64_intdigest(value, number & 0xFFFF_FFFF_FFFF_FFFF) < share * _ALL


def share(canary: int, baseline: int) -> float:
    """Return the share of the canary, by the weights of both."""
    return canary / (canary + baseline) if canary > 0 else 0.0


def answered(first_s: float, slow_s: float, *, is_invalid: bool) -> tuple[BadEvent, ...]:
    """Return what was bad of an answer whose first byte (or all, if it is no stream) came after `first_s`."""
    is_slow = 0.0 < slow_s < first_s
    if is_invalid:
        return ("invalid", "slow") if is_slow else ("invalid",)
    return ("slow",) if is_slow else ()


def failed(first_s: float, slow_s: float, *, is_late: bool) -> tuple[BadEvent, ...]:
    """Return what was bad of a try that came to no answer, or to none by the deadline."""
    kind: BadEvent = "timeout" if is_late else "error"
    return (kind, "slow") if 0.0 < slow_s < first_s else (kind,)


def left(waited_s: float, slow_s: float, patience_s: float, *, is_begun: bool) -> tuple[BadEvent, ...] | None:
    """Return what is bad of a try whose caller left after `waited_s`; None: he left in good time, which says nothing.

    Args:
        waited_s: until the first byte of a stream that had begun, else until he left.
        patience_s: how long nobody waits (see PATIENCE); 0: not known.
        is_begun: the answer had begun; to read no further is the caller's own affair.
    """
    is_slow = 0.0 < slow_s < waited_s
    if is_begun:
        return ("slow",) if is_slow else None
    if is_slow:
        return ("timeout", "slow")
    return ("timeout",) if 0.0 < patience_s < waited_s else None


def size_step(size_bytes: int) -> int:
    """Return the step of a body's size; each is four times as wide as the one before."""
    return (size_bytes.bit_length() + 1) >> 1


def size_name(step: int) -> str:
    """Return how a step of sizes is called: `4KiB-16KiB`, the upper end not included."""
    if step == 0:
        return "0B"
    return f"{_bytes(4 ** (step - 1))}-{_bytes(4**step)}"


def cohort(segment: str, value: str) -> str:
    """Return the name of a cohort, such as `tenant=acme`: bounded, and of plain characters whatever a client sends."""
    plain = "".join(each if each in _PLAIN else "_" for each in value[:COHORT_NAME_MAX])
    return f"{segment}={plain}"[:COHORT_NAME_MAX]


def _bytes(size: int) -> str:
    unit = 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size >> 10, unit + 1
    return f"{size}{_UNITS[unit]}"
