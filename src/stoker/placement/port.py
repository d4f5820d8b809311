"""What control needs of the machines that run replicas: see them, start and stop processes, read their logs.

A driver decides nothing. Every call that changes something carries the fencing token of the lease it was decided
under; a node that has seen a higher one refuses it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from stoker.telemetry.snapshot import Snapshot
from stoker.types.ahead import Ahead
from stoker.types.faults import Fault
from stoker.types.process import NodeStatus, ProcessSpec, ProcessStatus
from stoker.types.replica import ReplicaSpec


class Driver(Protocol):
    """One kind of cluster. Calls raise NotReachable when a node does not answer, Conflict when the fence is old."""

    async def observe(self) -> tuple[NodeStatus, ...]:
        """Return every node that answers, as it is now. A node that does not answer is left out."""

    async def changed(self, seen: Mapping[str, int], wait_s: float) -> None:
        """Return when a node's sequence differs from `seen` (by node name), at the latest after `wait_s`."""

    async def start(
        self, node: str, spec: ProcessSpec, fence: int, replica: ReplicaSpec | None = None
    ) -> ProcessStatus:
        """Have the node run `spec` until told otherwise. Starting what runs already changes nothing.

        replica: what that process is told, for a node that has another disk than control; it gets the files itself.
        """

    async def stop(self, node: str, name: str, drain_s: float, fence: int) -> None:
        """Have the node drain and end a process. Stopping what is gone is no error."""

    async def inject(self, node: str, name: str, fault: Fault, fence: int) -> None:
        """Have the node put a fault into a replica, which ends by itself. Raises NotFound or Conflict."""

    async def end_fault(self, node: str, name: str, fence: int) -> None:
        """Have the node end the fault in a replica. Ending what is over is no error."""

    async def expect(self, node: str, ahead: Sequence[Ahead], fence: int) -> None:
        """Tell the node which versions may be started there soon, the most valuable first; those before are over."""

    async def metrics(self, node: str) -> Snapshot:
        """Return what the node's agent counted. Raises NotReachable."""

    def logs(self, node: str, name: str, *, tail: int, follow: bool) -> AsyncIterator[bytes]:
        """Yield the last `tail` lines of a process' log, then what comes while `follow`. Raises NotFound."""
