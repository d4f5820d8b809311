"""What an agent counts: its own process, and the GPUs, disk and clock of its node.

Answered at `GET /v1/metrics`, as a snapshot.
"""

from pathlib import Path

from stoker.telemetry import disk
from stoker.telemetry.clock import ClockWatch
from stoker.telemetry.gpu import Gpus
from stoker.telemetry.metrics import Registry, Snapshot
from stoker.telemetry.process import read_process


class Numbers:
    """The numbers of one agent. `folder` is on the disk that counts."""

    def __init__(self, node: str, folder: Path) -> None:
        self._registry = Registry(f"agent-{node}")
        self._node = node
        self._folder = folder
        self._clock = ClockWatch(self._registry.counter("stoker_node_clock_stepped_seconds_total", node=node))
        self._gpus = Gpus(self._registry, node)

    @property
    def gpus(self) -> int:
        """How many GPUs the node has, as far as NVML says."""
        return self._gpus.count

    def snapshot(self) -> Snapshot:
        """Return the numbers of now."""
        read_process(self._registry)
        self._gpus.read()
        self._clock.look()
        if (seen := disk.room(self._folder)) is not None:
            self._registry.gauge("stoker_node_disk_bytes", node=self._node).set(float(seen[0]))
            self._registry.gauge("stoker_node_disk_free_bytes", node=self._node).set(float(seen[1]))
            self._registry.gauge("stoker_node_disk_short_ratio", node=self._node).set(disk.shortness(seen[1]))
        return self._registry.snapshot()
