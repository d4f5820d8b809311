"""How far the simulation of an endpoint as it is was from what its platform measured, on the same requests."""

from collections.abc import Callable
from typing import Final

import msgspec

from stoker.sim.arrivals import Arrivals
from stoker.sim.sizing import demand as demands
from stoker.sim.sizing import trial
from stoker.sim.sizing.answer import Figures, Range
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

Told = Callable[[str, float, float], None]


class Checked(msgspec.Struct, frozen=True):
    """One number. off: simulated by measured, less 1; bound: how far it may be."""

    name: str
    measured: float
    simulated: float
    bound: float

    @property
    def off(self) -> float:
        """How far the simulation was off, as a share; above 0 it said more."""
        return self.simulated / self.measured - 1.0

    @property
    def is_near(self) -> bool:
        """Whether it is within the bound."""
        return abs(self.off) <= self.bound


class Validation(msgspec.Struct, frozen=True):
    """The numbers that were measured, beside those that were simulated. lasts_s: of the traffic."""

    requests: int
    lasts_s: float
    lines: tuple[Checked, ...]


def validated(
    kind: Kind, counted: Range, recorded: Arrivals, measured: dict[str, float], seed: int, told: Told
) -> Validation:
    """Compare. measured: by the names of BOUNDS, times in seconds; what was not measured is left out."""
    whole = demands.sampled(recorded)
    runs = []
    for number in range(DRAWS):
        told("as it is", number, DRAWS)
        runs.append(trial.run(kind, UNPRICED, counted, whole, seed + number).figures)
    lines = [
        Checked(name, measured[name], sum(_read(name, one, recorded) for one in runs) / DRAWS, bound)
        for name, bound in BOUNDS.items()
        if measured.get(name)
    ]
    return Validation(len(recorded), recorded.duration_s, tuple(lines))


def _read(name: str, one: Figures, recorded: Arrivals) -> float:
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
            return one.replicas_mean * recorded.duration_s / 3600.0
