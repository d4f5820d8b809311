"""What a change of scaling or limits would do: both ways on the same draws of the demand, and the difference."""

from collections.abc import Callable
from typing import Final

import msgspec

from stoker.sim.arrivals import Arrivals
from stoker.sim.calendar import Calendar
from stoker.sim.compare import Figure, figure
from stoker.sim.sizing import demand as demands
from stoker.sim.sizing import trial
from stoker.sim.sizing.answer import Figures, Range
from stoker.sim.sizing.prices import Pool
from stoker.sim.sizing.trial import Kind

DRAWS: Final = 5

Told = Callable[[str, float, float], None]


class Scheduled(msgspec.Struct, frozen=True):
    """A schedule of an endpoint. on_ratio: share of the recording while which it was on."""

    name: str
    min: int | None
    max: int | None
    on_ratio: float


class Side(msgspec.Struct, frozen=True):
    """An endpoint as it is, or as it would be: what it did on each draw."""

    range: Range
    runs: tuple[Figures, ...]
    schedules: tuple[Scheduled, ...] = ()


class Line(msgspec.Struct, frozen=True):
    """One number on both sides, the means of all draws, and the difference with its 95 % interval, draw by draw."""

    name: str
    now: float
    then: float
    difference: Figure

    @property
    def is_clear(self) -> bool:
        """Whether the difference is more than chance."""
        return not self.difference.low <= 0.0 <= self.difference.high


class Change(msgspec.Struct, frozen=True):
    """Both sides, and each number that they differ in. begins_at_s: unix time; 0: no schedule asks for it."""

    now: Side
    then: Side
    lines: tuple[Line, ...]
    begins_at_s: float = 0.0


def compared(
    now: tuple[Kind, Range], then: tuple[Kind, Range], pool: Pool, recorded: Arrivals, seed: int, told: Told
) -> Change:
    """Return what becomes of `recorded` now and then, on `pool`."""
    kinds = now[0], then[0]
    less = demands.sampled(recorded, states=trial.states(kinds, recorded))
    sides: list[Side] = []
    for what, (kind, counted) in (("as it is", now), ("changed", then)):
        runs = []
        for number in range(DRAWS):
            told(what, len(sides) * DRAWS + number, 2 * DRAWS)
            runs.append(trial.run(kind, pool, counted, less, seed + number).figures)
        sides.append(Side(counted, tuple(runs), _scheduled(kind, recorded)))
    first, second = sides
    lines = [
        _line(name, [read(one) for one in first.runs], [read(one) for one in second.runs])
        for name, read in _numbers(now[0]).items()
    ]
    begins_at_s = next((kind.began_s for kind in kinds if kind.schedules), 0.0)
    return Change(first, second, tuple(lines), begins_at_s)


def _scheduled(kind: Kind, recorded: Arrivals) -> tuple[Scheduled, ...]:
    states = Calendar(kind.schedules, kind.began_s).states(recorded.duration_s)
    shares = [sum(on) / len(on) for on in zip(*states, strict=True)]
    return tuple(
        Scheduled(each.name, each.min, each.max, share) for each, share in zip(kind.schedules, shares, strict=True)
    )


def _numbers(kind: Kind) -> dict[str, Callable[[Figures], float]]:
    def kept(name: str) -> Callable[[Figures], float]:
        return lambda one: one.kept[name]

    return {
        **{each.name: kept(each.name) for each in kind.slos},
        "answered": lambda one: one.answered_ratio,
        "closed": lambda one: one.closed_ratio,
        "ttft p95": lambda one: min(one.ttft.p95_s, kind.timeout_s),
        "latency p50": lambda one: min(one.latency.p50_s, kind.timeout_s),
        "latency p95": lambda one: min(one.latency.p95_s, kind.timeout_s),
        "replicas": lambda one: one.replicas_mean,
        "cost an hour": lambda one: one.usd_per_hour,
    }


def _line(name: str, now: list[float], then: list[float]) -> Line:
    found = figure([after - before for before, after in zip(now, then, strict=True)])
    return Line(name, sum(now) / len(now), sum(then) / len(then), found)
