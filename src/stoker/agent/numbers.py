"""What an agent counts: its own process and the GPUs of its node. Answered at `GET /v1/metrics`, as a snapshot."""

from stoker.telemetry.gpu import Gpus
from stoker.telemetry.metrics import Registry, Snapshot
from stoker.telemetry.process import read_process


class Numbers:
    """The numbers of one agent."""

    def __init__(self, node: str) -> None:
        self._registry = Registry(f"agent-{node}")
        self._gpus = Gpus(self._registry, node)

    def snapshot(self) -> Snapshot:
        """Return the numbers of now."""
        read_process(self._registry)
        self._gpus.read()
        return self._registry.snapshot()
