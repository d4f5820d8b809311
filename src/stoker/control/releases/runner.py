"""Sees to it that every revision that shall serve has its dossier: looks, judges, signs, writes it down once.

It looks at levels: which revisions want one is read anew each time, and what a dead control left half-made is made
again. A decided dossier is written in one transaction, guarded by the lease, and never changed.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import msgspec

from stoker.control.releases import ends, needs
from stoker.control.releases.gates import Gates
from stoker.control.releases.keys import Signer
from stoker.control.releases.needs import Need
from stoker.core.gate import law
from stoker.protocol import dossier as wire
from stoker.store import journal, leases, releases, rollouts
from stoker.store.engine import Connection, Database
from stoker.store.leases import Lease, LeaseLost
from stoker.telemetry.metrics import Registry
from stoker.types.errors import Unavailable
from stoker.types.releases import BECAUSE_MAX, Dossier, GateResult, PlatformKey

LOOK_EVERY_S: Final = 2.0
AT_ONCE: Final = 4  # endpoints whose revisions are judged; the others wait for their turn
ERROR_S: Final = 5.0  # until a judgement that broke is begun again

_T = TypeVar("_T")
_Key = tuple[str, float, str, str]
log = logging.getLogger(__name__)


class Releases:
    """Makes dossiers, one an endpoint at a time. One in a control process."""

    def __init__(
        self,
        database: Database,
        gates: Gates,
        signer: Signer,
        lease: Callable[[], Lease | None],
        metrics: Registry,
        changed: Callable[[], None],
    ) -> None:
        self._database = database
        self._gates = gates
        self._signer = signer
        self._lease = lease
        self._metrics = metrics
        self._changed = changed
        self._awake = asyncio.Event()
        self._tasks: dict[_Key, asyncio.Task[None]] = {}
        self._broken_s: dict[_Key, float] = {}  # judgements that met a bug, and when they may begin again

    def wake(self) -> None:
        """Have a look soon. Call it in the event loop's thread."""
        self._awake.set()

    async def run(self) -> None:
        """Look for ever; returns only by cancellation, and ends what is being judged."""
        try:
            while True:
                self._awake.clear()
                try:
                    await self.look()
                except Exception:  # a full disk, say: a look that fails must not end the control of all endpoints
                    log.exception("releases could not be looked at; they are looked at again")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._awake.wait(), LOOK_EVERY_S)
        finally:
            await self._end(list(self._tasks))

    async def look(self) -> None:
        """Begin what is wanted, end what is not wanted any more."""
        wanted: dict[_Key, Need] = {}
        if self._lease() is not None:
            wanted = {each.key: each for each in await self._database.reading(needs.find)}
        await self._end([key for key in self._tasks if key not in wanted])
        now_s = time.monotonic()
        if self._lease() is not None:
            await asyncio.to_thread(self._gates.tidy, list(wanted.values()))
        self._broken_s = {key: at_s for key, at_s in self._broken_s.items() if key in wanted and at_s > now_s}
        for key, need in wanted.items():
            if key not in self._tasks and key not in self._broken_s and len(self._tasks) < AT_ONCE:
                self._tasks[key] = asyncio.create_task(self._make(key, need))
        if self._lease() is not None:
            await self._tell_ends()

    def public_key(self) -> PlatformKey:
        """Return the key that others check dossiers with; blocks. Raises OSError, InvalidInput."""
        return self._signer.public()

    async def _end(self, keys: list[_Key]) -> None:
        tasks = [self._tasks.pop(key) for key in keys]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _make(self, key: _Key, need: Need) -> None:
        """Make one dossier."""
        try:
            number = need.number or await self._written(
                lambda connection: releases.begin(connection, need.dossier(), need.basis)
            )
            told: tuple[tuple[GateResult, ...], bool] = ((), need.swapped)

            async def tell(results: tuple[GateResult, ...], swapped: bool = False) -> None:
                nonlocal told
                news = (results, swapped or told[1])
                if news != told:
                    told = news
                    await self._tell(number, msgspec.structs.replace(need, swapped=news[1]), results)

            made = await self._gates.judge(need, tell)
            await self._decide(number, made)
        except (LeaseLost, Unavailable) as lost:
            log.warning("a dossier waits: %s", lost, extra={"revision": need.revision.revision})
            self._broken_s[key] = time.monotonic() + LOOK_EVERY_S
        except Exception:
            log.exception("a dossier could not be made; it is begun again", extra={"revision": need.revision.revision})
            self._broken_s[key] = time.monotonic() + ERROR_S
        finally:
            if self._tasks.get(key) is asyncio.current_task():
                del self._tasks[key]
            self.wake()

    async def _tell_ends(self) -> None:
        """Append to dossiers how rollouts ended."""
        ended = await self._database.reading(rollouts.untold)
        if not ended:
            return
        key = await asyncio.to_thread(self._signer.key)
        for state in ended:
            try:
                is_told = await self._written(partial(ends.tell, state=state, key=key))
            except (LeaseLost, Unavailable) as lost:
                log.warning("the end of a rollout waits: %s", lost, extra={"rollout": state.number})
                return
            except Exception:  # one that cannot be told of must not hold up the others
                log.exception("the end of a rollout could not be told", extra={"rollout": state.number})
                continue
            if is_told:
                log.info("the end of a rollout is in its dossier", extra={"rollout": state.number})

    async def _tell(self, number: int, need: Need, results: tuple[GateResult, ...]) -> None:
        _, because = law.outcome(results)
        so_far = msgspec.structs.replace(need.dossier(), because=because, results=results)
        await self._written(lambda connection: releases.put(connection, number, so_far))
        self._changed()

    async def _decide(self, number: int, made: Dossier) -> None:
        """Sign and store a decided dossier, and say so."""
        decided = msgspec.structs.replace(made, decided_at_s=time.time())
        key = await asyncio.to_thread(self._signer.key)
        statement = wire.sign(decided, key)

        def put(connection: Connection) -> bool:
            if not releases.put(connection, number, decided, statement):
                return False
            action = "ReleaseApproved" if decided.state == "complete" else "ReleaseRefused"
            because = f"dossier {number} of {decided.model}: {decided.because}"[:BECAUSE_MAX]
            entry = journal.Entry(
                decided.decided_at_s, action, because, decided.project, decided.endpoint, decided.revision
            )
            journal.add(connection, entry)
            return True

        if await self._written(put):
            log.info("a dossier is decided", extra={"revision": decided.revision, "state": decided.state})
            self._metrics.counter("stoker_releases_total", state=decided.state).add()
        self._changed()

    async def _written(self, change: Callable[[Connection], _T]) -> _T:
        """Return what `change` returns, in a transaction of whoever acts. Raises Unavailable, or LeaseLost."""
        lease = self._lease()
        if lease is None:
            raise Unavailable("control starts, or another one acts", retry_after_s=LOOK_EVERY_S)

        def guarded(connection: Connection) -> _T:
            leases.guard(connection, lease)
            return change(connection)

        return await self._database.writing(guarded)
