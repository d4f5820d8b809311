"""Whether the files an engine is about to open are the files that were registered."""

import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final

from stoker.runtime.engines.port import Progress
from stoker.types.errors import RefusedArtifact
from stoker.types.models import FileEntry, VersionManifest
from stoker.types.starts import VERIFY

CHUNK_BYTES: Final = 4 << 20


def verify(folder: Path, manifest: VersionManifest, progress: Progress) -> None:
    """Check size and sha256 of every file of `manifest` in `folder`. Raises RefusedArtifact naming the first wrong one.

    Reports the stage `verify`. Reads each file once, so it also brings the weights into the page cache.
    """
    total = sum(entry.size_bytes for entry in manifest.files) or 1
    seen = 0
    for entry in manifest.files:
        before = seen

        def so_far(count: int, before: int = before) -> None:
            progress(VERIFY, min(1.0, (before + count) / total))

        _check(folder, entry, so_far)
        seen += entry.size_bytes
    progress(VERIFY, 1.0)


def _check(folder: Path, entry: FileEntry, so_far: Callable[[int], None]) -> None:
    relative = PurePosixPath(entry.path)
    path = folder / relative
    if ".." in relative.parts or relative.is_absolute():
        raise RefusedArtifact(f"{entry.path} leads out of the model's folder")
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK_BYTES))
    size_bytes = 0
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
                size_bytes += count
                so_far(size_bytes)
    except OSError as missing:
        raise RefusedArtifact(f"{entry.path} cannot be read: {missing.strerror or missing}") from missing
    if size_bytes != entry.size_bytes:
        raise RefusedArtifact(f"{entry.path} has {size_bytes} bytes where {entry.size_bytes} were registered")
    found = "sha256:" + digest.hexdigest()
    if found != entry.digest:
        raise RefusedArtifact(f"{entry.path} has the digest {found} where {entry.digest} was registered")
