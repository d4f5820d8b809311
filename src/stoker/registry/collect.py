"""Which blobs, laid-out folders and old versions may go, and their removal.

The decision is a pure function of what there is and what is used; anything a registered version is made of stays, and
so does anything fresh: between an upload and the version that names it there is only the grace period.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from stoker.blob.port import BlobInfo, BlobStore
from stoker.registry import layout
from stoker.types.ids import Digest, is_digest
from stoker.types.models import FileEntry, ModelVersion

GRACE_S = 3600.0


class Folder(msgspec.Struct, frozen=True):
    """A laid-out version on disk: the digest it is named by, and when it was made (unix time)."""

    digest: Digest
    made_at_s: float


class Inventory(msgspec.Struct, frozen=True):
    """Everything a collection looks at.

    `used` are the digests of versions that a revision or a replica needs, `held` blobs that belong to no version.
    """

    versions: tuple[ModelVersion, ...]
    used: frozenset[Digest]
    blobs: tuple[BlobInfo, ...] = ()
    folders: tuple[Folder, ...] = ()
    held: frozenset[Digest] = frozenset()


class Garbage(msgspec.Struct, frozen=True):
    """What may go: versions first (the caller deletes their rows), then folders, then blobs."""

    versions: tuple[ModelVersion, ...] = ()
    folders: tuple[Digest, ...] = ()
    blobs: tuple[Digest, ...] = ()
    unused_since_s: float = 0.0


class Collected(msgspec.Struct, frozen=True):
    """What went."""

    folders: int
    blobs: int
    bytes: int


def decide(
    inventory: Inventory, now_s: float, *, grace_s: float = GRACE_S, keep_versions: int | None = None
) -> Garbage:
    """Return what may go.

    Args:
        inventory: `versions` must hold every registered version and be read after `blobs` and `folders` were listed,
            so that a version registered meanwhile is seen.
        now_s: unix time.
        keep_versions: of each model keep this many newest versions besides those in use or with an alias; None
            keeps all.
    """
    before = now_s - grace_s
    gone = _old_versions(inventory, before, keep_versions)
    kept = [version for version in inventory.versions if version not in gone]
    needed = {entry.digest for version in kept for entry in version.manifest.files} | inventory.held
    return Garbage(
        versions=tuple(gone),
        folders=tuple(
            folder.digest
            for folder in inventory.folders
            if folder.digest not in inventory.used and folder.made_at_s <= before
        ),
        blobs=tuple(blob.digest for blob in inventory.blobs if blob.digest not in needed and blob.used_at_s <= before),
        unused_since_s=before,
    )


def survey(blobs: BlobStore, models: Path) -> tuple[tuple[BlobInfo, ...], tuple[Folder, ...]]:
    """Return what lies on disk: blobs and laid-out versions."""
    folders = []
    for path in models.iterdir() if models.is_dir() else ():
        digest = Digest(f"sha256:{path.name}")
        if is_digest(digest):
            folders.append(Folder(digest, path.stat().st_mtime))
    return tuple(blobs.list()), tuple(folders)


def collect(garbage: Garbage, blobs: BlobStore, models: Path) -> Collected:
    """Remove folders and blobs; a blob touched since the decision stays. Rows of versions are the caller's."""
    folders = sum(layout.remove(models / digest.removeprefix("sha256:")) for digest in garbage.folders)
    count = size_bytes = 0
    for digest in garbage.blobs:
        if blobs.has(digest):
            size = blobs.size(digest)
            if blobs.delete(digest, garbage.unused_since_s):
                count += 1
                size_bytes += size
    return Collected(folders, count, size_bytes)


def discard(
    files: Iterable[FileEntry],
    blobs: BlobStore,
    versions: Sequence[ModelVersion],
    held: frozenset[Digest] = frozenset(),
) -> int:
    """Remove the blobs of a refused push that no registered version is made of; return how many went.

    held: blobs that belong to no version and stay.
    """
    needed = {entry.digest for version in versions for entry in version.manifest.files} | held
    doomed = {entry.digest for entry in files if is_digest(entry.digest)} - needed
    return sum(blobs.delete(digest) for digest in doomed)


def _old_versions(inventory: Inventory, before_s: float, keep: int | None) -> list[ModelVersion]:
    if keep is None:
        return []
    newest = sorted(inventory.versions, key=lambda version: version.number, reverse=True)
    seen: dict[str, int] = {}
    gone = []
    for version in newest:
        seen[version.name] = seen.get(version.name, 0) + 1
        is_kept = version.digest in inventory.used or version.aliases or version.created_at_s > before_s
        if seen[version.name] > max(keep, 1) and not is_kept:
            gone.append(version)
    return gone
