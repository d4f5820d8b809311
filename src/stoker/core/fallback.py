"""Who else answers when an endpoint cannot: which failures count, in which order, and how long each may take.

Only before the first byte, and never for what the caller did wrong: the same request would be wrong elsewhere too.
The caller hears what the endpoint he asked said, unless another answered: a fallback never makes an answer worse.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from stoker.types.errors import (
    BudgetExceeded,
    Busy,
    DeadlineExceeded,
    StokerError,
    Unavailable,
    UnprocessableInput,
    Unsupported,
)
from stoker.types.resources import FALLBACK_REASONS, FallbackReason
from stoker.types.routes import EndpointRoute

STEPS_MAX: Final = 6  # endpoints that one request is sent to, the first included
DEPTH_MAX: Final = 4  # names between the one a caller asks and the last that may answer
# A timeout counts against an endpoint's breaker when the request had this long, or as long as the endpoint itself
# allows: a caller with a deadline of 10 ms says nothing about it.
FAIR_S: Final = 1.0


class Step(msgspec.Struct, frozen=True):
    """An endpoint with replicas that a request may be sent to.

    reasons: what of the step before leads here. after_s: how long that one may take; 0: an even share of what is left.
    """

    endpoint: str
    reasons: tuple[FallbackReason, ...]
    after_s: float


def reason(problem: StokerError) -> FallbackReason | None:
    """Return what kind of failure of an endpoint `problem` is; None for the caller's own, and for what none can do."""
    if isinstance(problem, DeadlineExceeded):
        return "timeout"
    if isinstance(problem, BudgetExceeded):
        return "budget" if problem.falls_back else None
    if isinstance(problem, Busy):
        return "overload"
    if isinstance(problem, Unavailable):
        return "unavailable"
    return "error" if problem.status >= 500 and not isinstance(problem, Unsupported) else None


def ends_all(problem: StokerError) -> bool:
    """Return whether `problem` forbids any further step: a request that kills replicas must not kill others too."""
    return isinstance(problem, UnprocessableInput)


def steps(
    first: str, find: Callable[[str], EndpointRoute | None], choose: Callable[[EndpointRoute], str | None]
) -> list[Step]:
    """Return where a request for `first` goes, in order: at most STEPS_MAX different endpoints.

    An endpoint with backends stands for the one that `choose` names; each endpoint's fallbacks follow it. Ends for any
    table, also one with cycles: a name is visited once.
    """
    found: list[Step] = []
    visited: set[str] = set()

    def visit(name: str, reasons: tuple[FallbackReason, ...], after_s: float, depth: int) -> None:
        route = find(name)
        if route is None or name in visited or depth > DEPTH_MAX or len(found) >= STEPS_MAX:
            return
        visited.add(name)
        if route.backends:
            chosen = choose(route)
            if chosen is not None:
                visit(chosen, reasons, after_s, depth + 1)
        else:
            found.append(Step(name, reasons, after_s))
        for target in route.fallback:
            visit(target, route.fallback_on, route.fallback_after_s, depth + 1)

    visit(first, FALLBACK_REASONS, 0.0, 0)
    return found


def try_s(later: Sequence[Step], left_s: float) -> float | None:
    """Return how long a step may take before the next is tried, when `later` ones are left; None: no less than all.

    `fallback_after` where it is set, but never more than an even share of what is left: a caller in a hurry gets his
    fallback too.
    """
    able = [step for step in later if "timeout" in step.reasons]
    if not able:
        return None
    share_s = left_s / (len(able) + 1)
    return min(able[0].after_s, share_s) if able[0].after_s > 0 else share_s


def is_fair(took_s: float, allowed_s: float) -> bool:
    """Return whether a request that timed out after `took_s` speaks against its endpoint, which allows `allowed_s`."""
    return took_s >= min(FAIR_S, allowed_s) * 0.9  # timers are not exact


def draw(weights: Sequence[int], is_up: Sequence[bool]) -> list[int]:
    """Return `weights` without those that are down; all of them when none that has a weight is up."""
    up = [weight if able else 0 for weight, able in zip(weights, is_up, strict=True)]
    return up if any(up) else list(weights)
