"""Bursts that come again: what a job at every full hour, or every ten minutes, will call for when it begins.

A trend cannot see them coming and a start is too slow to follow them. So arrivals of the last three hours are kept by
slots of half a minute, and where the last three times of a period had a sudden rise at the same moment, replicas are
there for the next one. A floor only: it keeps nothing, and says nothing of loads that rise slowly, which the trend
follows with fewer replica-hours (docs/explanation/forecasts.md has the numbers).
"""

from typing import Final

import msgspec

from stoker.core.scale.memory import Memory, Season
from stoker.core.scale.policy import Policy
from stoker.core.scale.reading import Reading, spread
from stoker.core.scale.sight import SHORT_S, Sight, cold_start_s

SLOT_S: Final = 30
TIMES: Final = 3  # in a row that a burst came at its moment; two are chance too often
PERIODS_MIN: Final = (5, 10, 15, 20, 30, 60)  # in the order in which they are looked at; rarer ones are `yesterday`'s
SUDDEN: Final = 2.0  # times what came BEFORE slots earlier, which a trend does not follow
BEFORE: Final = 2
SLOTS: Final = TIMES * 3600 // SLOT_S + BEFORE
BURST_MIN: Final = 10.0  # requests of a slot; fewer are no burst, and pauses alike are core/warm.py's
SEEN_RATIO: Final = 0.5  # of a slot, without which it is not known
SLOTS_AHEAD_MAX: Final = 20  # of a start that takes longer only its last ten minutes are foreseen


def learn(memory: Memory, sight: Sight) -> Memory:
    """Return the memory with the arrivals since the look before."""
    before, slot = memory.season, int(sight.at_s // SLOT_S)
    if slot == before.slot:
        now = msgspec.structs.replace(
            before, arrived=before.arrived + sight.arrived, seen_s=before.seen_s + sight.since_s
        )
        return msgspec.structs.replace(memory, season=now)
    slots = before.slots
    if before.slot >= 0:
        rate = round(before.arrived / before.seen_s, 3) if before.seen_s >= SEEN_RATIO * SLOT_S else -1.0
        slots = _noted(slots or (-1.0,) * SLOTS, before.slot, rate, slot)
    return msgspec.structs.replace(memory, season=Season(slots, slot, sight.arrived, min(sight.since_s, SLOT_S)))


def _noted(slots: tuple[float, ...], at: int, rate: float, now: int) -> tuple[float, ...]:
    """Return the slots with that of `at`; those until `now` were not seen."""
    found = list(slots)
    found[at % SLOTS] = rate
    for missed in range(at + 1, min(now, at + 1 + SLOTS)):
        found[missed % SLOTS] = -1.0
    return tuple(found)


def reading(sight: Sight, policy: Policy, memory: Memory) -> Reading | None:
    """Return what a burst calls for that is due before a replica that starts now is ready; None where none is."""
    season = memory.season
    if not season.slots or not memory.served:
        return None
    ahead_s = min(cold_start_s(sight) + SHORT_S, SLOTS_AHEAD_MAX * SLOT_S)
    last = int((sight.at_s + ahead_s) // SLOT_S) + 1
    rate, minutes, at = max(
        ((*_due(season.slots, slot), slot) for slot in range(season.slot, last + 1)), default=(0.0, 0, 0)
    )
    if rate <= sight.rate_long:
        return None
    places = max(memory.places, 1.0)
    up, stay = spread(rate * memory.service_s, places, memory.burstiness, policy)
    when_s = max(at * SLOT_S - sight.at_s, 0.0)
    because = (
        f"{rate:.3g} requests/s in {when_s:.0f} s, as {TIMES} times before, every {minutes} min, "
        f"x {memory.service_s:.3g} s ÷ {places:.3g} places, with spare = {up:.2f}"
    )
    return Reading("season", up, stay, because)


def _due(slots: tuple[float, ...], slot: int) -> tuple[float, int]:
    """Return the arrivals a second of a burst that begins in `slot`, and its period in minutes; (0, 0): none does."""
    best, found = BURST_MIN / SLOT_S, 0
    for minutes in PERIODS_MIN:
        every = minutes * 60 // SLOT_S
        least = min(slots[(slot - time * every) % SLOTS] for time in range(1, TIMES + 1))
        if least < best:  # not seen, no burst, or less than another period says
            continue
        before = [slots[(slot - BEFORE - time * every) % SLOTS] for time in range(1, TIMES + 1)]
        if least >= SUDDEN * max(before) and min(before) >= 0.0:
            # It began somewhere in its slot: the next one has all of it.
            following = min(slots[(slot + 1 - time * every) % SLOTS] for time in range(1, TIMES + 1))
            best, found = max(least, following), minutes
    return (best, found) if found else (0.0, 0)
