"""Replicas on a node with a disk of its own: their files are fetched first, then the supervisor runs them.

While they are fetched a replica is shown as starting, with how much of it is here; a fetch that fails is tried again.
What belongs to replicas that are gone is removed, and versions that nothing runs, beyond the newest few.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from stoker.agent.pull import Puller
from stoker.agent.supervisor import Supervisor
from stoker.blob.port import BlobStore
from stoker.registry import layout
from stoker.types.errors import Busy, InvalidInput, StokerError
from stoker.types.nodes import NodeStart
from stoker.types.process import LoadProgress, ProcessStatus, spec_digest
from stoker.types.replica import ReplicaSpec

PENDING_MAX: Final = 64
RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 60.0
TIDY_S: Final = 60.0
BLOBS_KEPT_S: Final = 3600.0  # since they came or were wanted, when no version has them
VERSIONS_KEPT: Final = 4  # laid out, that no replica uses
STAGE: Final = "artifacts"
SHOWN_STEP: Final = 0.01  # of progress, that is worth telling control
log: Final = logging.getLogger(__name__)


class Places(NamedTuple):
    """Folders of this node."""

    replicas: Path
    models: Path


class _Pending:
    def __init__(self, start: NodeStart, fence: int) -> None:
        self.start = start
        self.fence = fence
        self.fraction = 0.0
        self.error = ""
        self.tries = 0
        self.task: asyncio.Task[None] | None = None


class Intake:
    """Between the agent's API and its supervisor, for starts that come with what the replica is told."""

    def __init__(self, supervisor: Supervisor, puller: Puller, blobs: BlobStore, places: Places) -> None:
        self._supervisor = supervisor
        self._puller = puller
        self._blobs = blobs
        self._places = places
        self._pending: dict[str, _Pending] = {}
        supervisor.coming = self.coming

    def put(self, start: NodeStart, fence: int) -> ProcessStatus:
        """Have a replica run, once its files are here; the same again changes nothing.

        Raises InvalidInput for folders that are not this node's, Busy over PENDING_MAX, and as the supervisor does.
        """
        name = start.process.name
        self._supervisor.admits(start.process, fence)
        wanted = layout.folder_of(start.replica.manifest, self._places.models)
        if start.replica.replica != name or start.replica.model_dir != str(wanted):
            raise InvalidInput("control takes this node's folders for others; remove the node and join again")
        running = self._supervisor.find(name)
        if running is not None and running.spec_digest == spec_digest(start.process):
            return running
        before = self._pending.get(name)
        if before is None and len(self._pending) >= PENDING_MAX:
            raise Busy(f"{PENDING_MAX} replicas wait for their files already", retry_after_s=5)
        if before is None or before.start != start:
            self.drop(name)
            pending = self._pending[name] = _Pending(start, fence)
            pending.task = asyncio.create_task(self._bring(name, pending), name=f"files of {name}")
        self._pending[name].fence = fence
        return _status(self._pending[name])

    def drop(self, name: str) -> None:
        """Fetch for a replica no more."""
        pending = self._pending.pop(name, None)
        if pending is not None and pending.task is not None:
            pending.task.cancel()
            self._supervisor.changed()

    def coming(self) -> Iterable[ProcessStatus]:
        """Return the replicas whose files are not here yet."""
        return [_status(each) for each in self._pending.values()]

    async def run(self) -> None:
        """Tidy until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self._tidy, time.time() - BLOBS_KEPT_S)
            except OSError as problem:
                log.warning("could not tidy", extra={"reason": str(problem)})
            await asyncio.sleep(TIDY_S)

    def close(self) -> None:
        """Fetch nothing more."""
        for name in list(self._pending):
            self.drop(name)

    async def _bring(self, name: str, pending: _Pending) -> None:
        """Fetch, lay out, write what the replica is told, and hand it to the supervisor; again after a failure."""
        spec = pending.start.replica

        def told(fraction: float) -> None:
            if fraction - pending.fraction >= SHOWN_STEP or fraction >= 1.0:
                pending.fraction = fraction
                self._supervisor.changed()

        while True:
            try:
                await self._puller.fetch(spec.manifest, told)
                await asyncio.to_thread(layout.lay_out, spec.manifest, self._blobs, self._places.models)
                await asyncio.to_thread(self._write, spec)
                self._supervisor.put(pending.start.process, pending.fence)  # before it is pending no more: see _tidy
                self._pending.pop(name, None)
                return
            except (StokerError, OSError) as problem:
                pending.error, pending.tries = str(problem), pending.tries + 1
                self._supervisor.changed()
                log.warning("the files of a replica are not here", extra={"worker": name, "reason": str(problem)})
                await asyncio.sleep(min(RETRY_FIRST_S * 2.0 ** min(pending.tries - 1, 10), RETRY_MAX_S))

    def _write(self, spec: ReplicaSpec) -> None:
        (self._places.replicas / spec.replica).mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._places.replicas / f"{spec.replica}.json"
        half = path.with_name(path.name + ".tmp")
        half.write_bytes(msgspec.json.format(msgspec.json.encode(spec)))
        half.replace(path)

    def _tidy(self, before_s: float) -> None:
        used = {each.start.replica.model_dir for each in list(self._pending.values())}
        for path in sorted(self._places.replicas.iterdir()):
            name = path.name.removesuffix(".tmp").removesuffix(".json").removesuffix(".error")
            if name not in self._pending and self._supervisor.find(name) is None:
                shutil.rmtree(path, ignore_errors=True)
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            elif path.suffix == ".json":
                with suppress(msgspec.MsgspecError):
                    used.add(msgspec.json.decode(path.read_bytes(), type=ReplicaSpec).model_dir)
        spare = [path for path in self._places.models.iterdir() if path.is_dir() and str(path) not in used]
        spare.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in spare[VERSIONS_KEPT:]:
            layout.remove(path)
        for blob in self._blobs.list():
            if self._blobs.path(blob.digest).stat().st_nlink == 1:  # no folder shares it
                self._blobs.delete(blob.digest, unused_since_s=before_s)


def _status(pending: _Pending) -> ProcessStatus:
    spec = pending.start.process
    return ProcessStatus(
        name=spec.name,
        kind="replica",
        phase="starting",
        address=spec.address,
        spec_digest=spec_digest(spec),
        last_error=pending.error,
        progress=LoadProgress(STAGE, round(pending.fraction, 3)),
        labels=spec.labels,
    )
