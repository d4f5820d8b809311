"""Whether the files an engine is about to open are the files that were registered."""

import hashlib
from pathlib import Path, PurePosixPath

from stoker.runtime.engines.port import Progress
from stoker.types.errors import RefusedArtifact
from stoker.types.models import FileEntry, VersionManifest


def verify(folder: Path, manifest: VersionManifest, progress: Progress) -> None:
    """Check size and sha256 of every file of `manifest` in `folder`. Raises RefusedArtifact naming the first wrong one.

    Reports the stage `verify`. Reads each file once, so it also brings the weights into the page cache.
    """
    total = sum(entry.size_bytes for entry in manifest.files) or 1
    seen = 0
    for entry in manifest.files:
        progress("verify", seen / total)
        _check(folder, entry)
        seen += entry.size_bytes
    progress("verify", 1.0)


def _check(folder: Path, entry: FileEntry) -> None:
    relative = PurePosixPath(entry.path)
    path = folder / relative
    if ".." in relative.parts or relative.is_absolute():
        raise RefusedArtifact(f"{entry.path} leads out of the model's folder")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            size_bytes = file.tell()
    except OSError as missing:
        raise RefusedArtifact(f"{entry.path} cannot be read: {missing.strerror or missing}") from missing
    if size_bytes != entry.size_bytes:
        raise RefusedArtifact(f"{entry.path} has {size_bytes} bytes where {entry.size_bytes} were registered")
    found = "sha256:" + digest.hexdigest()
    if found != entry.digest:
        raise RefusedArtifact(f"{entry.path} has the digest {found} where {entry.digest} was registered")
