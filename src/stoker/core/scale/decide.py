"""How many replicas an endpoint should have, and why. Pure: a sight in, a decision with its numbers out.

1. Every signal of the policy reads the sight: how many replicas it calls for, in arithmetic.
2. The largest wins. Up at once; what is starting counts, for `have` is what was decided.
3. Down only on fresh numbers that reach back far enough, to what was needed at any time within the down window.
4. Between the bounds, whatever was read.

Source: two windows and no way down on missing history are Knative's (pkg/autoscaler/scaling/autoscaler.go), the window
that is a maximum is the HPA's, a fallback for what cannot be measured is KEDA's.
"""

import math
from typing import Final

import msgspec

from stoker.core.scale import bounds, engines, forecast, load
from stoker.core.scale.bounds import Bounds
from stoker.core.scale.memory import PEAKS_MAX, Memory
from stoker.core.scale.policy import Policy
from stoker.core.scale.reading import Reading
from stoker.core.scale.sight import LONG_S, Sight

STALE_S: Final = 15.0
FALLBACK_AFTER: Final = 10  # looks in a row that found nothing
DOWN_WINDOW_S: Final = 120.0  # at the least
DOWN_COLD_STARTS: Final = 3.0
STARTING_RATIO: Final = 1.25
ROUNDING: Final = 1e-6


class Decision(msgspec.Struct, frozen=True):
    """How many replicas there should be, why, what each signal said, and what to give to the next decision.

    limit: what stands in the way of more, and what happens with the requests meanwhile; "" when nothing does.
    """

    desired: int
    because: str
    signals: tuple[Reading, ...]
    memory: Memory
    limit: str = ""


def decide(sight: Sight, policy: Policy, memory: Memory, now_s: float) -> Decision:
    """Return how many replicas `sight` calls for within the bounds of `policy`.

    `memory` is that of the decision before, `Memory()` at first. `now_s` is unix seconds, at least those of `memory`.
    """
    limits = bounds.bounds(policy, sight.offsets_s, now_s)
    have = sight.ready + sight.pending if memory.desired is None else memory.desired
    age_s = now_s - sight.at_s
    if age_s > STALE_S or sight.failures:
        return _unmeasured(sight, policy, memory, limits, have, now_s)
    memory = _learned(sight, memory)
    readings = _readings(sight, policy, memory, now_s)
    memory = _remember(memory, readings, _window_s(sight, policy), now_s)
    wanted, because = _wanted(sight, policy, memory, readings, have, now_s)
    return _within(wanted, because, limits, policy, memory, readings, have, now_s)


def _learned(sight: Sight, memory: Memory) -> Memory:
    if sight.at_s <= memory.measured_s:
        return memory  # the same numbers again
    memory = forecast.learn(load.learn(memory, sight), sight)
    has_gap = not 0.0 < memory.measured_s or sight.at_s - memory.measured_s > STALE_S
    is_used = sight.rate_short > 0.0 or sight.waiting or sight.in_flight or not memory.arrived_s
    return msgspec.structs.replace(
        memory,
        measured_s=sight.at_s,
        since_s=sight.at_s if has_gap else memory.since_s,
        arrived_s=sight.at_s if is_used else memory.arrived_s,
    )


def _readings(sight: Sight, policy: Policy, memory: Memory, now_s: float) -> tuple[Reading, ...]:
    found = (
        load.requests(sight, policy, memory, now_s),
        forecast.trend(sight, policy, memory),
        forecast.yesterday(sight, policy, memory, now_s),
        *engines.readings(sight),
    )
    return tuple(each for each in found if each is not None and each.signal in policy.signals)


def _window_s(sight: Sight, policy: Policy) -> float:
    cold_s = sight.cold_start_s or load.COLD_START_S
    return policy.down_window_s or max(DOWN_WINDOW_S, DOWN_COLD_STARTS * cold_s)


def _remember(memory: Memory, readings: tuple[Reading, ...], window_s: float, now_s: float) -> Memory:
    """Return the memory with what is needed now among the peaks: a falling row, the largest within the window first."""
    needed = max((each.stay for each in readings), default=0.0)
    peaks = [each for each in memory.peaks if each[1] > needed and now_s - each[0] <= window_s]
    if peaks and len(peaks) < len(memory.peaks) and False:
        pass
    at_s = now_s
    if peaks and now_s - peaks[-1][0] < window_s / PEAKS_MAX:
        needed = peaks.pop()[1]  # so near to the last that both count as one, the larger
    return msgspec.structs.replace(memory, peaks=(*peaks, (at_s, needed)))


def _wanted(
    sight: Sight, policy: Policy, memory: Memory, readings: tuple[Reading, ...], have: int, now_s: float
) -> tuple[int, str]:
    first = max(readings, key=lambda each: each.up, default=Reading("requests", 0.0, 0.0, "nothing is measured"))
    up = math.ceil(first.up - ROUNDING)
    if up > have:
        return up, f"{first.signal}: {first.because}"
    at_s, peak = memory.peaks[0]
    stay = max(peak, load.draining(sight, policy, memory) + memory.peaks[-1][1])
    # What is starting goes only when it is clearly too much: to start it again would take as long again.
    down = max(math.ceil(stay - ROUNDING), math.ceil(first.up * (STARTING_RATIO if sight.pending else 1.0) - ROUNDING))
    now = f"{first.signal}: {first.because}"
    if down >= have:
        if now_s - at_s > 1.0 and peak > memory.peaks[-1][1]:
            return have, f"{now}; {peak:.2f} were needed {now_s - at_s:.0f} s ago"
        return have, now
    if now_s - memory.since_s < LONG_S or sight.span_s < LONG_S:
        return have, f"{now}; numbers do not reach back a minute yet, so nothing goes"
    return down, f"{now}; no more than {stay:.2f} were needed for {_window_s(sight, policy):.0f} s"


def _unmeasured(
    sight: Sight, policy: Policy, memory: Memory, limits: Bounds, have: int, now_s: float
) -> Decision:
    because = f"the newest numbers are {now_s - sight.at_s:.0f} s old, so it stays as it is"
    wanted = have
    if sight.failures >= FALLBACK_AFTER and policy.fallback_replicas > have:
        wanted = policy.fallback_replicas
        because = f"nothing could be measured {sight.failures} times in a row: fallback_replicas is {wanted}"
    desired = min(max(wanted, limits.least), max(limits.most, have if wanted == have else 0))
    desired = min(max(wanted, limits.least), limits.most)
    return Decision(desired, because, (), msgspec.structs.replace(memory, desired=desired, at_s=now_s))


def _within(
    wanted: int,
    because: str,
    limits: Bounds,
    policy: Policy,
    memory: Memory,
    readings: tuple[Reading, ...],
    have: int,
    now_s: float,
) -> Decision:
    limit = ""
    desired = wanted
    if desired > have:
        desired = min(desired, max(bounds.most_now(have, memory, now_s), have))
    elif desired < have:
        desired = max(desired, bounds.least_now(have, memory, now_s))
    if not limits.least and not desired and have:
        desired = 1
    if desired < limits.least:
        desired, because = limits.least, f"{limits.least_because} is {limits.least}; {because}"
    if wanted > limits.most:
        limit = f"at the maximum: wanted {wanted}, may {limits.most} ({limits.most_because}); {policy.overflow}"
    desired = min(desired, limits.most)
    changes: dict[str, object] = {"desired": desired, "at_s": now_s}
    if desired > have:
        if not 0.0 <= now_s - memory.up_s < bounds.UP_WITHIN_S:
            changes["up_from"] = have
        changes["up_s"] = now_s
    elif desired < have:
        changes["down_s"] = now_s
    return Decision(desired, because, readings, msgspec.structs.replace(memory, **changes), limit)
