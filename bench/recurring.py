"""Bursts that come again: what the signal `season` is worth, and what it costs loads that have none.

Part of `python -m bench --only scaling`. The same arrivals twice, with the signal and without, over hours: jobs that
begin at the same moment of every period, on time and not quite, and loads whose bursts come at any time. The recorded
traces are shorter than three periods, so they are sent over and over, each time from another moment.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from bench.figures import Figure
from stoker.core.scale.policy import Policy as Rules
from stoker.sim import arrivals, traces
from stoker.sim.arrivals import Arrivals
from stoker.sim.compare import Figure as Interval
from stoker.sim.compare import Row, compare
from stoker.sim.endpoint import Terms
from stoker.sim.ours import Stoker
from stoker.sim.service import ByTokens, Drawn, Service
from stoker.sim.sizing.demand import joined
from stoker.types.scaling import USUAL_SIGNALS

HOURS: Final = 6
QUIET, BUSY = 2.0, 30.0
# Minutes between two beginnings, seconds of a burst, and by how many seconds (standard deviation) one is off.
JOBS: Final = ((10, 60, 0), (15, 60, 0), (30, 120, 0), (60, 300, 0), (60, 60, 0), (30, 120, 10), (15, 60, 30))
OTHERS: Final = ("sine", "gamma", "edge", "poisson", "bursts")
WITHOUT: Final = tuple(each for each in USUAL_SIGNALS if each != "season")
FEWER: Final = 0.75  # late requests with it, over those without: at most
HARM: Final = 1.01  # replica-hours of loads without such bursts
HEADINGS: Final = ["load", "late, %, without", "with", "replica-hours, without", "with"]

Make = Callable[[int], Arrivals]


def jobs(every_min: int, lasts_s: int, off_s: int) -> Make:
    """Return what draws a quiet load with bursts of that kind; the first comes at any moment of its period."""

    def make(seed: int) -> Arrivals:
        draws = np.random.default_rng((seed, 18))
        duration_s, every_s = HOURS * 3600.0, every_min * 60.0
        begins_s = np.arange(draws.uniform(0.0, every_s), duration_s, every_s)
        begins_s += draws.normal(0.0, off_s, len(begins_s)) if off_s else 0.0

        def rate(at_s: arrivals.Times) -> arrivals.Times:
            since_s = at_s[:, None] - begins_s
            return np.where(np.any((since_s >= 0.0) & (since_s < lasts_s), axis=1), BUSY, QUIET)

        return arrivals.poisson(rate, BUSY, duration_s, draws)

    return make


def others(folder: Path | None, files: dict[str, str]) -> dict[str, tuple[Make, Service]]:
    """Return the loads that it must not harm."""
    found: dict[str, tuple[Make, Service]] = {
        name: ((lambda seed, load=name: arrivals.make(load, seed, HOURS * 3600.0)), Drawn()) for name in OTHERS
    }
    for name, file in files.items() if folder is not None else ():
        recorded = traces.read(folder / file)
        found[f"{name}, again and again"] = (lambda seed, one=recorded: _again(one, seed), ByTokens())
    return found


def _again(recorded: Arrivals, seed: int) -> Arrivals:
    times = int(HOURS * 3600.0 / recorded.duration_s)
    return joined([arrivals.rotated(recorded, 10 * seed + time) for time in range(times)])


def measure(folder: Path | None, files: dict[str, str], seeds: range) -> tuple[list[Figure], list[list[str]]]:
    """Return what must hold, and the table."""
    table, figures, harm = [HEADINGS], [], 0.0
    for name, (make, service) in _loads(folder, files).items():
        policies = {"without": _policy(WITHOUT), "with": _policy(USUAL_SIGNALS)}
        without, having = compare(policies, make, service, Terms(cold_start_s=40.0), seeds, 1.0)
        table.append([name, *(_cell(getattr(row, field), times) for field, times in (("late_ratio", 100.0),
                     ("replica_hours", 1.0)) for row in (without, having))])  # fmt: skip
        if name.startswith("every"):
            figures.append(_gain(name, without, having))
        else:
            harm = max(harm, having.replica_hours.mean / without.replica_hours.mean)
    figures.append(Figure("replica-hours with it of loads that have none, at the most", harm, "times", HARM, "at most"))
    return figures, table


def _loads(folder: Path | None, files: dict[str, str]) -> dict[str, tuple[Make, Service]]:
    found: dict[str, tuple[Make, Service]] = {}
    for every_min, lasts_s, off_s in JOBS:
        late = f", {off_s} s off" if off_s else ""
        found[f"every {every_min} min for {lasts_s} s{late}"] = jobs(every_min, lasts_s, off_s), Drawn()
    return {**found, **others(folder, files)}


def _policy(signals: tuple[str, ...]) -> Callable[[Terms], Stoker]:
    return lambda terms: Stoker(Rules(min=terms.least, max=terms.most, signals=signals))


def _gain(name: str, without: Row, having: Row) -> Figure:
    note = f"{without.replica_hours.mean:.2f} → {having.replica_hours.mean:.2f} replica-hours"
    times = having.late_ratio.mean / max(without.late_ratio.mean, 1e-9)
    return Figure(f"{name}: late requests with it over those without", times, "times", FEWER, "at most", note)


def _cell(one: Interval, times: float) -> str:
    return f"{one.mean * times:.2f} ± {(one.high - one.mean) * times:.2f}"
