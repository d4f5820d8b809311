"""Versions as read-only folders that engines open: `models/<digest hex>/`, hard links to the blobs.

A folder is made under a temporary name and renamed, so that it is whole or not there; the same version laid out by
two processes at once is one folder. The links share the blobs' bytes: a version costs its disk space once.
"""

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from stoker.blob.folder import sync_folder
from stoker.blob.port import BlobStore
from stoker.registry.paths import check_entries
from stoker.types.errors import RefusedArtifact
from stoker.types.ids import Digest
from stoker.types.models import FileEntry, VersionManifest, manifest_digest

PARTIAL_PREFIX = ".partial-"
# Another filesystem, a link count at its end, a disk without links: the bytes are copied instead.
_NO_LINK = {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP}


def lay_out(manifest: VersionManifest, blobs: BlobStore, models: Path) -> Path:
    """Return the folder of a version below `models`, made if it is not there; blocks while digests are checked.

    Every blob's digest is verified when the folder is made. A folder that is there is taken when its files are still
    the blobs' own, else it is made anew.

    Raises:
        RefusedArtifact: a blob's bytes changed on disk; the blob was removed, so that it can be pushed again.
        NotFound: a blob is missing.
        OSError: the disk is full or refuses; nothing is left behind.
    """
    if manifest.files:  # a remote model has none
        check_entries(manifest.files)
    target = folder_of(manifest, models)
    if target.is_dir() and _is_whole(target, manifest.files, blobs):
        return target
    for digest in dict.fromkeys(entry.digest for entry in manifest.files):
        if not blobs.verify(digest):
            raise RefusedArtifact(
                f"the stored bytes of {digest} changed on disk; they were removed, push the model again"
            )
    partial = models / f"{PARTIAL_PREFIX}{secrets.token_hex(8)}"
    try:
        stage(manifest.files, blobs, partial)
        for folder in sorted(_folders(partial), reverse=True):
            sync_folder(folder)
            folder.chmod(0o555)
        if target.is_dir() and not _is_whole(target, manifest.files, blobs):
            remove(target)
        _rename(partial, target)
        sync_folder(models)
    finally:
        remove(partial)
    return target


def folder_of(manifest: VersionManifest, models: Path) -> Path:
    """Return where `lay_out` puts this version, there or not."""
    return models / manifest_digest(manifest).removeprefix("sha256:")


def verify(folder: Path, manifest: VersionManifest) -> list[str]:
    """Return the paths of a laid-out version whose bytes are missing or not those of the manifest; reads all."""
    return [entry.path for entry in manifest.files if _digest(folder / entry.path) != entry.digest]


def stage(files: Sequence[FileEntry], blobs: BlobStore, folder: Path) -> None:
    """Make `folder` with the files under their paths, as links to the blobs. Paths must have been checked."""
    folder.mkdir(mode=0o755)
    for entry in files:
        target = folder / entry.path
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        source = blobs.path(entry.digest)
        try:
            target.hardlink_to(source)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            shutil.copyfile(source, target)
            target.chmod(0o444)


def remove(folder: Path) -> bool:
    """Remove a read-only folder whatever it holds; return whether it was there.

    It loses its name first, so that no one finds half of it.
    """
    if not folder.is_dir():
        return False
    if not folder.name.startswith(PARTIAL_PREFIX):
        hidden = folder.with_name(f"{PARTIAL_PREFIX}{secrets.token_hex(8)}")
        folder.chmod(0o755)
        folder.rename(hidden)
        folder = hidden
    for inner in _folders(folder):
        inner.chmod(0o755)
    shutil.rmtree(folder)
    return True


def clean(folder: Path) -> int:
    """Remove what earlier processes left half-made in `folder`; call it when nothing else runs. Returns how many."""
    return sum(remove(path) for path in list(folder.glob(PARTIAL_PREFIX + "*")))


def _is_whole(folder: Path, files: Sequence[FileEntry], blobs: BlobStore) -> bool:
    for entry in files:
        try:
            found = (folder / entry.path).stat()
        except OSError:
            return False
        if found.st_size != entry.size_bytes:
            return False
        # A blob that was replaced (its bytes had gone bad) leaves the old bytes in the link.
        blob = blobs.path(entry.digest).stat() if blobs.has(entry.digest) else found
        if blob.st_dev == found.st_dev and not os.path.samestat(found, blob):
            return False
    return True


def _rename(partial: Path, target: Path) -> None:
    try:
        partial.chmod(0o755)
        partial.rename(target)
        target.chmod(0o555)
    except OSError as error:
        # Another thread laid out the same version in between: its folder is as good as ours.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not target.is_dir():
            raise


def _folders(folder: Path) -> list[Path]:
    return [folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())]


def _digest(path: Path) -> Digest:
    try:
        with path.open("rb") as file:
            return Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())
    except OSError:
        return Digest("")
