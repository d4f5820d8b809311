"""Strategies as data: which steps a rollout takes, what it copies, what stays warm; and what `auto` means now."""

from math import ceil
from typing import Final

import msgspec

from stoker.types.rollouts import Hook, Mirror, Rollout, Strategy
from stoker.types.slos import Objective
from stoker.types.units import parse_seconds

# `auto` takes a canary where its steps are done in so long at the endpoint's present traffic.
AUTO_WITHIN_S: Final = 1800.0
KEEP_BLUE_S: Final = 600.0
A_B_PERCENT: Final = 50
LOOK_BACK_S: Final = 300.0  # how far back the traffic is looked at that `auto` goes by


class Course(msgspec.Struct, frozen=True):
    """What a strategy does.

    steps: percent of traffic, one a step; after them all of it, if `promotes`. mirror: requests are copied in its
    steps. keep_s: how long the old replicas stay warm. clears: the old replicas go first. is_guarded: replicas of the
    canary that crash, or do not get ready, end it; unguarded they are tried for ever, for nothing waits for them.
    """

    steps: tuple[int, ...] = ()
    mirror: Mirror | None = None
    keep_s: float = 0.0
    clears: bool = False
    promotes: bool = True
    is_guarded: bool = True


def course(spec: Rollout, strategy: Strategy) -> Course:
    """Return what `strategy` does under `spec`."""
    keep_s = parse_seconds(spec.keep) if spec.keep is not None else 0.0
    match strategy:
        case "canary":
            return Course(steps=spec.steps, keep_s=keep_s)
        case "blue-green":
            return Course(keep_s=keep_s if spec.keep is not None else KEEP_BLUE_S)
        case "shadow":
            return Course(steps=(0,), mirror=spec.mirror, keep_s=keep_s)
        case "a-b":
            share = spec.steps[-1] if len(spec.steps) == 1 else A_B_PERCENT
            return Course(steps=(share,), promotes=False)
        case "recreate":
            return Course(clears=True)
        case _:
            return Course(keep_s=keep_s, is_guarded=False)


def resolve(spec: Rollout, rate_per_s: float, *, serves: bool) -> tuple[Strategy, str]:
    """Return the strategy to take now, and why.

    Args:
        rate_per_s: requests that came to the endpoint lately.
        serves: whether the baseline has a ready replica; where it has none there is nobody to compare with, and
            nobody to protect.
    """
    if not serves and spec.strategy in ("auto", "canary", "shadow", "a-b"):
        return "direct", f"{spec.strategy}: nothing serves that it could be compared with"
    if spec.strategy != "auto":
        return spec.strategy, spec.strategy
    takes_s = canary_s(spec, rate_per_s)
    if takes_s > AUTO_WITHIN_S:
        return (
            "direct",
            f"auto: {rate_per_s:.3g} requests/s are too few to judge a canary in {AUTO_WITHIN_S / 60:.0f} min",
        )
    return "canary", f"auto: with {rate_per_s:.3g} requests/s a canary takes about {max(takes_s / 60, 1):.0f} min"


def canary_s(spec: Rollout, rate_per_s: float) -> float:
    """Return how long a canary's steps take at so many requests a second; infinity without any."""
    if rate_per_s <= 0.0:
        return float("inf")
    dwell_s = parse_seconds(spec.dwell)
    return sum(max(dwell_s, spec.requests_min / (rate_per_s * percent / 100)) for percent in spec.steps)


def replicas(percent: int, wanted: int) -> int:
    """Return how many of `wanted` replicas take `percent` of the traffic; at least one if any is wanted."""
    return min(max(ceil(wanted * percent / 100), 1), wanted)


def host(hook: Hook) -> str:
    """Return who a hook is, in words; the rest of its address may be a secret."""
    return receiver_name(hook.webhook_from or hook.webhook)


def receiver_name(receiver: str) -> str:
    """Return the host of an address; a reference to one as it is."""
    if not receiver.startswith(("http://", "https://")):
        return receiver
    return receiver.partition("://")[2].partition("/")[0].partition("?")[0].rpartition("@")[2]


def slow_s(spec: Rollout, objectives: tuple[Objective, ...]) -> float:
    """Return later than what an answer, or its first byte, is a bad event; 0: nothing is."""
    if spec.slow is not None:
        return parse_seconds(spec.slow)
    limits = [
        parse_seconds(each.under)
        for each in objectives
        if each.under is not None and each.sli in ("ttft", "latency") and not each.tenant
    ]
    return min(limits, default=0.0)
