"""Scaling policies on the same arrivals: late requests and replica-hours of ours beside Knative's, Ray's and the HPA's.

`python -m bench --only scaling`. Five loads and two recorded traces (where `shared/traces` is beside the project), and
three loads on which nothing was tuned. A replica has 4 places, takes 40 s to start, and there are 1 to 20 of them. The
function that decides is the one that runs live.
"""

from pathlib import Path
from typing import Final

from bench.figures import Figure
from bench.report import Section
from bench.rounds import say
from stoker.sim import arrivals, traces
from stoker.sim.compare import Draw, Row, compare, verdict
from stoker.sim.compare import Figure as Interval
from stoker.sim.endpoint import Terms
from stoker.sim.policies import RIVALS, named
from stoker.sim.service import ByTokens, Drawn, Service

TRACES: Final = {"azure-code": "azure_llm_2023_code.csv", "mooncake": "mooncake_synthetic.jsonl"}
UNSEEN: Final = ("poisson", "day", "bursts")
POLICIES: Final = ("stoker", "kpa", "kpa-300", "ray", "hpa")
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
    folder = next((each / "shared" / "traces" for each in Path(__file__).parents if (each / "shared").is_dir()), None)
    for name, file in TRACES.items() if folder is not None else ():
        trace = traces.read(folder / file)
        found[name] = (lambda seed, recorded=trace: arrivals.rotated(recorded, seed), ByTokens())
    return found


def measure(seeds: int) -> Section:
    """Run every policy on every load."""
    table = [HEADINGS]
    verdicts: dict[str, list[str]] = {}
    edge_changes = 0.0
    for load, (draw, service) in loads().items():
        say(f"  {load}")
        rows = compare({name: named(name) for name in POLICIES}, draw, service, Terms(), range(seeds), LATE_S)
        ours = rows[0]
        verdicts[load] = [verdict(ours, row) for row in rows if row.policy in RIVALS]
        edge_changes = ours.changes_per_hour.mean if load == "edge" else edge_changes
        table += [_cells(load, row, ours) for row in rows]
    first = {load: found for load, found in verdicts.items() if load not in UNSEEN}
    better = [load for load, found in first.items() if all(one == "better" for one in found)]
    worse = [load for load, found in verdicts.items() if "worse" in found]
    rivals = ", ".join(RIVALS)
    figures = [
        Figure(
            f"loads and traces of {len(first)} with fewer late requests and fewer replica-hours than {rivals}",
            float(len(better)),
            hold=float(BETTER_MIN),
            keep="at least",
            note=", ".join(better),
        ),
        Figure(
            f"loads and traces of all {len(verdicts)} with more of both than one of them",
            float(len(worse)),
            hold=0.0,
            keep="at most",
            note=", ".join(worse),
        ),
        Figure("changes at the boundary of a replica", edge_changes, "an hour", EDGE_CHANGES_MAX, "at most"),
    ]
    return Section("Scaling, simulated", figures, {f"means of {seeds} seeds, intervals of 95 %": table})


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
