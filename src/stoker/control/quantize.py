"""A version's model in fewer bits: made beside the registry, its files put into the store, ready to be registered.

Registering is the ordinary push, with all its looks: what comes out of a quantizer is no more trusted than any file.
Whoever leaves meanwhile ends the work. What control's end cuts is removed at its next start, and a blob that no
version names goes with the next collection.
"""

import asyncio
import os
import re
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path, PurePosixPath
from typing import Final

from stoker.blob.folder import read_chunks
from stoker.blob.port import BlobStore
from stoker.control.worker import started
from stoker.registry import layout
from stoker.types.errors import Busy, InvalidInput, RefusedArtifact, Unsupported
from stoker.types.models import FileEntry, Lineage, ModelVersion
from stoker.types.quantization import POSSIBLE, Quantization, Quantized, QuantizeJob, Written
from stoker.types.work import Step

AT_ONCE: Final = 1  # each takes every core that is free
WAITING_MAX: Final = 4
MEMORY_BYTES_BASE: Final = 4 * 2**30  # of addresses, as with inspections: libraries map 1.5 GiB before they work
MEMORY_PER_FILE_BYTE: Final = {"gguf": 1, "onnx": 6}  # a GGUF is mapped and read in pieces, ONNX Runtime holds copies
SECONDS_BASE: Final = 120.0
# k-quants took 60 s of processor a GiB of float16 here; a busy machine gives a process that gives way a tenth of it.
SECONDS_PER_GIB: Final = 900.0
SILENCE_MAX_S: Final = 600.0  # between two lines: a whole ONNX model is one step
_QUANTIZED_NAME: Final = re.compile(r"[.-](i?q\d\w*|[bf]?f(16|32))$", re.IGNORECASE)


class Quantizer:
    """Makes quantized files of versions, one at a time."""

    def __init__(self, blobs: BlobStore, scratch: Path) -> None:
        self._blobs = blobs
        self._scratch = scratch
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def quantize(
        self, version: ModelVersion, to: Quantization, *, requantize: bool = False
    ) -> AsyncGenerator[Step | Quantized, None]:
        """Yield how far it is, and at last what was made. Closing the iterator ends the work and removes it.

        Raises:
            Unsupported: a format that cannot be quantized, or what does it is not installed.
            InvalidInput: not to that.
            Conflict: it is quantized already, or would be no smaller.
            RefusedArtifact: the stored bytes are damaged, or the tool cannot read them.
            Unavailable, DeadlineExceeded: no room on the disk or in memory, or the process died or took too long.
            Busy: too many wait.
        """
        _check(version, to)
        if self._waiting >= WAITING_MAX:
            raise Busy(f"{self._waiting} models are quantized or wait for it", retry_after_s=30.0)
        self._waiting += 1
        try:
            if self._turn.locked():
                yield Step("waiting for another to be done")
            async with self._turn, aclosing(self._made(version, to, requantize)) as steps:
                async for said in steps:
                    yield said
        finally:
            self._waiting -= 1

    async def _made(
        self, version: ModelVersion, to: Quantization, requantize: bool
    ) -> AsyncGenerator[Step | Quantized, None]:
        manifest = version.manifest
        yield Step("reading")
        for entry in manifest.files:
            if not await asyncio.to_thread(self._blobs.verify, entry.digest):
                raise RefusedArtifact(f"the stored bytes of {entry.path} changed on disk; push {version.ref} again")
        folder = self._scratch / f"{layout.PARTIAL_PREFIX}{secrets.token_hex(8)}"
        try:
            folder.mkdir(mode=0o700)
            source = folder / "files"
            await asyncio.to_thread(layout.stage, manifest.files, self._blobs, source)
            job = _job(version, to, folder, requantize)
            # Linear algebra libraries map memory per core, which the memory limit would count.
            env = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TMPDIR": str(folder), "HOME": str(folder)}
            doing = f"quantizing {version.ref}"
            async with started("stoker.registry.quantize.main", doing, folder / "stderr", env) as worker:
                await worker.tell(job, is_last=True)
                said: Step | Written = Step("quantizing")
                while isinstance(said, Step):
                    yield said
                    said = await worker.hear(Step | Written, SILENCE_MAX_S)  # type: ignore[arg-type]
            yield Step("storing")
            yield await asyncio.to_thread(self._stored, version, to, Path(job.target), said)
        finally:
            layout.remove(folder)

    def _stored(self, version: ModelVersion, to: Quantization, made: Path, written: Written) -> Quantized:
        manifest = version.manifest
        with made.open("rb") as file:
            blob = self._blobs.put(read_chunks(file))
        root = made.parent / "files"
        gone = {Path(path).relative_to(root).as_posix() for path in written.replaced} | {manifest.entry}
        entry = _entry(manifest.entry, to)
        files = [one for one in manifest.files if one.path not in gone]
        files.append(FileEntry(entry, blob.digest, blob.size_bytes))
        return Quantized(
            files=tuple(sorted(files, key=lambda one: one.path)),
            format=manifest.format,
            entry=entry,
            tasks=manifest.tasks,
            options=manifest.options,
            metadata={"quantized_to": to, "quantized_from": version.ref, "quantized_by": written.tool},
            lineage=Lineage(
                source=f"{version.ref} quantized to {to} by {written.tool}",
                parent=version.ref,
                run=manifest.lineage.run,
                data=manifest.lineage.data,
                trained_at_s=version.made_at_s,
            ),
            size_before_bytes=version.size_bytes,
            size_bytes=sum(one.size_bytes for one in files),
        )


def _check(version: ModelVersion, to: str) -> None:
    possible = POSSIBLE.get(version.manifest.format)
    if possible is None:
        raise Unsupported(
            f"{version.ref} has the format {version.manifest.format}; {' and '.join(POSSIBLE)} can be quantized"
        )
    if to not in possible:
        raise InvalidInput(
            f"{version.ref} has the format {version.manifest.format} and cannot become {to}; "
            f"it can become {', '.join(possible)}",
            field="to",
        )


def _job(version: ModelVersion, to: Quantization, folder: Path, requantize: bool) -> QuantizeJob:
    size_bytes = version.size_bytes
    return QuantizeJob(
        source=str(folder / "files" / version.manifest.entry),
        target=str(folder / "made"),
        to=to,
        requantize=requantize,
        threads=max(1, len(os.sched_getaffinity(0)) - 1),
        seconds=SECONDS_BASE + SECONDS_PER_GIB * size_bytes / 2**30,
        memory_bytes=MEMORY_BYTES_BASE + MEMORY_PER_FILE_BYTE[version.manifest.format] * size_bytes,
    )


def _entry(path: str, to: str) -> str:
    """Return the name of the new file: a GGUF's says what it is quantized to, as everywhere."""
    old = PurePosixPath(path)
    if old.suffix.lower() != ".gguf" or old.stem == "model":
        return path
    return str(old.with_name(f"{_QUANTIZED_NAME.sub('', old.stem)}.{to.upper()}.gguf"))
