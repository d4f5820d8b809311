"""How many cores an engine may really use."""

import contextlib
import os
from pathlib import Path


def usable_cores() -> float:
    """Return how many cores this process may really use: its affinity, within the quota of its control group."""
    cores = float(len(os.sched_getaffinity(0)))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(cores, int(quota) / int(period))  # "max" is no number: no quota
    with contextlib.suppress(OSError, ValueError):
        folder = Path("/sys/fs/cgroup/cpu")
        limit = int((folder / "cpu.cfs_quota_us").read_text())
        if limit > 0:
            return min(cores, limit / int((folder / "cpu.cfs_period_us").read_text()))
    return cores


def whole_cores(spec_cores: float) -> int:
    """Return how many threads may run at once: what the replica was given, where the machine has it; at least one.

    Placement gives out no more cores than a node has, so the threads of all its replicas together are no more either,
    but for replicas of less than one core.
    """
    return max(1, int(min(spec_cores, usable_cores())))
