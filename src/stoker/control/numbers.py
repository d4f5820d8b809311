"""Every process' numbers, asked by control: for its own `/metrics`, and for whoever they are sent to."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from stoker.control.fleet import Fleet
from stoker.control.observe import Observer
from stoker.observe.history.collect import Remote
from stoker.placement.port import Driver
from stoker.telemetry.metrics import Registry, Snapshot
from stoker.telemetry.process import read_process
from stoker.types.errors import StokerError
from stoker.types.process import ProcessStatus

AT_ONCE_MAX: Final = 32  # processes that are asked at the same time


class Numbers:
    """Asks who runs. A process that does not answer in time is left out; the next question finds it."""

    def __init__(
        self,
        registry: Registry,
        driver: Driver,
        observer: Observer,
        fleet: Fleet,
        refresh: Callable[[], None],
        gateways: Callable[[], Awaitable[list[Snapshot]]],
    ) -> None:
        self._registry = registry
        self._driver = driver
        self._observer = observer
        self._refresh = refresh  # sets what is read at the moment
        self._gateways = gateways  # those of a moment ago, that the history was told
        self._fleet = fleet
        self._places = asyncio.Semaphore(AT_ONCE_MAX)

    def look(self) -> None:
        """Count what the nodes report; to be called for each report."""
        self._fleet.look(self._observer.statuses)

    async def around(self) -> list[Snapshot]:
        """Return the numbers of control, of the agents and of the replicas: all that no gateway shows."""
        self.look()
        ready = [
            process
            for status in self._observer.statuses
            for process in status.processes
            if process.kind == "replica" and process.phase in ("ready", "draining")
        ]
        found = await asyncio.gather(
            *(self._agent(status.node) for status in self._observer.statuses),
            *(self._replica(process) for process in ready),
        )
        read_process(self._registry)
        self._refresh()
        return [self._registry.snapshot(), *(each for each in found if each is not None)]

    async def everything(self) -> list[Snapshot]:
        """Return the numbers of every process, each by itself."""
        around, gateways = await asyncio.gather(self.around(), self._gateways())
        return [*around, *gateways]

    async def _agent(self, node: str) -> Snapshot | None:
        try:
            return await self._driver.metrics(node)
        except StokerError:
            return None

    async def _replica(self, process: ProcessStatus) -> Snapshot | None:
        async with self._places:
            return await _counted(process.name, process.address)


async def _counted(name: str, address: str) -> Snapshot | None:
    """Return what the process at a frames address has counted since its start; None when it does not say."""
    answer = await Remote(name, address).ask()
    return answer.snapshot if answer is not None else None
