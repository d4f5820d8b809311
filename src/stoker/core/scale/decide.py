"""How many replicas an endpoint should have, and why. Pure: a sight in, a decision with its numbers out.

1. Every signal of the policy reads the sight: how many replicas it calls for, in arithmetic. The largest counts.
2. Up at once. What is starting counts as if it were there, for `have` is what was decided.
3. Down only on fresh numbers that reach back a minute, and only to what was needed at any time within the down window
   (window.py), what is held now, and half of what is there.
4. Between the bounds, whatever was read. To zero, and back before anybody asks, as core/warm.py says.

Source: two windows and no way down on missing history are Knative's (pkg/autoscaler/scaling/autoscaler.go), the window
that is a maximum is the HPA's, a number to fall back to when nothing can be measured is KEDA's.
"""

import math
from typing import Final

import msgspec

from stoker.core import warm
from stoker.core.scale import bounds, engines, forecast, load, season, window
from stoker.core.scale.bounds import Bounds
from stoker.core.scale.memory import GAPS_MAX, Memory
from stoker.core.scale.policy import Policy
from stoker.core.scale.reading import Reading
from stoker.core.scale.sight import LONG_S, Sight, cold_start_s

STALE_S: Final = 15.0
FALLBACK_AFTER: Final = 10  # looks in a row that found nothing
STARTING_RATIO: Final = 1.6  # what is starting goes only when so much less is enough: it would start again
ROUNDING: Final = 1e-6
REPLICAS_MAX: Final = 1e6  # whatever was read


class Decision(msgspec.Struct, frozen=True):
    """How many replicas there should be, why, what each signal said, and what to give to the next decision.

    limit: what stands in the way of more, and what happens with the requests meanwhile; "" when nothing does.
    room: what others have to do with it (core/pooling.py). sleeps: whether there may be none now.
    """

    desired: int
    because: str
    signals: tuple[Reading, ...]
    memory: Memory
    limit: str = ""
    room: str = ""
    sleeps: bool = False


class _Wish(msgspec.Struct, frozen=True):
    """How many there should be by the load alone, and why."""

    count: int
    because: str


def decide(sight: Sight, policy: Policy, memory: Memory, now_s: float) -> Decision:
    """Return how many replicas `sight` calls for within the bounds of `policy`.

    `memory` is that of the decision before, `Memory()` at first. `now_s` is unix seconds, at least those of `memory`.
    """
    limits = bounds.bounds(policy, sight.offsets_s, now_s)
    have = sight.ready + sight.pending if memory.desired is None else memory.desired
    if sight.failures or now_s - sight.at_s > STALE_S:
        return _decided(sight, _blind(sight, policy, have, now_s), limits, policy, (), memory, have, now_s)
    memory = _learned(sight, memory)
    readings = _readings(sight, policy, memory, now_s)
    memory = window.needed(sight, memory, readings, window.length_s(sight, policy, memory, now_s), now_s)
    wish = _wish(sight, policy, memory, readings, have, now_s)
    if wish.count > have and load.backlog(sight, load.load(sight, memory), memory, policy, now_s) >= 1.0:
        memory = window.missed(sight, policy, memory, now_s)
    if not limits.least:
        wish = _rested(wish, sight, policy, memory, now_s)
    return _decided(sight, wish, limits, policy, readings, memory, have, now_s)


def _blind(sight: Sight, policy: Policy, have: int, now_s: float) -> _Wish:
    """Return what to do without numbers: as before, or more where the policy has a number for it."""
    if sight.failures >= FALLBACK_AFTER and policy.fallback_replicas > have:
        because = f"nothing could be measured {sight.failures} times in a row, and fallback_replicas is"
        return _Wish(policy.fallback_replicas, f"{because} {policy.fallback_replicas}")
    return _Wish(have, f"the newest numbers are {now_s - sight.at_s:.0f} s old, so it stays as it is")


def _learned(sight: Sight, memory: Memory) -> Memory:
    if sight.at_s <= memory.measured_s:
        return memory  # the same numbers again
    memory = season.learn(forecast.learn(load.learn(memory, sight), sight), sight)
    is_used = bool(sight.rate_short or sight.waiting or sight.in_flight)
    idle_s = sight.at_s - memory.arrived_s if memory.arrived_s else 0.0
    gaps = memory.gaps
    if is_used and idle_s >= warm.GAP_MIN_S:
        gaps = (*gaps, idle_s)[-GAPS_MAX:]
    return msgspec.structs.replace(
        memory,
        measured_s=sight.at_s,
        since_s=memory.since_s if sight.at_s - memory.measured_s <= STALE_S else sight.at_s,
        arrived_s=sight.at_s if is_used or not memory.arrived_s else memory.arrived_s,
        gaps=gaps,
        ready_s=(memory.ready_s or sight.at_s) if sight.ready else 0.0,
    )


def _readings(sight: Sight, policy: Policy, memory: Memory, now_s: float) -> tuple[Reading, ...]:
    found = (
        load.requests(sight, policy, memory, now_s),
        forecast.trend(sight, policy, memory),
        forecast.yesterday(sight, policy, memory, now_s),
        season.reading(sight, policy, memory),
        *engines.readings(sight),
    )
    return tuple(each for each in found if each is not None and each.signal in policy.signals)


def _wish(
    sight: Sight, policy: Policy, memory: Memory, readings: tuple[Reading, ...], have: int, now_s: float
) -> _Wish:
    first = max(readings, key=lambda each: each.up, default=None)
    if first is None:
        return _Wish(have, "none of its signals is measured, so it stays as it is")
    up, words = _ceil(first.up), f"{first.signal}: {first.because}"
    if up > have:
        return _Wish(up, words)
    window_s = window.counting_s(sight, policy, memory, now_s)
    at_s, peak = window.last_needed(memory, window_s, now_s)
    held = load.held(sight, policy, memory)
    kept = max(peak, held, first.up * (STARTING_RATIO if sight.pending else 1.0))
    down = _ceil(kept)
    if down >= have:
        if up == have:
            return _Wish(have, words)
        if kept == held:
            return _Wish(have, f"{words}; {sight.in_flight} in flight and {sight.waiting} waiting hold {held:.2f}")
        if kept == peak:
            return _Wish(
                have, f"{words}; it goes down when {peak:.2f} is {window_s:.0f} s ago (now {now_s - at_s:.0f})"
            )
        return _Wish(have, f"{words}; what is starting would be missed soon")
    if now_s - memory.since_s < LONG_S or sight.span_s < LONG_S:
        return _Wish(have, f"{words}; the numbers do not reach back a minute, so nothing goes")
    return _Wish(down, f"{words}; not more than {kept:.2f} were needed within {window_s:.0f} s")


def _ceil(replicas: float) -> int:
    return math.ceil(min(replicas, REPLICAS_MAX) - ROUNDING)


def _rested(wish: _Wish, sight: Sight, policy: Policy, memory: Memory, now_s: float) -> _Wish:
    """Return the wish of an endpoint that may go to zero."""
    if memory.arrived_s >= sight.at_s:
        return wish if wish.count else _Wish(1, f"it is used; {wish.because}")
    found = warm.rest(
        memory.gaps,
        now_s - memory.arrived_s,
        timeout_s=policy.idle_timeout_s,
        waiting_worth=policy.waiting_worth,
        cold_start_s=cold_start_s(sight),
        ready_s=_ready_s(sight, memory, now_s),
    )
    if found.is_warm:
        return wish if wish.count else _Wish(1, found.because)
    return _Wish(0, found.because)


def _ready_s(sight: Sight, memory: Memory, now_s: float) -> float | None:
    """Return for how long a replica is ready of those that the last request ordered; None: none is yet."""
    if memory.up_s - memory.arrived_s >= warm.GAP_MIN_S:
        return math.inf  # nobody asked for it: it was expected
    if not sight.ready:
        return None if sight.pending else math.inf
    return now_s - memory.ready_s


def _decided(
    sight: Sight,
    wish: _Wish,
    limits: Bounds,
    policy: Policy,
    readings: tuple[Reading, ...],
    memory: Memory,
    have: int,
    now_s: float,
) -> Decision:
    """Return what is done of a wish."""
    desired, because, limit = wish.count, wish.because, ""
    if desired < have and desired:
        desired = max(desired, bounds.least_now(have, memory, now_s))
    if desired < limits.least or desired == limits.least > policy.min:  # a schedule's: it might sleep without that
        desired, because = limits.least, f"{limits.least_because} is {limits.least}; {because}"
    if not limits.most and policy.max:
        because = f"{limits.most_because} is 0"
    if desired > limits.most:
        limit = f"at the maximum: wanted {desired}, may {limits.most} ({limits.most_because}); {policy.overflow}"
        desired = limits.most
    if desired > have:
        memory = msgspec.structs.replace(memory, desired=desired, up_s=now_s)
    elif desired < have:
        memory = window.went(sight, policy, msgspec.structs.replace(memory, desired=desired), now_s)
    else:
        memory = msgspec.structs.replace(memory, desired=desired)
    return Decision(desired, because, readings, memory, limit, sleeps=not limits.least)
