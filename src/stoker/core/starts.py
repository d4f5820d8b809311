"""How long starts take, phase by phase: the last one beside the median and the slow ones."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final

from stoker.types.starts import FIRST_ANSWER, FORKED, ORDER, PROCESS, TOTAL, PhaseTimes, Start, StartTimes, Took

SLOW_QUANTILE: Final = 0.9
KNOWN_MAX: Final = 20  # starts of an endpoint that scaling counts with
LATELY_MAX: Final = 50


def summarise(starts: Iterable[Start]) -> tuple[StartTimes, ...]:
    """Return the times of each revision and engine, the one that started last first."""
    groups: dict[tuple[str, str], list[Start]] = {}
    for each in sorted(starts, key=lambda one: one.at_s):
        groups.setdefault((each.revision, each.engine), []).append(each)
    found = [
        StartTimes(revision, engine, group[-1].at_s, tuple(_phases(group)), _lately(group))
        for (revision, engine), group in groups.items()
    ]
    return tuple(sorted(found, key=lambda one: one.last_at_s, reverse=True))


def quantile(values: Sequence[float], ratio: float) -> float:
    """Return the value of `values` (at least one) that a share `ratio` of them does not exceed: one that was seen."""
    return sorted(values)[int(ratio * (len(values) - 1) + 0.5)]


def expected_s(starts_s: Sequence[float]) -> float:
    """Return what scaling takes the next start for, from the last KNOWN_MAX; 0 where none is known."""
    return quantile(starts_s, SLOW_QUANTILE) if starts_s else 0.0


def _lately(group: Sequence[Start]) -> tuple[Took, ...]:
    ordered = [each for each in group if not each.is_restart]
    if not ordered:
        return ()
    alike = [each for each in ordered if (FORKED in each.phases) == (FORKED in ordered[-1].phases)]
    return tuple(Took(each.at_s, each.phases.get(ORDER, 0.0) + each.total_s) for each in alike[-LATELY_MAX:])


def _phases(group: Sequence[Start]) -> Iterable[PhaseTimes]:
    taken: dict[str, list[float]] = {}
    for start in group:
        for phase, seconds in start.phases.items():
            taken.setdefault(phase, []).append(seconds)
    first_answers = taken.pop(FIRST_ANSWER, [])
    taken = {phase: taken[phase] for phase in _order(group, taken)}
    taken[TOTAL] = [start.total_s for start in group]
    if first_answers:
        taken[FIRST_ANSWER] = first_answers
    last = {**group[-1].phases, TOTAL: group[-1].total_s}
    for phase, each in taken.items():
        yield PhaseTimes(phase, last.get(phase), median(each), quantile(each, SLOW_QUANTILE), len(each))


def _order(group: Sequence[Start], known: Iterable[str]) -> list[str]:
    """Return phases in the order of the start that had most of them, then those that it did not have."""
    fullest = max(group, key=lambda start: len(start.phases))
    places = {phase: at for at, phase in enumerate(fullest.phases)}
    for one, other in ((PROCESS, FORKED), (FORKED, PROCESS)):  # a start has one of them, in the same place
        if one in places:
            places.setdefault(other, places[one])
    return sorted(known, key=lambda phase: places.get(phase, len(places)))
