"""Recorded arrivals as what might come: the stretches that are simulated, drawn again by seed, and multiplied.

A long recording is simulated in parts: its busiest stretch, and of all others, ordered by how much came in them, one
for each group of neighbours, which counts as often as its group has members. Before each stretch comes what came
before it in the recording; that is run, and not counted.

A draw keeps the course of the day and its bursts: pieces of PIECE_S change places within GROUP_S. Twice the demand is
two draws on top of each other, so that the bursts of the second are not those of the first.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stoker.sim.arrivals import Arrivals, Times, of

PIECE_S: Final = 5.0
GROUP_S: Final = 60.0
MINUTE_S: Final = 60.0
GRID: Final = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99)  # shares whose sizes are known, where only these are
LEAD_S: Final = 240.0  # before a stretch
LENGTHS_S: Final = (3600.0, 1800.0, 900.0, 600.0, 300.0, 120.0)  # of a stretch: the longest of which enough fit
STRETCHES_MIN: Final = 5  # so many are enough
SPAN_MAX_S: Final = 21_600.0  # simulated for one trial: six hours take about a second of a core when little comes, and
REQUESTS_MAX: Final = 24_000  # so many requests take another


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the recording. stands_for: how many stretches it counts as; lead_s: not counted, at its beginning."""

    arrivals: Arrivals
    begins_s: float  # in the recording, with its lead
    lead_s: float
    stands_for: int


@dataclass(frozen=True, slots=True)
class Demand:
    """What is simulated of a recording, and how much of it that is."""

    stretches: tuple[Stretch, ...]
    recorded_s: float
    recorded: int  # requests
    per_s: tuple[float, ...]  # of each minute

    @property
    def peak_per_s(self) -> float:
        """What comes in the busiest minute."""
        return max(self.per_s)

    @property
    def simulated_s(self) -> float:
        """How long the stretches are together, without their leads."""
        return sum(each.arrivals.duration_s - each.lead_s for each in self.stretches)

    @property
    def simulated(self) -> int:
        """How many requests are in them."""
        return sum(int(np.sum(each.arrivals.at_s >= each.lead_s)) for each in self.stretches)

    @property
    def jumps(self) -> tuple[tuple[float, float], ...]:
        """Where each stretch begins in a draw, and in the recording, in seconds."""
        starts = np.cumsum([0.0, *(each.arrivals.duration_s for each in self.stretches[:-1])])
        return tuple((float(at_s), each.begins_s) for at_s, each in zip(starts, self.stretches, strict=True))

    def weights(self, at_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how often what happens at each moment of a draw counts."""
        starts = np.cumsum([0.0, *(each.arrivals.duration_s for each in self.stretches)])
        index = np.clip(np.searchsorted(starts, at_s, side="right") - 1, 0, len(self.stretches) - 1)
        lead_s = np.array([each.lead_s for each in self.stretches])[index]
        counts = np.array([float(each.stands_for) for each in self.stretches])[index]
        is_counted = (at_s - starts[index] >= lead_s) & (at_s < starts[-1])
        return np.where(is_counted, counts, 0.0)

    def draw(self, seed: int, times: int = 1) -> Arrivals:
        """Return one course of the demand, at so many `times` of it: the stretches one after the other."""
        return drawn(joined([each.arrivals for each in self.stretches]), seed, times)


def counted(
    counts: Sequence[float], seed: int, input_tokens: Sequence[float] = (), output_tokens: Sequence[float] = ()
) -> Arrivals:
    """Return arrivals of so many requests each minute, and sizes drawn around quantiles of GRID's shares."""
    draws = np.random.default_rng((seed, 11))
    whole = [round(count) for count in counts]
    starts = np.repeat(np.arange(len(whole)) * MINUTE_S, whole)
    at_s = np.sort(starts + draws.uniform(0.0, MINUTE_S, len(starts)))
    sizes = [_sizes(quantiles, len(at_s), draws) for quantiles in (input_tokens, output_tokens)]
    return Arrivals(at_s, len(whole) * MINUTE_S, sizes[0], sizes[1])


def _sizes(quantiles: Sequence[float], count: int, draws: np.random.Generator) -> NDArray[np.int64]:
    if not quantiles:
        return np.zeros(0, dtype=np.int64)
    found = np.interp(draws.uniform(0.0, 1.0, count), GRID, quantiles)
    return np.maximum(np.rint(found), 1).astype(np.int64)


def sized(recorded: Arrivals) -> Arrivals:
    """Return `recorded`, without its sizes where they are all 0: nobody has said them."""
    if np.any(recorded.input_tokens) or np.any(recorded.output_tokens):
        return recorded
    return replace(of(recorded.at_s, recorded.duration_s), began_s=recorded.began_s)


def sampled(
    recorded: Arrivals,
    requests_max: int = REQUESTS_MAX,
    span_max_s: float = SPAN_MAX_S,
    states: Sequence[Hashable] = (),
) -> Demand:
    """Return what is simulated of `recorded`: all of it, or stretches that together are not larger than that.

    states: of each minute, such as which schedules are on; a stretch stands only for others that went through the same.
    """
    per_s = tuple((_per(recorded, MINUTE_S) / min(MINUTE_S, recorded.duration_s)).tolist())
    if len(recorded) <= requests_max and recorded.duration_s <= span_max_s:
        whole = Stretch(recorded, 0.0, 0.0, 1)
        return Demand((whole,), recorded.duration_s, len(recorded), per_s)
    chosen: dict[int, int] = {}
    length_s = 0.0
    for length_s in (min(each, recorded.duration_s) for each in LENGTHS_S):
        counts = _per(recorded, length_s)[: max(int(recorded.duration_s / length_s), 1)]
        chosen = _chosen(counts, requests_max, max(int(span_max_s / length_s), 2), _courses(states, length_s, counts))
        if len(chosen) >= STRETCHES_MIN:
            break
    stretches = tuple(_stretch(recorded, at * length_s, length_s, times) for at, times in sorted(chosen.items()))
    return Demand(stretches, recorded.duration_s, len(recorded), per_s)


def _chosen(counts: NDArray[np.int64], requests_max: int, most: int, courses: NDArray[np.int64]) -> dict[int, int]:
    """Return which stretches are simulated, each with how many it stands for: as many as there is room for."""
    order = np.argsort(-counts, kind="stable")
    rest = order[1:]
    alike = [rest[courses[rest] == each] for each in np.unique(courses[rest])]
    found = {int(order[0]): 1}
    for groups in range(1, min(most, len(order))):
        tried = {int(order[0]): 1}
        for part in alike:
            for group in np.array_split(part, max(round(groups * len(part) / len(rest)), 1)):
                middle = group[int(np.argmin(np.abs(counts[group] - np.mean(counts[group]))))]
                tried[int(middle)] = len(group)
        if sum(int(counts[at]) for at in tried) > requests_max and len(found) > 1:
            break
        found = tried
    return found


def _courses(states: Sequence[Hashable], length_s: float, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number for each stretch, the same for those that go through the same states in the same order."""
    known: dict[tuple[Hashable, ...], int] = {}
    found = []
    for number in range(len(counts)):
        first, last = (int((number + more) * length_s / MINUTE_S) for more in (0, 1))
        course = tuple(state for state, _ in groupby(states[first:last]))
        found.append(known.setdefault(course, len(known)))
    return np.array(found, dtype=np.int64)


def _stretch(recorded: Arrivals, begins_s: float, length_s: float, stands_for: int) -> Stretch:
    lead_s = min(LEAD_S, begins_s, length_s)
    return Stretch(between(recorded, begins_s - lead_s, begins_s + length_s), begins_s - lead_s, lead_s, stands_for)


def between(whole: Arrivals, begins_s: float, ends_s: float) -> Arrivals:
    """Return what comes from `begins_s` until `ends_s`, counted from there."""
    low, high = np.searchsorted(whole.at_s, [begins_s, ends_s])
    part = slice(int(low), int(high))
    read, written = whole.input_tokens[part], whole.output_tokens[part]
    return Arrivals(whole.at_s[part] - begins_s, ends_s - begins_s, read, written, whole.blocks[part])


def joined(parts: Sequence[Arrivals]) -> Arrivals:
    """Return `parts` one after the other."""
    starts = np.cumsum([0.0, *(each.duration_s for each in parts)])
    at_s = np.concatenate([each.at_s + start for each, start in zip(parts, starts, strict=False)])
    read, written = (
        np.concatenate([getattr(each, name) for each in parts]) for name in ("input_tokens", "output_tokens")
    )
    blocks = tuple(block for each in parts for block in each.blocks)
    return Arrivals(at_s, float(starts[-1]), read, written, blocks)


def drawn(recorded: Arrivals, seed: int, times: int = 1) -> Arrivals:
    """Return a draw of `recorded` at so many `times` its demand. Seed 0 has the recording itself as its first layer."""
    draws = np.random.default_rng((seed, 12))
    layers = [recorded.at_s if seed == layer == 0 else _shuffled(recorded, draws) for layer in range(times)]
    at_s = np.concatenate(layers)
    order = np.argsort(at_s, kind="stable")
    read, written = (
        np.tile(tokens, times)[order] if len(tokens) else tokens
        for tokens in (recorded.input_tokens, recorded.output_tokens)
    )
    blocks = tuple(recorded.blocks[at % len(recorded)] for at in order) if recorded.blocks else ()
    return Arrivals(at_s[order], recorded.duration_s, read, written, blocks)


def _shuffled(recorded: Arrivals, draws: np.random.Generator) -> Times:
    """Return the moments with the pieces of each group in another order; the last, broken group is as it was."""
    each = round(GROUP_S / PIECE_S)
    groups = int(recorded.duration_s / GROUP_S)
    places = draws.permuted(np.tile(np.arange(each), (groups, 1)), axis=1).ravel() if groups else np.zeros(0, int)
    piece = (recorded.at_s / PIECE_S).astype(int)
    is_whole = piece < groups * each
    to = piece.copy()
    to[is_whole] = piece[is_whole] // each * each + places[piece[is_whole]]
    moved: Times = recorded.at_s + (to - piece) * PIECE_S
    return moved


def _per(arrivals: Arrivals, length_s: float) -> NDArray[np.int64]:
    """Return how many come in each stretch of `length_s`."""
    stretches = max(int(np.ceil(arrivals.duration_s / length_s)), 1)
    return np.bincount((arrivals.at_s / length_s).astype(int), minlength=stretches)
