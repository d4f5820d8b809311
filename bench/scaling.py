"""Scaling policies on the same arrivals: late requests and replica-hours of ours beside Knative's, Ray's and the HPA's.

`python -m bench --only scaling`. Five loads and two recorded traces (where `shared/traces` is beside the project, or
STOKER_TRACES says where), three loads more, and parts of the traces on which nothing was tuned; with seeds that no
number was tuned on. A replica has 4 places, takes 10, 40 or 120 s to start, and there are 1 to 20 of them. The function
that decides is the one that runs live.
"""

import os
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench import recurring
from bench.figures import Figure
from bench.report import Section
from bench.rounds import say
from stoker.sim import arrivals, traces
from stoker.sim.arrivals import Arrivals
from stoker.sim.compare import Draw, Row, compare, verdict
from stoker.sim.compare import Figure as Interval
from stoker.sim.endpoint import Terms
from stoker.sim.policies import RIVALS, named
from stoker.sim.service import ByTokens, Drawn, Service

TRACES: Final = {"azure-code": "azure_llm_2023_code.csv", "mooncake": "mooncake_synthetic.jsonl"}
UNSEEN: Final = ("poisson", "day", "bursts")
POLICIES: Final = ("stoker", "kpa", "kpa-300", "ray", "hpa")
COLD_STARTS_S: Final = (10.0, 40.0, 120.0)
USUAL_S: Final = 40.0
FIRST_SEED: Final = 100
TRACES_ENV: Final = "STOKER_TRACES"
LATE_S: Final = 1.0
BETTER_MIN: Final = 5  # of the five loads and two traces
EDGE_CHANGES_MAX: Final = 6.0  # an hour

HEADINGS: Final = [
    "load",
    "policy",
    "wait p50, s",
    "p95, s",
    "p99, s",
    "late, %",
    "replica-hours",
    "changes/h",
    "stoker is",
]


def loads() -> dict[str, tuple[Draw, Service]]:
    """Return what is run, by name: how the arrivals of a seed are drawn, and what a request takes."""
    found: dict[str, tuple[Draw, Service]] = {}
    for name in (*arrivals.FIRST_LOADS, *UNSEEN):
        found[name] = (lambda seed, load=name: arrivals.make(load, seed), Drawn())
    folder = _folder()
    for name, file in TRACES.items() if folder is not None else ():
        for part, made in _parts(traces.read(folder / file)).items():
            found[name + part] = (lambda seed, recorded=made: arrivals.rotated(recorded, seed), ByTokens())
    return found


def _folder() -> Path | None:
    """Return where the recorded traces are."""
    if said := os.environ.get(TRACES_ENV):
        return Path(said)
    return next((each / "shared" / "traces" for each in Path(__file__).parents if (each / "shared").is_dir()), None)


def _parts(trace: Arrivals) -> dict[str, Arrivals]:
    """Return the trace, its halves, and half of its requests."""
    half_s = trace.duration_s / 2
    first = trace.at_s < half_s
    every = np.arange(len(trace))
    return {
        "": trace,
        ", first half": _some(trace, every[first], 0.0, half_s),
        ", second half": _some(trace, every[~first], half_s, half_s),
        ", each second request": _some(trace, every[::2], 0.0, trace.duration_s),
    }


def _some(trace: Arrivals, which: NDArray[np.int64], since_s: float, duration_s: float) -> Arrivals:
    return Arrivals(trace.at_s[which] - since_s, duration_s, trace.input_tokens[which], trace.output_tokens[which])


def measure(seeds: int) -> Section:
    """Run every policy on every load, at every cold start."""
    tables: dict[str, list[list[str]]] = {}
    verdicts: dict[tuple[str, float], list[str]] = {}
    edge_changes = 0.0
    more, tables["bursts that come again, with the signal `season` and without, cold start 40 s"] = recurring.measure(
        _folder(), TRACES, range(FIRST_SEED, FIRST_SEED + max(seeds // 2, 1))
    )
    for cold_s in COLD_STARTS_S:
        table = tables[f"cold start {cold_s:g} s: means of {seeds} seeds, intervals of 95 %"] = [HEADINGS]
        for load, (draw, service) in loads().items():
            say(f"  {cold_s:g} s, {load}")
            policies = {name: named(name) for name in POLICIES if cold_s == USUAL_S or name != "kpa-300"}
            drawn = range(FIRST_SEED, FIRST_SEED + seeds)
            rows = compare(policies, draw, service, Terms(cold_start_s=cold_s), drawn, LATE_S)
            ours = rows[0]
            verdicts[load, cold_s] = [verdict(ours, row) for row in rows if row.policy in RIVALS]
            edge_changes = ours.changes_per_hour.mean if (load, cold_s) == ("edge", USUAL_S) else edge_changes
            table += [_cells(load, row, ours) for row in rows]
    return Section("Scaling, simulated", [*_figures(verdicts, edge_changes), *more], tables)


def _figures(verdicts: dict[tuple[str, float], list[str]], edge_changes: float) -> list[Figure]:
    held = {
        load: found
        for (load, cold_s), found in verdicts.items()
        if cold_s == USUAL_S and load in (*arrivals.FIRST_LOADS, *TRACES)
    }
    better = [load for load, found in held.items() if all(one == "better" for one in found)]
    worse = [f"{load} at {cold_s:g} s" for (load, cold_s), found in verdicts.items() if "worse" in found]
    everywhere = [load for load, found in verdicts.items() if all(one == "better" for one in found)]
    rivals = ", ".join(RIVALS)
    return [
        Figure(
            f"loads and traces of {len(held)} with fewer late requests and fewer replica-hours than {rivals}",
            float(len(better)),
            hold=float(BETTER_MIN),
            keep="at least",
            note=", ".join(better),
        ),
        Figure(
            f"of all {len(verdicts)} loads, traces and cold starts: with fewer of both than all of them",
            float(len(everywhere)),
        ),
        Figure("the same: with more of both than one of them", float(len(worse)), "", 0.0, "at most", ", ".join(worse)),
        Figure("changes at the boundary of a replica", edge_changes, "an hour", EDGE_CHANGES_MAX, "at most"),
    ]


def _cells(load: str, row: Row, ours: Row) -> list[str]:
    return [
        load,
        row.policy,
        f"{row.wait_p50_s.mean:.1f}",
        f"{row.wait_p95_s.mean:.1f}",
        _interval(row.wait_p99_s, 1.0, 1),
        _interval(row.late_ratio, 100.0, 1),
        _interval(row.replica_hours, 1.0, 2),
        _interval(row.changes_per_hour, 1.0, 0),
        "" if row is ours else verdict(ours, row),
    ]


def _interval(one: Interval, times: float, digits: int) -> str:
    return f"{one.mean * times:.{digits}f} ± {(one.high - one.mean) * times:.{digits}f}"
