"""What one line of the catalogue says."""

from dataclasses import dataclass
from typing import Final, Literal

MetricKind = Literal["counter", "gauge", "histogram"]
Unit = Literal["", "seconds", "bytes", "tokens", "rows", "ratio"]
# What a gauge of several processes is: all of them together, the largest, or what was said last. Two gateways that
# both see one replica see one cache: its use is not their sum.
MergeRule = Literal["sum", "max", "last"]

ENDPOINT: Final = ("project", "endpoint")
REVISION: Final = ("project", "endpoint", "revision")


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table. `labels` are all set at creation, in any order; `over_processes` is of gauges.

    kept: whether the history has it; what tells nothing over time is shown at `/metrics` alone.
    """

    name: str
    kind: MetricKind
    unit: Unit
    labels: tuple[str, ...]
    meaning: str
    over_processes: MergeRule = "sum"
    kept: bool = True
