"""Several policies on the same arrivals, over several seeds: means with intervals, and who is better at what."""

import math
from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from stoker.sim.arrivals import Arrivals
from stoker.sim.endpoint import Terms, simulate
from stoker.sim.policies import Make
from stoker.sim.run import Run, Summary, summary
from stoker.sim.service import Service, seconds

# Student's t at 97.5 % for 1, 2, … degrees of freedom; beyond the table the normal's.
_T: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045,
)  # fmt: skip
_T_MANY: Final = 1.96

Verdict = Literal["better", "trade", "same", "worse"]


class Figure(msgspec.Struct, frozen=True):
    """A mean over seeds, and the interval that its true value is in 19 of 20 times; equal bounds for one seed."""

    mean: float
    low: float
    high: float


class Row(msgspec.Struct, frozen=True):
    """One policy on one load."""

    policy: str
    requests: Figure
    unfinished: int  # of all seeds
    wait_p50_s: Figure
    wait_p95_s: Figure
    wait_p99_s: Figure
    late_ratio: Figure
    replica_hours: Figure
    changes_per_hour: Figure
    runs: tuple[Summary, ...]


Draw = Callable[[int], Arrivals]  # the arrivals of a seed
Told = Callable[[str, int, int], None]  # what runs, how many are done, of how many


def compare(
    policies: dict[str, Make],
    draw: Draw,
    service: Service,
    terms: Terms,
    seeds: Sequence[int],
    late_s: float,
    told: Told | None = None,
) -> list[Row]:
    """Return a row a policy; all of them see the same arrivals and service times, seed by seed."""
    found: dict[str, list[Summary]] = {name: [] for name in policies}
    done = 0
    for seed in seeds:
        arrivals = draw(seed)
        at_s, service_s = arrivals.at_s.tolist(), seconds(service, arrivals, seed).tolist()
        for name, make in policies.items():
            if told is not None:
                told(f"{name}, seed {seed}", done, len(seeds) * len(policies))
            run = simulate(at_s, service_s, make(terms), terms, arrivals.duration_s)
            found[name].append(summary(run, late_s))
            done += 1
    return [row(name, runs) for name, runs in found.items()]


def once(make: Make, arrivals: Arrivals, service: Service, terms: Terms, seed: int) -> Run:
    """Return one run with its timeline."""
    service_s = seconds(service, arrivals, seed).tolist()
    return simulate(arrivals.at_s.tolist(), service_s, make(terms), terms, arrivals.duration_s)


def row(policy: str, runs: Sequence[Summary]) -> Row:
    """Return the means of `runs`."""
    return Row(
        policy=policy,
        requests=figure([run.requests for run in runs]),
        unfinished=sum(run.unfinished for run in runs),
        wait_p50_s=figure([run.wait_p50_s for run in runs]),
        wait_p95_s=figure([run.wait_p95_s for run in runs]),
        wait_p99_s=figure([run.wait_p99_s for run in runs]),
        late_ratio=figure([run.late_ratio for run in runs]),
        replica_hours=figure([run.replica_hours for run in runs]),
        changes_per_hour=figure([run.changes_per_hour for run in runs]),
        runs=tuple(runs),
    )


def figure(values: Sequence[float]) -> Figure:
    """Return the mean of `values` with its interval of 95 % (Student's t)."""
    count = len(values)
    mean = sum(values) / count
    if count == 1:
        return Figure(mean, mean, mean)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    t = _T[count - 2] if count - 2 < len(_T) else _T_MANY
    half = t * spread / math.sqrt(count)
    return Figure(mean, mean - half, mean + half)


def verdict(ours: Row, theirs: Row) -> Verdict:
    """Return how `ours` stands on late requests and replica-hours together (Pareto), by their means.

    "better": in neither more and in one less. "worse": the other way round. "trade": less of one, more of the other.
    """
    late = ours.late_ratio.mean - theirs.late_ratio.mean
    hours = ours.replica_hours.mean - theirs.replica_hours.mean
    if late == hours == 0.0:
        return "same"
    if late <= 0.0 and hours <= 0.0:
        return "better"
    return "worse" if late >= 0.0 and hours >= 0.0 else "trade"
