"""What a replica counts of itself: its load by stage, its engine's queue, its process, its files and its clock.

Answered to CALL `metrics`.
"""

import os
from pathlib import Path

from stoker.runtime.stopwatch import Stopwatch
from stoker.telemetry.clock import ClockWatch
from stoker.telemetry.disk import WriteProbe
from stoker.telemetry.metrics import Registry, Snapshot
from stoker.telemetry.process import read_process
from stoker.types.replica import ReplicaSpec, ReplicaStats


class Numbers:
    """The numbers of one replica process. watch: of its start."""

    def __init__(self, spec: ReplicaSpec, watch: Stopwatch) -> None:
        self.registry = Registry(spec.replica)
        self._labels = {
            "project": spec.project,
            "endpoint": spec.endpoint,
            "revision": str(spec.revision),
            "replica": str(spec.replica),
        }
        self._watch = watch
        self._has_cache = False
        self._writes = WriteProbe(Path(os.environ.get("TMPDIR", "/tmp")))  # noqa: S108 - the agent sets it
        self._clock = ClockWatch(self.registry.counter("stoker_replica_clock_stepped_seconds_total", **self._labels))

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
        registry.counter("stoker_engine_busy_seconds_total", **labels).value = stats.busy_s
        for stage, seconds in self._watch.taken.items():
            registry.gauge("stoker_load_seconds", stage=stage, **labels).set(seconds)
        return registry.snapshot()
