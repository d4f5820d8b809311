"""When an idle endpoint goes to zero, and when it is warm again before anybody asks.

Idling costs a replica-second each second; going to zero costs somebody the wait of a cold start. With what a second of
that is worth (`scaling.waiting_worth`), the pauses seen so far say which time-out is the cheapest: the one with the
least idle time plus worth of waiting, had it held for all of them. Without it, or while few were seen, the manifest's.

Pauses that are all about as long foretell the next request: it is warm again just before.

Who came while it slept and did not wait comes back when it is loaded. So it is loaded to the end, and its idle time
begins when it is ready.
Source: the histogram of idle times is Shahrad et al., Serverless in the Wild (ATC 2020).
"""

import math
from collections.abc import Iterable
from typing import Final

import msgspec

GAP_MIN_S: Final = 60.0  # a shorter pause is no pause
GAPS_MIN: Final = 4  # fewer say nothing
ALIKE_RATIO: Final = 0.2  # the middle of the pauses may differ by so much of their median
TIMEOUT_MAX_RATIO: Final = 12.0  # a learned time-out, over the manifest's
EARLY_S: Final = 10.0
LOADS_MAX: Final = 3.0  # a load that nobody waits for any more may take so many cold starts


class Rest(msgspec.Struct, frozen=True):
    """Whether an endpoint without requests is kept warm now, and why."""

    is_warm: bool
    because: str


def rest(
    gaps: tuple[float, ...],
    idle_s: float,
    *,
    timeout_s: float,
    waiting_worth: float,
    cold_start_s: float,
    ready_s: float | None = math.inf,
) -> Rest:
    """Return whether an endpoint is kept warm that had no request for `idle_s`.

    Args:
        gaps: seconds of the pauses before, each ended by a request.
        timeout_s: the manifest's idle time-out; 0: never to zero.
        waiting_worth: replica-seconds of idling that a caller's second of waiting is worth; 0: timeout_s is kept.
        ready_s: for how long a replica is ready that was started for the last request; None: it is not ready yet.
    """
    if not timeout_s:
        return Rest(True, "idle_timeout is 0: it never goes to zero")
    limit_s, words = timeout_s, f"idle_timeout is {timeout_s:g} s"
    if waiting_worth and len(gaps) >= GAPS_MIN:
        wait_cost_s = waiting_worth * cold_start_s
        limit_s = cheapest_s(gaps, wait_cost_s, TIMEOUT_MAX_RATIO * timeout_s)
        words = (
            f"after {limit_s:.0f} s it is cheaper to wait {cold_start_s:.3g} s for a start now and then: the last "
            f"{len(gaps)} pauses cost {cost_s(gaps, limit_s, wait_cost_s):.0f} s of a replica so, "
            f"{cost_s(gaps, timeout_s, wait_cost_s):.0f} with idle_timeout ({timeout_s:g} s)"
        )
    if ready_s is None and idle_s < max(limit_s, LOADS_MAX * cold_start_s):
        return Rest(True, f"it is loaded for who asked {idle_s:.0f} s ago, and comes back")
    unused_s = idle_s if ready_s is None else min(idle_s, ready_s)
    if unused_s < limit_s:
        ready = f", ready for {unused_s:.0f} s" if unused_s < idle_s else ""
        return Rest(True, f"no request for {idle_s:.0f} s{ready}; {words}")
    due = expected(gaps)
    if due is not None and due[0] - cold_start_s - EARLY_S <= idle_s < due[1] + EARLY_S:
        return Rest(
            True,
            f"no request for {idle_s:.0f} s; the next is expected {due[0]:.0f} to {due[1]:.0f} s after the last, by "
            f"{len(gaps)} pauses, and a start takes {cold_start_s:.3g} s",
        )
    return Rest(False, f"no request for {idle_s:.0f} s; {words}")


def cost_s(gaps: Iterable[float], limit_s: float, wait_cost_s: float) -> float:
    """Return what an idle time-out of `limit_s` would have cost over `gaps`, in replica-seconds, waiting and all."""
    return sum(gap if gap <= limit_s else limit_s + wait_cost_s for gap in gaps)


def cheapest_s(gaps: Iterable[float], wait_cost_s: float, most_s: float) -> float:
    """Return the idle time-out that would have cost the least over `gaps`.

    Args:
        wait_cost_s: what going to zero costs when a request comes, in replica-seconds.
    """
    known = sorted(gaps)
    # Only just over a pause is there anything to gain; the shortest of the cheapest.
    candidates = [GAP_MIN_S, *(min(gap * 1.1, most_s) for gap in known if gap <= most_s)]
    return min(sorted(candidates), key=lambda limit_s: cost_s(known, limit_s, wait_cost_s))


def expected(gaps: tuple[float, ...]) -> tuple[float, float] | None:
    """Return the idle seconds, earliest and latest, after which the next request comes; None: nobody knows."""
    if len(gaps) < GAPS_MIN:
        return None
    known = sorted(gaps)
    low, middle, high = known[len(known) // 8], known[len(known) // 2], known[-1 - len(known) // 8]
    return (low, high) if high - low <= ALIKE_RATIO * middle else None
