"""What a replica counts of itself: its load by stage, its engine's queue, its process, its files and its clock.

Answered to CALL `metrics`.
"""

import os
import time
from pathlib import Path
from typing import Final

from stoker.telemetry.clock import ClockWatch
from stoker.telemetry.disk import WriteProbe
from stoker.telemetry.metrics import Registry, Snapshot
from stoker.telemetry.process import read_process
from stoker.types.replica import ReplicaSpec, ReplicaStats

STAGES_MAX: Final = 32  # an engine names its stages; more are counted as the last


class Numbers:
    """The numbers of one replica process."""

    def __init__(self, spec: ReplicaSpec) -> None:
        self.registry = Registry(spec.replica)
        self._labels = {
            "project": spec.project,
            "endpoint": spec.endpoint,
            "revision": str(spec.revision),
            "replica": str(spec.replica),
        }
        self._stages: dict[str, float] = {}  # seconds by stage, in their order; written by the loading thread
        self._stage = ""
        self._has_cache = False
        self._writes = WriteProbe(Path(os.environ.get("TMPDIR", "/tmp")))  # noqa: S108 - the agent sets it
        self._clock = ClockWatch(self.registry.counter("stoker_replica_clock_stepped_seconds_total", **self._labels))
        self._since_s = time.monotonic()

    def stage(self, stage: str) -> None:
        """Take note that the load is in `stage` from now on; "" when it is over. Called by the loading thread."""
        now_s = time.monotonic()
        if stage != self._stage:
            if self._stage:
                known = self._stage in self._stages or len(self._stages) < STAGES_MAX
                name = self._stage if known else next(reversed(self._stages))
                self._stages[name] = self._stages.get(name, 0.0) + now_s - self._since_s
            self._stage, self._since_s = stage, now_s

    def snapshot(self, stats: ReplicaStats) -> Snapshot:
        """Return the numbers of now."""
        registry, labels = self.registry, self._labels
        read_process(registry)
        registry.gauge("stoker_engine_queue_depth", **labels).set(float(stats.queued))
        registry.gauge("stoker_engine_running", **labels).set(float(stats.running))
        registry.gauge("stoker_engine_slots", **labels).set(float(stats.slots))
        if stats.kv_used_ratio or self._has_cache:  # an engine without one says 0; so does an empty one
            self._has_cache = True
            registry.gauge("stoker_kv_cache_usage_ratio", **labels).set(stats.kv_used_ratio)
        registry.gauge("stoker_replica_unwritable", **labels).set(float(self._writes.look()))
        self._clock.look()
        registry.counter("stoker_engine_finished_total", **labels).value = float(stats.finished)
        registry.counter("stoker_engine_tokens_total", **labels).value = float(stats.tokens)
        for stage, seconds in list(self._stages.items()):
            registry.gauge("stoker_load_seconds", stage=stage, **labels).set(seconds)
        return registry.snapshot()
