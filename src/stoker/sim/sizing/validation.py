"""How far the simulation of an endpoint as it is was from what was measured, on the same requests."""

import math
from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec
import numpy as np

from stoker.sim.arrivals import Arrivals, poisson
from stoker.sim.sizing import trial
from stoker.sim.sizing.answer import Figures, Range
from stoker.sim.sizing.demand import GRID, Demand
from stoker.sim.sizing.prices import UNPRICED
from stoker.sim.sizing.trial import Kind

DRAWS: Final = 3
# How far off each number may be, as a share of what was measured: what is promised of the simulator.
BOUNDS: Final = {
    "ttft p50": 0.15,
    "ttft p95": 0.25,
    "latency p50": 0.15,
    "latency p95": 0.25,
    "replica-hours": 0.10,
}
EVEN: Final = 101  # quantiles by which two times are added

Told = Callable[[str, float, float], None]


class Checked(msgspec.Struct, frozen=True):
    """One number; infinite where so many requests had no answer. bound: how far off it may be, as a share."""

    name: str
    measured: float
    simulated: float
    bound: float

    @property
    def off(self) -> float:
        """How far the simulation was off, as a share; above 0 it said more."""
        return 0.0 if self.simulated == self.measured else self.simulated / self.measured - 1.0

    @property
    def is_near(self) -> bool:
        """Whether it is within the bound."""
        return abs(self.off) <= self.bound


class Validation(msgspec.Struct, frozen=True):
    """The numbers that were measured, beside those that were simulated.

    source: a load that was sent for it, measured by who sent it, or the history of what came in the last day, measured
    by the platform. lasts_s: of the traffic. failed: had no answer. left_out: could not be sent when they were due.
    client_s: the median of what the client and its way to the gateway took.
    """

    requests: int
    lasts_s: float
    lines: tuple[Checked, ...]
    source: Literal["load", "history"] = "history"
    failed: int = 0
    left_out: int = 0
    client_s: float = 0.0
    engine: str = "as measured in the last day"


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


def load(per_s: float, lasts_s: float, seed: int) -> Arrivals:
    """Return Poisson arrivals at a steady rate."""
    draws = np.random.default_rng((seed, 14))
    return poisson(lambda at_s: np.full_like(at_s, per_s), per_s, lasts_s, draws)


def quantiles(name: str, taken_s: Sequence[float]) -> dict[str, float]:
    """Return P50 and P95 by the names of BOUNDS, of times that are infinite for who had no answer, as a trial does."""
    ordered = sorted(taken_s)
    return {
        f"{name} p{round(share * 100)}": ordered[max(math.ceil(share * len(ordered) * (1 - 1e-9)), 1) - 1]
        for share in (0.5, 0.95)
        if ordered
    }


def together(one_s: Sequence[float], other_s: Sequence[float]) -> tuple[float, ...]:
    """Return quantiles at GRID's shares of the sum of two times that know nothing of each other; each is such too."""
    shares = np.linspace(0.0, 1.0, EVEN)
    first, second = (np.interp(shares, GRID, each) if each else np.zeros(EVEN) for each in (one_s, other_s))
    return tuple(np.quantile(np.add.outer(first, second), GRID).tolist())


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
