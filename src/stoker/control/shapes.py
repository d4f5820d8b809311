"""Asks replicas which shapes their engine calls had, and keeps it by endpoint: the next replica is warmed up with it.

What a replica told and nobody wrote is lost; the next calls tell the same.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

import msgspec

from stoker.control.observe import Observer, State
from stoker.core.shapes import remember
from stoker.core.snapshot import EndpointKey
from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import connect
from stoker.store import leases, shapes
from stoker.store.engine import Connection, Database
from stoker.store.leases import Lease, LeaseLost
from stoker.types.errors import StokerError
from stoker.types.shapes import METHOD, ShapeCost

LOOK_EVERY_S: Final = 30.0
TIMEOUT_S: Final = 5.0
AT_ONCE: Final = 16

log = logging.getLogger(__name__)


class ShapeWatch:
    """Asks the replicas of every endpoint that predicts. One in a control process."""

    def __init__(
        self,
        database: Database,
        observer: Observer,
        state: Callable[[], State | None],
        lease: Callable[[], Lease | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._observer = observer
        self._state = state
        self._lease = lease
        self._clock = clock
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except LeaseLost:
                pass  # another control asks
            except StokerError as problem:
                log.warning("the shapes of engine calls could not be kept", extra={"reason": problem.message})

    async def look(self) -> None:
        """Ask once, and write what is new. Raises LeaseLost or Unavailable."""
        lease, state = self._lease(), self._state()
        if lease is None or state is None:
            return
        predicts = {each.revision for each in state.revisions if each.config.task == "predict"}
        whose = {str(one.replica): (one.project, one.endpoint) for one in state.assignments if one.revision in predicts}
        asked = [
            process
            for status in self._observer.statuses
            for process in status.processes
            if process.phase in ("ready", "draining") and process.name in whose
        ]
        answers = await asyncio.gather(*(self._ask(process.name, process.address) for process in asked))
        told: dict[EndpointKey, list[ShapeCost]] = {}
        for process, costs in zip(asked, answers, strict=True):
            if costs:
                told.setdefault(whose[process.name], []).extend(costs)
        if told:
            now_s = self._clock()

            def keep(connection: Connection) -> None:
                leases.guard(connection, lease)
                known = shapes.everything(connection)
                for key, costs in told.items():
                    before = known.get(key, shapes.Known(now_s))
                    shapes.keep(connection, key, remember(before.costs, costs, now_s - before.at_s), now_s)

            await self._database.writing(keep)

    async def _ask(self, replica: str, address: str) -> tuple[ShapeCost, ...]:
        try:
            async with self._slots, asyncio.timeout(TIMEOUT_S):
                link = await connect(address, timeout_s=TIMEOUT_S)
                try:
                    _, body = await link.call(RequestHead(method=METHOD), kind=Kind.CALL).answer()
                finally:
                    link.close()
            return msgspec.msgpack.decode(body, type=tuple[ShapeCost, ...])
        except (StokerError, TimeoutError):
            return ()  # it is gone, or of a version before this question
        except ValueError as odd:  # msgspec's errors are ValueErrors
            log.warning("a replica's shapes could not be read", extra={"replica": replica, "reason": str(odd)})
            return ()
