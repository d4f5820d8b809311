"""How usage records come to control: batches with sequence numbers, until control says that they are settled.

A batch may be sent twice (an answer is lost, a process dies): control settles it once, by its numbers. What a dead
incarnation left in its folder is shipped by whichever gateway of the machine locks it first, and is then deleted;
nothing is deleted before it is settled. One batch is under way at a time; while control does not answer, one a second.
"""

import asyncio
import logging
import os
from pathlib import Path
from typing import Final

import msgspec

from stoker.gateway.usage.journal import LOCK, Journal, seize, sync
from stoker.gateway.usage.reading import Batch, Place, Reader, places
from stoker.protocol import unixhttp
from stoker.telemetry.metrics import Registry
from stoker.types.budgets import Ended
from stoker.types.errors import Unavailable
from stoker.types.usage import Settled

EVERY_S: Final = 1.0
BATCH_MAX: Final = 5000  # records
BATCH_BYTES_MAX: Final = 1 << 20
TIMEOUT_S: Final = 5.0
NOTHING: Final = -1  # no number of a record: all is left on the disk
LAST_S: Final = 2.0  # at the end, for what is left

_log = logging.getLogger(__name__)
_settled: Final = msgspec.json.Decoder(Settled).decode


class Shipper:
    """Ships the journal of this process, and those of dead ones beside it."""

    def __init__(self, journal: Journal, socket: Path, registry: Registry) -> None:
        self.journal = journal
        self._socket = socket
        self._reader = Reader()
        self._told = 0  # broken segments of its own that were counted
        self.registry = registry
        process = registry.process
        self._waiting = registry.gauge("stoker_usage_records_unsettled", process=process)
        self._broken = registry.counter("stoker_usage_journal_broken_total", process=process)

    async def run(self) -> None:
        """Sync and ship every EVERY_S until cancelled; then ship what is left, and leave nothing if it could."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                await self.ship()
        finally:
            is_over = False
            try:
                async with asyncio.timeout(LAST_S):
                    is_over = await self._ship_own() and await self._end(self.journal.incarnation)
            except TimeoutError:
                _log.warning("usage is left for the next gateway", extra={"records": self._left()})
            self.journal.close(self._reader.settled if is_over else NOTHING)

    async def ship(self) -> None:
        """Sync what was written, and ship what can be: what is one's own, and then what dead incarnations left."""
        self.journal.tend()
        await asyncio.to_thread(sync, self.journal.unsynced())
        if await self._ship_own():
            await self._ship_dead()

    def _left(self) -> int:
        return self.journal.last - self._reader.settled

    async def _ship_own(self) -> bool:
        """Ship what is in the journal now; return whether control has settled all of it.

        What comes meanwhile waits for the next time: under load it would else be shipped in ever smaller batches, and
        a transaction costs control as much as some thousand records.
        """
        journal, reader, last = self.journal, self._reader, self.journal.last
        try:
            while reader.settled < last:
                segments = [Place(each.first, each.path) for each in journal.segments if each.last >= each.first]
                batch = await asyncio.to_thread(reader.next, segments, BATCH_MAX, BATCH_BYTES_MAX)
                if batch is None or not await self._send(journal.gateway, journal.incarnation, batch, reader):
                    return False
                journal.settle(reader.settled)
        except OSError as refused:
            _log.error("the usage journal cannot be read", extra={"reason": str(refused)})
            return False
        finally:
            self._broken.value += len(reader.broken) - self._told
            self._told = len(reader.broken)
            self._waiting.set(float(self._left()))
        return True

    async def _ship_dead(self) -> None:
        """Ship what dead incarnations left."""
        root, own = self.journal.root, self.journal.folder
        for folder in sorted(each for each in root.iterdir() if not each.name.startswith(".") and each != own):
            lock = seize(folder)
            if lock is None:
                continue
            try:
                await self._inherit(folder)
            except OSError as refused:
                _log.error("a usage journal cannot be read", extra={"folder": folder.name, "reason": str(refused)})
            finally:
                os.close(lock)

    async def _inherit(self, folder: Path) -> None:
        """Ship all of a locked folder, then delete it. Raises OSError."""
        gateway, _, incarnation = folder.name.partition(".")
        segments, broken = await asyncio.to_thread(places, folder)
        reader = Reader(segments[0].first - 1 if segments else 0)
        while (batch := await asyncio.to_thread(reader.next, segments, BATCH_MAX, BATCH_BYTES_MAX)) is not None:
            if not await self._send(gateway, incarnation, batch, reader):
                return
        broken += len(reader.broken) + await asyncio.to_thread(reader.is_torn)
        if broken:
            self._broken.add(broken)
            _log.error("a usage journal was broken", extra={"folder": folder.name, "segments": broken})
        if not await self._end(incarnation):
            return
        for path in sorted(folder.iterdir(), key=lambda each: each.name == LOCK):
            path.unlink()
        folder.rmdir()

    async def _end(self, incarnation: str) -> bool:
        """Say that all of an incarnation's records are settled and none will come; what it leased of budgets is free.

        Return whether that was heard: until then its folder stays.
        """
        try:
            status, _ = await unixhttp.request(
                str(self._socket),
                "POST",
                "/internal/v1/budgets/end",
                body=msgspec.json.encode(Ended(incarnation)),
                timeout_s=TIMEOUT_S,
            )
        except Unavailable:
            return False
        return status < 300

    async def _send(self, gateway: str, incarnation: str, batch: Batch, reader: Reader) -> bool:
        """Send a batch and move the reader to where control says; return whether that is another place."""
        body = msgspec.msgpack.encode(
            (gateway, incarnation, batch.first, batch.lost, [msgspec.Raw(each) for each in batch.payloads])
        )
        try:
            status, data = await unixhttp.request(
                str(self._socket), "POST", "/internal/v1/usage", body=body, timeout_s=TIMEOUT_S
            )
            if status != 200:
                raise ValueError(f"control answered {status}")
            until = _settled(data).until
        except (Unavailable, ValueError, msgspec.MsgspecError) as down:
            _log.debug("usage waits", extra={"reason": str(down)})
            return False
        if until < batch.last:
            _log.warning(
                "control knows other usage than was settled",
                extra={"gateway": gateway, "first": batch.first, "settled": until},
            )
        has_moved = until != reader.settled
        reader.settle(until)
        return has_moved
