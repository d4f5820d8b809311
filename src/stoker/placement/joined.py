"""The driver for a platform of several machines: the agent here by its socket, those that joined over mutual TLS.

Every node that joined is followed by a task of its own, so that one that hangs delays nobody. A node that does not
answer is left out until it does.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

import msgspec

from stoker.placement.local import LocalDriver
from stoker.telemetry.snapshot import Snapshot
from stoker.types.ahead import Ahead
from stoker.types.errors import NotReachable, StokerError
from stoker.types.faults import Fault
from stoker.types.peers import OWN
from stoker.types.process import NodeStatus, ProcessSpec, ProcessStatus
from stoker.types.replica import ReplicaSpec

POLL_S: Final = 2.0  # a change is told at once; a node that went silent is missed this long and its answer's time
RETRY_S: Final = 1.0
log: Final = logging.getLogger(__name__)


class JoinedDriver:
    """See `placement.port.Driver`.

    agents: addresses of the agents that joined, by node, as they are now. address: where control reaches a process.
    """

    def __init__(
        self, own: LocalDriver, agents: Callable[[], Mapping[str, str]], address: Callable[[str], str]
    ) -> None:
        self._own = own
        self._agents = agents
        self._address = address
        self._seen: dict[str, NodeStatus] = {}
        self._following: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self._news = asyncio.Event()

    async def observe(self) -> tuple[NodeStatus, ...]:
        """Return this machine's status, and what the others last said of those that answer."""
        self._follow()
        own = await self._own.observe()
        self._follow()  # who was removed meanwhile is not told of
        return (*own, *(self._placed(each) for each in self._seen.values()))

    async def changed(self, seen: Mapping[str, int], wait_s: float) -> None:
        """Return when a node changed, came or went."""
        self._follow()
        own = {OWN: seen[OWN]} if OWN in seen else {}
        if not self._following:
            await self._own.changed(own, wait_s)
            return
        waits = [
            asyncio.ensure_future(self._own.changed(own, wait_s)),
            asyncio.ensure_future(self._news.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        self._news.clear()

    async def start(
        self, node: str, spec: ProcessSpec, fence: int, replica: ReplicaSpec | None = None
    ) -> ProcessStatus:
        """Have the node run `spec`."""
        return await self._of(node).start(node, spec, fence, replica)

    async def stop(self, node: str, name: str, drain_s: float, fence: int) -> None:
        """Have the node drain and end a process."""
        await self._of(node).stop(node, name, drain_s, fence)

    async def inject(self, node: str, name: str, fault: Fault, fence: int) -> None:
        """Have the node put a fault into a replica."""
        await self._of(node).inject(node, name, fault, fence)

    async def end_fault(self, node: str, name: str, fence: int) -> None:
        """Have the node end the fault in a replica."""
        await self._of(node).end_fault(node, name, fence)

    async def expect(self, node: str, ahead: Sequence[Ahead], fence: int) -> None:
        """Tell the node here; the others have none of the files that it is about."""
        if node == OWN:
            await self._own.expect(node, ahead, fence)

    async def metrics(self, node: str) -> Snapshot:
        """Return what the node's agent counted."""
        return await self._of(node).metrics(node)

    async def logs(self, node: str, name: str, *, tail: int, follow: bool) -> AsyncIterator[bytes]:
        """Yield the log of a process."""
        async for piece in self._of(node).logs(node, name, tail=tail, follow=follow):
            yield piece

    def _of(self, node: str) -> LocalDriver:
        if node == OWN:
            return self._own
        address = self._agents().get(node)
        if address is None:
            raise NotReachable(f"there is no node {node!r}")
        return LocalDriver(address)

    def _follow(self) -> None:
        """Begin to follow who joined, and end following who left."""
        agents = self._agents()
        for node in [name for name, (address, _) in self._following.items() if agents.get(name) != address]:
            self._following.pop(node)[1].cancel()
            self._lose(node)
        for node, address in agents.items():
            if node not in self._following:
                task = asyncio.create_task(self._keep(node, LocalDriver(address)), name=f"node {node}")
                self._following[node] = (address, task)

    async def _keep(self, node: str, driver: LocalDriver) -> None:
        after: int | None = None
        is_told = False  # that it does not answer
        while True:
            try:
                status = await driver.status(after, POLL_S if after is not None else 0.0)
            except StokerError as problem:
                if not is_told:
                    log.warning("a node does not answer", extra={"node": node, "reason": problem.message})
                after, is_told = None, True
                self._lose(node)
                await asyncio.sleep(RETRY_S)
                continue
            if status.node != node:
                log.error("a node says that it is another", extra={"node": node, "says": status.node})
                self._lose(node)
                await asyncio.sleep(RETRY_S)
                continue
            after, is_told = status.sequence, False
            if self._seen.get(node) != status:
                self._seen[node] = status
                self._news.set()

    def _lose(self, node: str) -> None:
        if self._seen.pop(node, None) is not None:
            self._news.set()

    def _placed(self, status: NodeStatus) -> NodeStatus:
        """Return a status whose processes are where control reaches them."""
        processes = tuple(
            msgspec.structs.replace(each, address=self._address(each.name)) if each.kind == "replica" else each
            for each in status.processes
        )
        return msgspec.structs.replace(status, processes=processes)
