"""The files of a model version, from control's store into this node's, over TLS and by their digests."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

from stoker.blob.port import BlobStore
from stoker.protocol.unixhttp import stream
from stoker.types.errors import NotFound, NotReachable, RefusedArtifact, StokerError, Unavailable
from stoker.types.models import FileEntry, VersionManifest

STALL_S: Final = 30.0  # between two pieces
WRITE_BYTES: Final = 1 << 20

Told = Callable[[float], None]  # the fraction of all bytes that is here


class Puller:
    """Fetches what is missing. Two replicas of one version fetch each file once."""

    def __init__(self, control: str, blobs: BlobStore) -> None:
        self._control = control
        self._blobs = blobs
        self._fetching: dict[str, asyncio.Lock] = {}  # by digest, while somebody fetches or waits for it

    async def fetch(self, manifest: VersionManifest, told: Told) -> None:
        """Have every file of a version here. Raises StokerError; what is whole by then stays for the next try."""
        whole, done = max(sum(entry.size_bytes for entry in manifest.files), 1), 0
        for entry in {entry.digest: entry for entry in manifest.files}.values():
            lock = self._fetching.setdefault(entry.digest, asyncio.Lock())
            try:
                async with lock:
                    if not await asyncio.to_thread(self._blobs.touch, entry.digest):
                        before = done
                        await self._one(entry, lambda size: told((before + size) / whole))  # noqa: B023 - awaited here
            finally:
                if not lock.locked():
                    self._fetching.pop(entry.digest, None)
            done += entry.size_bytes
            told(done / whole)

    async def _one(self, entry: FileEntry, told: Callable[[int], None]) -> None:
        size, held = 0, bytearray()
        with self._blobs.writer(entry.digest, entry.size_bytes) as writer:
            async with aclosing(stream(self._control, "GET", f"/v1/blobs/{entry.digest}")) as answer:
                while True:
                    try:
                        status, piece = await asyncio.wait_for(anext(answer), STALL_S)
                    except StopAsyncIteration:
                        break
                    except TimeoutError as stalled:
                        raise NotReachable(f"control sent nothing of {entry.path} for {STALL_S:g} s") from stalled
                    if status != 200:
                        raise _refused(status, entry)
                    held += piece
                    size += len(piece)
                    if size > entry.size_bytes:
                        raise RefusedArtifact(f"control sent more than the {entry.size_bytes} bytes of {entry.path}")
                    if len(held) >= WRITE_BYTES:
                        await asyncio.to_thread(writer.write, bytes(held))
                        held.clear()
                        told(size)
            await asyncio.to_thread(writer.write, bytes(held))
            await asyncio.to_thread(writer.commit)


def _refused(status: int, entry: FileEntry) -> StokerError:
    kind = NotFound if status == 404 else Unavailable
    return kind(f"control does not give {entry.path} ({status})")
