"""Tells nodes which versions may be started there soon, and lays those out: so that a start finds files and imports."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from stoker.control import replicas
from stoker.control.observe import Observer, State
from stoker.core import ahead, forks
from stoker.core.ahead import Candidate
from stoker.core.snapshot import EndpointKey
from stoker.placement.port import Driver
from stoker.store import starts
from stoker.store.engine import Connection, Database
from stoker.store.leases import Lease
from stoker.types.ahead import Ahead
from stoker.types.errors import StokerError
from stoker.types.models import VersionManifest
from stoker.types.starts import Start

LOOK_EVERY_S: Final = 5.0  # gates take seconds
READ_EVERY_S: Final = 60.0  # what starts were like
STARTS: Final = 50  # of an endpoint, that its rate is of

log = logging.getLogger(__name__)


class AheadWatch:
    """Looks every few seconds. One in a control process."""

    def __init__(
        self,
        database: Database,
        observer: Observer,
        driver: Driver,
        laid: Callable[[VersionManifest], Path],
        state: Callable[[], State | None],
        lease: Callable[[], Lease | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._observer = observer
        self._driver = driver
        self._laid = laid  # where a version lies, laid out by this when it was not
        self._state = state
        self._lease = lease
        self._clock = clock
        self._told: dict[tuple[str, float], tuple[Ahead, ...]] = {}  # by node and the start of its agent
        self._starts: dict[EndpointKey, list[Start]] = {}
        self._read_s = 0.0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except (StokerError, OSError) as problem:
                log.warning("nothing is made ready ahead", extra={"reason": str(problem)})

    async def look(self) -> None:
        """Tell every node once what it should have ready, where that is news. Raises StokerError or OSError."""
        lease, state = self._lease(), self._state()
        if lease is None or state is None:
            self._told.clear()  # another control tells
            return
        await self._know_starts(state)
        now_s = self._clock()
        rollouts = [each.state for each in state.rollouts]
        asked = {each.status.revision for each in state.endpoints}
        coming = ahead.about(state.revisions, rollouts, state.dossiers, asked=asked, now_s=now_s)
        found = ahead.candidates(state.endpoints, state.revisions, state.assignments, coming, self._starts, now_s=now_s)
        told: dict[tuple[str, float], tuple[Ahead, ...]] = {}
        for status in self._observer.statuses:
            mine = [each for each in found if each.revision.config.pool == status.pool]
            sizes = [self._size_bytes(state, each) for each in mine]
            chosen = [mine[at] for at in ahead.fits(sizes, status.memory_free_bytes)]
            wanted = await asyncio.to_thread(self._made, state, chosen)
            key = (status.node, status.started_at_s)
            if self._told.get(key, ()) != wanted:
                try:
                    await self._driver.expect(status.node, wanted, lease.token)
                except StokerError as problem:  # it is told again at the next look, and the others now
                    log.warning("a node was not told", extra={"node": status.node, "reason": problem.message})
                    continue
            told[key] = wanted
        self._told = told

    async def _know_starts(self, state: State) -> None:
        now_s = self._clock()
        if 0 <= now_s - self._read_s < READ_EVERY_S:
            return
        keys = [each.key for each in state.endpoints]

        def read(connection: Connection) -> dict[EndpointKey, list[Start]]:
            return {key: starts.of_endpoint(connection, *key, limit=STARTS) for key in keys}

        self._starts = await self._database.reading(read)
        self._read_s = now_s

    def _made(self, state: State, chosen: Sequence[Candidate]) -> tuple[Ahead, ...]:
        """Lay the versions out, and return them; blocks."""
        found: dict[str, Ahead] = {}
        for each in chosen:
            config = each.revision.config
            version = state.versions[config.model, config.number]
            try:
                folder = self._laid(version.manifest)
            except (StokerError, OSError) as problem:  # its start will say so, where people look
                log.warning("a version is not made ready", extra={"model": config.ref, "reason": str(problem)})
                continue
            fork = forks.key(config.engine, replicas.environment(config, Path("/")))
            size_bytes = version.size_bytes
            found.setdefault(str(folder), Ahead(config.ref, str(folder), size_bytes, each.because, fork))
        return tuple(found.values())

    @staticmethod
    def _size_bytes(state: State, each: Candidate) -> int:
        return state.versions[each.revision.config.model, each.revision.config.number].size_bytes
