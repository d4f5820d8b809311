"""How far the simulation of an endpoint as it is was from what was measured, on the same requests."""

import math
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np

from stoker.core import ranks
from stoker.sim.arrivals import Arrivals, poisson
from stoker.sim.sizing import traced, trial
from stoker.sim.sizing.answer import Figures, Range
from stoker.sim.sizing.demand import Demand
from stoker.sim.sizing.prices import UNPRICED
from stoker.sim.sizing.trial import Kind

SHARES: Final = 0.5, 0.95
DRAWS: Final = 3
# Of a load, by each fold: its few starts are drawn in each, and of 40 the least and the most hold one more in 39 of 41.
JUDGED_DRAWS: Final = 20
# What can be said of a number that was measured on so many requests. Near it may be by chance, and off it too.
Verdict = Literal["within", "outside", "cannot be told", ""]
# How far off each number may be, as a share of what was measured: what is promised of the simulator.
BOUNDS: Final = {
    "ttft p50": 0.15,
    "ttft p95": 0.25,
    "latency p50": 0.15,
    "latency p95": 0.25,
    "replica-hours": 0.10,
}

Told = Callable[[str, float, float], None]


class Measured(NamedTuple):
    """What became of the arrivals with these numbers. taken_s: by `ttft` and `latency`; replica_hours: 0, unknown."""

    numbers: Sequence[int]
    taken_s: dict[str, Sequence[float]]
    replica_hours: float = 0.0


class Checked(msgspec.Struct, frozen=True):
    """One number; infinite where so many requests had no answer. bound: how far off it may be, as a share.

    low, high: between which the truth lies that was measured on so many requests, 19 times of 20 (core/ranks.py);
    high is infinite where the requests were too few to say, and 0 where nothing is known of it. Replica-hours are
    measured once: what was measured is as far from the truth as simulated draws are from their mean.
    """

    name: str
    measured: float
    simulated: float
    bound: float
    low: float = 0.0
    high: float = 0.0

    @property
    def off(self) -> float:
        """How far the simulation was off, as a share; above 0 it said more."""
        return _off(self.simulated, self.measured)

    @property
    def is_near(self) -> bool:
        """Whether it is within the bound."""
        return abs(self.off) <= self.bound

    @property
    def is_chance(self) -> bool:
        """Whether what was measured is not as sure itself as the bound is narrow."""
        return bool(self.high) and not self.measured / (1 + self.bound) <= self.low <= self.high <= self.measured * (
            1 + self.bound
        )

    @property
    def verdict(self) -> Verdict:
        """Whether the simulation surely is within the bound of the truth, surely is not, or neither; "": no range."""
        if not self.high:
            return ""
        least, most = _off(self.simulated, self.high), _off(self.simulated, self.low)
        if -self.bound <= least and most <= self.bound:
            return "within"
        return "outside" if most < -self.bound or least > self.bound else "cannot be told"


class Validation(msgspec.Struct, frozen=True):
    """The numbers that were measured, beside those that were simulated.

    source: a load that was sent for it, or the history of what came in the last day; both as gateways measured it.
    lasts_s: of the traffic. failed: had no answer. left_out: could not be sent when they were due. judged: requests of
    the load that were compared. client_s: the median as the client saw it. by_day: the same numbers with the engine as
    the last day before the load knew it.
    """

    requests: int
    lasts_s: float
    lines: tuple[Checked, ...]
    source: Literal["load", "history"] = "history"
    failed: int = 0
    left_out: int = 0
    judged: int = 0
    client_s: float = 0.0
    engine: str = "as measured in the last day"
    by_day: tuple[Checked, ...] = ()


def validated(
    kind: Kind, counted: Range, demand: Demand, measured: dict[str, float], seed: int, told: Told
) -> Validation:
    """Compare. measured: by the names of BOUNDS, times in seconds; what was not measured is left out."""
    runs = []
    for number in range(DRAWS):
        told("as it is", number, DRAWS)
        runs.append(trial.run(kind, UNPRICED, counted, demand, seed + number).figures)
    lines = [
        Checked(name, measured[name], sum(_read(name, one, demand) for one in runs) / DRAWS, bound)
        for name, bound in BOUNDS.items()
        if measured.get(name)
    ]
    return Validation(demand.recorded, demand.recorded_s, tuple(lines))


def judged(
    kinds: Sequence[Kind], counted: Range, arrivals: Arrivals, measured: Measured, seed: int, told: Told
) -> tuple[Checked, ...]:
    """Compare what became of those of these very arrivals that were measured.

    kinds: one for each fold of traced.fold, or one for all.
    """
    numbers = np.array(measured.numbers)
    folds = np.array([traced.fold(at_s) for at_s in arrivals.at_s[numbers]]) % len(kinds)
    simulated_s: dict[str, list[float]] = {name: [] for name in measured.taken_s}
    replicas = []
    for number in range(JUDGED_DRAWS * len(kinds)):
        told("as it is", number, JUDGED_DRAWS * len(kinds))
        kind, mine = kinds[number % len(kinds)], numbers[folds == number % len(kinds)]
        lived = trial.lived(kind, counted, arrivals, seed + number)
        for name, column in simulated_s.items():
            column.extend((lived.ttft_s if name == "ttft" else lived.latency_s)[mine].tolist())
        replicas.append(lived.replica_hours)
    found: dict[str, Checked] = {}
    for name, taken_s in measured.taken_s.items():
        simulated, ranges = quantiles(name, simulated_s[name]), _ranges(name, taken_s)
        found |= {
            key: Checked(key, value, simulated[key], BOUNDS[key], *ranges[key])
            for key, value in quantiles(name, taken_s).items()
        }
    if measured.replica_hours:
        name, mean = "replica-hours", sum(replicas) / len(replicas)
        low, high = (measured.replica_hours * mean / max(each, 1e-9) for each in (max(replicas), min(replicas)))
        found[name] = Checked(name, measured.replica_hours, mean, BOUNDS[name], low, high)
    return tuple(found[name] for name in BOUNDS if name in found)


def load(per_s: float, lasts_s: float, seed: int) -> Arrivals:
    """Return Poisson arrivals at a steady rate."""
    draws = np.random.default_rng((seed, 14))
    return poisson(lambda at_s: np.full_like(at_s, per_s), per_s, lasts_s, draws)


def quantiles(name: str, taken_s: Sequence[float]) -> dict[str, float]:
    """Return P50 and P95 by the names of BOUNDS, of times that are infinite for who had no answer, as a trial does."""
    ordered = sorted(taken_s)
    return {
        f"{name} p{round(share * 100)}": ordered[max(math.ceil(share * len(ordered) * (1 - 1e-9)), 1) - 1]
        for share in SHARES
        if ordered
    }


def _ranges(name: str, taken_s: Sequence[float]) -> dict[str, tuple[float, float]]:
    """Return between which each quantile lies, as sure as these are many.

    Where two kinds of requests meet at a quantile, such as those that waited for a start and those that did not, one
    more or less of them moves it from one kind to the other.
    """
    return {f"{name} p{round(share * 100)}": ranks.interval(taken_s, share) for share in SHARES if taken_s}


def _off(simulated: float, true: float) -> float:
    if simulated == true:
        return 0.0
    return simulated / true - 1.0 if true else math.inf


def _read(name: str, one: Figures, demand: Demand) -> float:
    match name:
        case "ttft p50":
            return one.ttft.p50_s
        case "ttft p95":
            return one.ttft.p95_s
        case "latency p50":
            return one.latency.p50_s
        case "latency p95":
            return one.latency.p95_s
        case _:
            return one.replicas_mean * demand.recorded_s / 3600.0
