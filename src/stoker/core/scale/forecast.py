"""Where arrivals will be when a replica that starts now is ready: the trend of the last minutes, and yesterday.

Both are floors only: a forecast never takes a replica away. Nor does the trend keep one (window.py).
Source of the trend: the local level-trend Kalman filter of Dynamo's planner, whose noise is set here by the arrivals
themselves: the mean of n of them is off by its root.
"""

import math
from typing import Final

import msgspec

from stoker.core.scale.memory import Day, Memory, Trend
from stoker.core.scale.policy import Policy
from stoker.core.scale.reading import Reading, figure, spread
from stoker.core.scale.sight import LONG_S, SHORT_S, Sight, cold_start_s
from stoker.types.scaling import Signal

LEVEL_NOISE: Final = 0.05  # of the measurement's variance, for each look
TREND_NOISE: Final = 0.001
TREND_SURE: Final = 1.25  # standard deviations that a trend must be from nothing to count
AHEAD_RATIO_MAX: Final = 1.5  # over what arrives now: a step is no slope
DAY_S: Final = 86_400
SLOT_S: Final = 300
SLOTS: Final = DAY_S // SLOT_S
RATES_MAX: Final = 64  # looks in a slot
QUANTILE: Final = 0.9


def learn(memory: Memory, sight: Sight) -> Memory:
    """Return the memory with the arrivals of the last SHORT_S, if they were not looked at yet."""
    before = memory.trend
    passed_s = sight.at_s - before.at_s
    if passed_s < SHORT_S:
        return memory
    noise = memory.burstiness * max(sight.rate_short, sight.rate_long, 1.0 / SHORT_S) / SHORT_S
    is_new = not before.at_s or passed_s > LONG_S
    trend = (
        Trend(sight.rate_short, 0.0, noise, 0.0, 0.0, sight.at_s) if is_new else _step(before, sight, noise, passed_s)
    )
    return msgspec.structs.replace(memory, trend=trend, day=_noted(memory.day, sight))


def _step(before: Trend, sight: Sight, noise: float, passed_s: float) -> Trend:
    """Predict, then correct by what arrived."""
    t = passed_s
    level = before.level + before.trend * t
    pll = before.pll + 2.0 * t * before.plt + t * t * before.ptt + LEVEL_NOISE * noise
    plt = before.plt + t * before.ptt
    ptt = before.ptt + TREND_NOISE * noise / (SHORT_S * SHORT_S)
    odd = sight.rate_short - level
    total = pll + noise
    by_level, by_trend = pll / total, plt / total
    return Trend(
        level=max(level + by_level * odd, 0.0),
        trend=before.trend + by_trend * odd,
        pll=(1.0 - by_level) * pll,
        plt=(1.0 - by_level) * plt,
        ptt=max(ptt - by_trend * plt, 0.0),
        at_s=sight.at_s,
    )


def is_falling(memory: Memory) -> bool:
    """Return whether arrivals grow fewer, by more than chance."""
    return memory.trend.trend < -TREND_SURE * math.sqrt(memory.trend.ptt)


def trend(sight: Sight, policy: Policy, memory: Memory) -> Reading | None:
    """Return what arrivals will call for when a replica that starts now is ready; None where they do not grow."""
    found, ahead_s = memory.trend, cold_start_s(sight) + SHORT_S
    if not memory.served or found.trend <= TREND_SURE * math.sqrt(found.ptt):
        return None
    now = max(sight.rate_long, found.level)
    rate = min(found.level + found.trend * ahead_s, now * AHEAD_RATIO_MAX)
    return _reading("forecast", rate, policy, memory, f"in {ahead_s:.0f} s ({found.level:.3g} now, growing)")


def yesterday(sight: Sight, policy: Policy, memory: Memory, now_s: float) -> Reading | None:
    """Return what came at this time a day ago calls for; None where nobody saw it."""
    ahead_s = cold_start_s(sight) + SHORT_S
    rate = _a_day_ago(memory.day, now_s + ahead_s)
    if rate is None or not memory.served:
        return None
    return _reading("yesterday", rate, policy, memory, f"as a day before what will be in {ahead_s:.0f} s")


def _reading(signal: Signal, rate: float, policy: Policy, memory: Memory, when: str) -> Reading:
    places = max(memory.places, 1.0)
    up, stay = spread(rate * memory.service_s, places, memory.burstiness, policy)
    because = (
        f"{rate:.3g} requests/s {when} x {memory.service_s:.3g} s ÷ {places:.3g} places, with spare = {figure(up)}"
    )
    return Reading(signal, up, stay, because)


def _noted(day: Day, sight: Sight) -> Day:
    slot = int(sight.at_s // SLOT_S)
    if slot == day.slot:
        if len(day.rates) >= RATES_MAX:
            return day
        return msgspec.structs.replace(day, rates=(*day.rates, round(sight.rate_short, 3)))
    slots = day.slots
    if day.rates:
        slots = slots or (-1.0,) * SLOTS
        at = day.slot % SLOTS
        seen = sorted(day.rates)
        slots = (*slots[:at], seen[int(QUANTILE * (len(seen) - 1))], *slots[at + 1 :])
    return Day(slots, slot, (round(sight.rate_short, 3),))


def _a_day_ago(day: Day, at_s: float) -> float | None:
    """Return the arrivals a second at the time of day of `at_s`, as they were a day before; None: not seen.

    Only a slot that is not of today counts: the slot that runs now is a day old until it is over.
    """
    slot = int(at_s // SLOT_S)
    if not day.slots or slot < day.slot:
        return None
    rate = day.slots[slot % SLOTS]
    return rate if rate >= 0.0 else None
