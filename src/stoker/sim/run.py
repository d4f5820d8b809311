"""What came out of a simulated run: waiting, replica-hours, changes, and how it went over time."""

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray


class Sample(NamedTuple):
    """A point of the timeline."""

    at_s: float
    arrived: int  # since the beginning
    ready: int
    starting: int
    waiting: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one policy. `wait_s` has every request, in order of arrival; who was never served waits to the end."""

    policy: str
    duration_s: float
    wait_s: NDArray[np.float64]
    finished: int
    replica_hours: float
    changes: int  # of what was wanted, while requests came
    timeline: list[Sample] = field(default_factory=list)

    def late_ratio(self, late_s: float) -> float:
        """Return the share of requests that waited longer than `late_s`."""
        return float(np.mean(self.wait_s > late_s)) if len(self.wait_s) else 0.0


class Summary(msgspec.Struct, frozen=True):
    """A run in the numbers that policies are compared by."""

    requests: int
    unfinished: int
    wait_p50_s: float
    wait_p95_s: float
    wait_p99_s: float
    late_ratio: float  # waited longer than was said to be late
    replica_hours: float
    changes_per_hour: float


def summary(run: Run, late_s: float) -> Summary:
    """Return `run` in numbers; `late_s` is how long a request may wait."""
    p50, p95, p99 = np.quantile(run.wait_s, [0.5, 0.95, 0.99]) if len(run.wait_s) else (0.0, 0.0, 0.0)
    return Summary(
        requests=len(run.wait_s),
        unfinished=len(run.wait_s) - run.finished,
        wait_p50_s=float(p50),
        wait_p95_s=float(p95),
        wait_p99_s=float(p99),
        late_ratio=run.late_ratio(late_s),
        replica_hours=run.replica_hours,
        changes_per_hour=run.changes * 3600.0 / run.duration_s,
    )
