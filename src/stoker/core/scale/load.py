"""How many replicas the arrivals and the queue call for: Little's law, and what drains the queue.

A queue behind a slow start is no demand: whoever counts it as concurrency orders replicas for work that will be gone
when they are ready. So arrivals and queue are two terms, and the queue counts as it will be by then.
"""

import math
from typing import Final

import msgspec

from stoker.core.scale.memory import Memory
from stoker.core.scale.policy import Policy
from stoker.core.scale.reading import Reading, figure, spare_words, spread
from stoker.core.scale.sight import LONG_S, SHORT_S, Sight, cold_start_s

SERVICE_MEMORY_S: Final = 120.0
SERVED_MIN: Final = 50.0  # requests that the mean is of, however long ago they ended
KNOWN_MIN: Final = 20.0  # of fewer the mean is not known: the first to end are the short ones
SHORT_SURE: Final = 2.0  # standard deviations that the short window must be over chance to count
NOW_SURE: Final = 3.0  # and the arrivals since the last look, of which there are many more
BURSTINESS_STEP: Final = 0.05  # weight of the newest 6 s: a memory of two minutes
BURSTINESS_MAX: Final = 16.0
ODD_MAX: Final = 25.0  # a step in the load is no burst: one look counts for at most so much


class Load(msgspec.Struct, frozen=True):
    """What arrives, and what one replica can do about it.

    rate, long: arrivals a second that count for more and for fewer replicas. service_s: that a request holds a place.
    window_s: how far back `rate` looks. is_known: whether enough requests have ended to know it.
    """

    rate: float
    long: float
    service_s: float
    places: float
    burstiness: float
    window_s: float
    is_known: bool

    @property
    def busy(self) -> float:
        """Places that are busy at once (Little's law)."""
        return self.rate * self.service_s


def learn(memory: Memory, sight: Sight) -> Memory:
    """Return the memory with what `sight` says of service times and of how bursty arrivals are."""
    service_s, served = memory.service_s, memory.served
    if sight.ended > 0 and sight.service_s > 0.0:
        kept = max(served * math.exp(-(sight.at_s - memory.measured_s) / SERVICE_MEMORY_S), min(served, SERVED_MIN))
        served = kept + sight.ended
        service_s += (sight.service_s - service_s) * sight.ended / served
    burstiness, rate_before = memory.burstiness, memory.rate_before
    passed_s = sight.at_s - memory.trend.at_s
    if passed_s >= SHORT_S:
        rate_before = sight.rate_short
    if SHORT_S <= passed_s < LONG_S:
        # By how two windows in a row differ: a load that grows is not bursty for that.
        both = max((sight.rate_short + memory.rate_before) * SHORT_S, 1.0)
        odd = min(((sight.rate_short - memory.rate_before) * SHORT_S) ** 2 / both, ODD_MAX)
        burstiness += BURSTINESS_STEP * (odd - burstiness)
    return msgspec.structs.replace(
        memory,
        service_s=service_s,
        served=served,
        places=sight.places or memory.places,
        burstiness=min(max(burstiness, 1.0), BURSTINESS_MAX),
        rate_before=rate_before,
    )


def load(sight: Sight, memory: Memory) -> Load:
    """Return the load to count with."""
    rates = [(sight.rate_long, LONG_S), (_surely(sight.rate_short, SHORT_S, SHORT_SURE, memory.burstiness), SHORT_S)]
    if sight.since_s:
        now = sight.arrived / sight.since_s
        rates.append((_surely(now, sight.since_s, NOW_SURE, memory.burstiness), sight.since_s))
    rate, window_s = max(rates, key=lambda each: each[0])
    is_known = memory.served >= KNOWN_MIN
    return Load(
        rate=rate,
        long=sight.rate_long,
        service_s=memory.service_s,
        places=max(memory.places, 1.0),
        burstiness=memory.burstiness,
        window_s=window_s,
        is_known=is_known,
    )


def _surely(rate: float, window_s: float, sigmas: float, burstiness: float) -> float:
    """Return the rate that is behind `rate` even if chance added so many standard deviations to it."""
    return rate - sigmas * math.sqrt(burstiness * rate / window_s)


def requests(sight: Sight, policy: Policy, memory: Memory, now_s: float) -> Reading:
    """Return what arrivals and queue call for."""
    found = load(sight, memory)
    if not memory.places:
        up = float(bool(sight.in_flight or sight.waiting or sight.rate_long))
        return Reading("requests", up, up, "no replica was ever ready, so what one can do is not known")
    up, _ = spread(found.busy, found.places, found.burstiness, policy)
    _, stay_long = spread(found.long * found.service_s, found.places, found.burstiness, policy)
    words = spare_words(found.busy, found.places, found.burstiness, policy)
    window = f" (of the last {found.window_s:.2g} s)" if found.window_s < LONG_S else ""
    because = f"{found.rate:.3g} requests/s{window} x {found.service_s:.3g} s {words}" if found.rate else "no requests"
    queued = backlog(sight, found, memory, policy, now_s)
    if queued >= 1.0:
        drain_s = max(policy.drain_s, found.service_s)
        drain = queued * found.service_s / (found.places * drain_s)
        up += drain
        because += f", + {drain:.2f} for {queued:.0f} waiting when they are ready, to be gone in {drain_s:.3g} s"
    if not found.is_known:
        here = float(sight.in_flight + sight.waiting)
        least, least_stay = spread(here, found.places, found.burstiness, policy)
        if least > up:
            words = spare_words(here, found.places, found.burstiness, policy)
            noun = "request is" if here == 1 else "requests are"
            because = f"{here:.0f} {noun} here, and few have ended yet, {words} = {figure(least)}"
            return Reading("requests", least, max(least_stay, stay_long), because)
    return Reading("requests", up, stay_long, f"{because} = {figure(up)}" if up else because)


def held(sight: Sight, policy: Policy, memory: Memory) -> float:
    """Return how many replicas must stay for what is held and waits now, whatever is needed later."""
    share = memory.service_s / max(policy.drain_s, memory.service_s) if memory.served else 1.0
    waiting = sight.waiting * share
    return (sight.in_flight + waiting) / max(memory.places, 1.0)


def backlog(sight: Sight, found: Load, memory: Memory, policy: Policy, now_s: float) -> float:
    """Return how many requests will wait when what is ordered now, or was last, is ready."""
    cold_s = cold_start_s(sight)
    until_s = cold_s if not sight.pending else min(max(memory.up_s + cold_s - now_s, 0.0), cold_s)
    done_per_s = sight.ready * found.places / max(found.service_s, 1e-6)
    ahead = sight.waiting + (found.rate - done_per_s) * until_s
    return min(max(ahead, 0.0), policy.queue_max or math.inf)
