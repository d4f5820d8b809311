"""Closes the audit: soon after each row a checkpoint is signed, stored beside the rows and in a file outside of the
database, and sent to a second place. Rows that are old enough go, up to a checkpoint that is the new root.

A checkpoint is stored in the database first: a control that is killed before the file has it completes the file at its
next start. Only the control that holds the state folder's lock may do any of this.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from stoker.control.audit.copies import Copy
from stoker.control.files import append_line, write_whole
from stoker.control.releases.keys import Signer
from stoker.core.audit import chain
from stoker.core.audit.verify import verify
from stoker.protocol import checkpoints
from stoker.store import audit, recording
from stoker.store.engine import Connection, Database
from stoker.telemetry.metrics import Registry
from stoker.types.audit import PLATFORM, AuditVerdict, Checkpoint, Row
from stoker.types.errors import Conflict, StokerError

SETTLE_S: Final = 0.25  # rows that come together are closed together; so long at most the last ones stay open
AGAIN_S: Final = 5.0  # after a disk or a second place that failed
KEEP_EVERY_S: Final = 3600.0
DAY_US: Final = 86_400_000_000

log = logging.getLogger(__name__)


class Auditor:
    """One in a control process. `path`: the file of checkpoints. `keep_days`: of rows; 0: for ever.

    looking: held by who looks through the whole audit for one project: one at a time.
    """

    def __init__(
        self, database: Database, signer: Signer, path: Path, copy: Copy | None, keep_days: int, metrics: Registry
    ) -> None:
        self._database = database
        self._signer = signer
        self._path = path
        self._copy = copy
        self._keep_days = keep_days
        self._metrics = metrics
        self.looking = asyncio.Lock()
        self._turn = asyncio.Lock()
        self._woken = asyncio.Event()
        self._head: Row | None = None  # the last row that this process wrote
        self._is_filed = False  # whether the file has every checkpoint that is stored

    async def run(self) -> None:
        """Close rows as they come, and let old ones go; returns only by cancellation."""
        loop = asyncio.get_running_loop()

        def heard(row: Row) -> None:
            self._head = row  # in the writer's thread, where `_made` compares it
            loop.call_soon_threadsafe(self._woken.set)

        self._database.audited = heard
        due_s = 0.0
        while True:
            try:
                await self.seal()
                if time.monotonic() >= due_s:
                    due_s = time.monotonic() + KEEP_EVERY_S
                    await self.let_go(time.time_ns() // 1000)
                is_behind = self._copy is not None and await self._send(self._copy)
            except Exception:  # what one look meets must not end the control of all endpoints
                self._failed("checkpoint", "the audit could not be closed; it is tried again")
                is_behind = True
            await self._wait(AGAIN_S if is_behind else KEEP_EVERY_S)

    async def seal(self) -> None:
        """Sign for every row that is there. Raises OSError, Unavailable; Conflict where somebody else wrote rows."""
        async with self._turn:
            made = await self._database.writing(self._made)
            if not self._is_filed:
                await self._complete()
            elif made is not None:
                self._is_filed = False
                await asyncio.to_thread(append_line, self._path, chain.line(made))
            self._is_filed = True
            if made is not None:
                self._metrics.gauge("stoker_audit_sealed_rows").set(float(made.sequence))

    async def let_go(self, now_us: int) -> int:
        """Drop the rows that are older than is kept and that nothing holds; return how many. Raises as `seal`."""
        if not self._keep_days:
            return 0
        async with self._turn:
            gone = await self._database.writing(lambda connection: self._dropped(connection, now_us))
            if gone:
                await self._rewrite()
                log.info("old rows of the audit are gone", extra={"rows": gone})
            return gone

    async def verdict(self) -> AuditVerdict:
        """Return what the audit is worth, closed first. Raises as `seal`."""
        try:
            await self.seal()
        except Conflict as bent:
            log.warning("the audit cannot be closed", extra={"reason": bent.message})
        async with self._turn:
            filed = await asyncio.to_thread(_read, self._path)
            key = await asyncio.to_thread(self._signer.public)

            def judge(connection: Connection) -> AuditVerdict:
                rows = audit.everything(connection)
                return verify(rows, audit.lines(connection), filed, self._is_signed, key=key.fingerprint)

            found = await self._database.reading(judge)
        self._metrics.gauge("stoker_audit_problems").set(float(len(found.problems)))
        return found

    async def lines(self) -> list[str]:
        """Return every checkpoint as a line, closed first, for who keeps them elsewhere. Raises as `seal`."""
        await self.seal()
        return await self._database.reading(audit.lines)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        await asyncio.sleep(SETTLE_S)
        self._woken.clear()

    def _made(self, connection: Connection) -> Checkpoint | None:
        """Store and return the checkpoint over the rows that are there, None where none is new. Raises Conflict."""
        last = audit.newest(connection)
        before = audit.last_checkpoint(connection)
        if self._head is not None and (last is None or last.hash != self._head.hash):
            raise Conflict(f"the last row of the audit is not the one that was written ({self._head.sequence})")
        if last is None or (before is not None and last.sequence <= before.sequence):
            return None
        made = self._signed("checkpoint", last.sequence, last.hash, before)
        audit.add_checkpoint(connection, made)
        return made

    def _dropped(self, connection: Connection, now_us: int) -> int:
        """Drop what is old, with the root and the checkpoint that close what stays; return how many rows."""
        last, before = audit.newest(connection), audit.last_checkpoint(connection)
        if last is None or before is None:
            return 0
        until = last.sequence
        for hold in audit.holds(connection):
            first = audit.first_about(connection, hold.project)
            until = min(until, first - 1) if first is not None else until
        end = audit.checkpoint_until(connection, until, now_us - self._keep_days * DAY_US)
        if end is None or not self._is_signed(end) or next(audit.everything(connection)).sequence > end.sequence:
            return 0
        because = f"rows up to {end.sequence} were older than {self._keep_days} days and nothing held them"
        row = audit.append(connection, recording.Actor(PLATFORM, "drop old rows").act("done", because))
        root = self._signed("root", end.sequence, end.hash, before)
        return audit.drop(connection, root, [self._signed("checkpoint", row.sequence, row.hash, root)])

    def _signed(self, kind: str, sequence: int, last: str, before: Checkpoint | None) -> Checkpoint:
        made = Checkpoint(
            number=before.number + 1 if before is not None else 1,
            kind="root" if kind == "root" else "checkpoint",
            sequence=sequence,
            hash=last,
            at_us=time.time_ns() // 1000,
            previous=chain.digest(chain.line(before)) if before is not None else "",
            key=self._signer.public().fingerprint,
        )
        return checkpoints.signed(made, self._signer.key())

    def _is_signed(self, made: Checkpoint) -> bool:
        return checkpoints.is_signed(made, self._signer.key().public_key())

    async def _complete(self) -> None:
        """Write into the file what is missing; one that was changed is left as it is, and its changes are told."""
        kept = await self._database.reading(audit.lines)
        filed = (await asyncio.to_thread(_read, self._path) or b"").decode("utf-8", "replace")
        whole = _text(kept)
        if filed == whole:
            return
        *_, last = filed.removesuffix("\n").split("\n")
        first = chain.checkpoint_of(kept[0]) if kept else None
        is_older = first is not None and first.kind == "root" and first.previous == chain.digest(last)
        if whole.startswith(filed) or is_older:
            await asyncio.to_thread(write_whole, self._path, whole.encode())
        else:
            self._failed("file", "the file of the audit's checkpoints was changed; see `stoker audit verify`")

    async def _rewrite(self) -> None:
        kept = await self._database.reading(audit.lines)
        await asyncio.to_thread(write_whole, self._path, _text(kept).encode())

    async def _send(self, copy: Copy) -> bool:
        """Send to the second place what it has not; return whether it is behind."""
        try:
            await copy.send(await self._database.reading(audit.lines))
        except (OSError, StokerError) as failed:
            self._failed("copy", f"the second place of checkpoints did not take them: {failed}")
            return True
        return False

    def _failed(self, what: str, words: str) -> None:
        self._metrics.counter("stoker_audit_failures_total", what=what).add()
        log.error(words, exc_info=what == "checkpoint")


def _text(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
