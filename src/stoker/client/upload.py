"""From a file or a folder to a registered version: which files, their digests, the upload, with progress.

Order matters: blobs first, the version last, so that a push cut anywhere leaves nothing but unnamed blobs, which
control's garbage collection removes.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from stoker.client.control import ControlClient
from stoker.client.registration import Registration
from stoker.client.views import PushedVersion
from stoker.types.errors import InvalidInput, NotFound, RefusedArtifact
from stoker.types.ids import Digest
from stoker.types.models import FileEntry
from stoker.types.signing import SIGNATURE_FILE

FILES_MAX: Final = 10_000
PIECE_BYTES: Final = 1 << 20
# What tools leave in a folder and no model needs.
_LEFT_OUT: Final = frozenset({"__pycache__", ".git", ".DS_Store", ".ipynb_checkpoints", ".cache", ".venv"})

Stage = Literal["hash", "upload", "register"]
# (stage, bytes done, bytes in all); "register" has no bytes.
OnProgress = Callable[[Stage, int, int], None]
# The files of a version → its signature.
Signer = Callable[[tuple[FileEntry, ...]], str]


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One file to push: where it lies, and its path inside the version."""

    where: Path
    path: str
    size_bytes: int


def find_files(source: Path) -> tuple[LocalFile, ...]:
    """Return the files of `source`, a file or a folder, sorted by path.

    A link to a file is followed where it leads to inside the folder, or, in a hub's cache, to that cache's blobs; one
    that leads anywhere else could take any file of this machine along. A linked folder is refused: it may lead in
    circles.

    Raises:
        NotFound: there is nothing at `source`.
        RefusedArtifact: a link leads out of the folder.
        InvalidInput: a device, a linked folder, an empty folder, or more than `FILES_MAX` files.
    """
    try:
        about = source.stat()
    except (FileNotFoundError, NotADirectoryError) as missing:
        raise NotFound(f"there is no file or folder at {source}") from missing
    except OSError as refused:
        raise InvalidInput(f"{source} cannot be read: {refused.strerror}") from refused
    if stat.S_ISREG(about.st_mode):
        return (LocalFile(source, source.name, about.st_size),)
    if not stat.S_ISDIR(about.st_mode):
        raise InvalidInput(f"{source} is neither a file nor a folder")
    found: list[LocalFile] = []
    for one in _walk(source, source, _homes(source)):
        found.append(one)
        if len(found) > FILES_MAX:
            raise InvalidInput(f"{source} holds more than {FILES_MAX} files; push the folder of the model itself")
    if not found:
        raise InvalidInput(f"{source} holds no files")
    return tuple(sorted(found, key=lambda one: one.path))


def digest_files(files: tuple[LocalFile, ...], on_progress: OnProgress) -> tuple[FileEntry, ...]:
    """Return the entries of a version, in order, each with the digest of what was read."""
    total = sum(one.size_bytes for one in files)
    done = 0
    entries: list[FileEntry] = []
    for one in files:
        digest = hashlib.sha256()
        size_bytes = 0
        for piece in _pieces(one.where):
            digest.update(piece)
            size_bytes += len(piece)
            on_progress("hash", min(done + size_bytes, total), total)
        done += one.size_bytes
        entries.append(FileEntry(one.path, Digest("sha256:" + digest.hexdigest()), size_bytes))
    return tuple(entries)


def push(
    control: ControlClient,
    name: str,
    source: Path,
    what: Registration,
    on_progress: OnProgress,
    beside: tuple[LocalFile, ...] = (),
    signer: Signer | None = None,
) -> PushedVersion:
    """Upload what control does not have of `source` and register it; `what.files` is filled in here.

    Args:
        control: where to.
        name: of the model.
        source: a file or a folder.
        what: what is said of it.
        on_progress: told of each stage.
        beside: files that go with it, in the place of those of the same path.
        signer: makes the signature that is registered with it.

    Raises:
        RefusedArtifact: control looked inside and refused; nothing was registered.
        StokerError: as `ControlClient` raises.
    """
    # An older signature beside the files is not of what is signed now.
    others = {one.path for one in beside} | ({SIGNATURE_FILE} if signer is not None else set())
    files = (*(one for one in find_files(source) if one.path not in others), *beside)
    entries = digest_files(files, on_progress)
    missing: dict[str, tuple[LocalFile, FileEntry]] = {}
    for local, entry in zip(files, entries, strict=True):
        if entry.digest not in missing and not control.has_blob(entry.digest):
            missing[entry.digest] = (local, entry)
    total = sum(entry.size_bytes for _, entry in missing.values())
    done = 0
    for local, entry in missing.values():
        start = done

        def count(sent: int, start: int = start) -> None:
            on_progress("upload", start + sent, total)

        control.put_blob(entry.digest, entry.size_bytes, _counted(local, entry, count))
        done += entry.size_bytes
    on_progress("register", 0, 0)
    if signer is not None:
        what = replace(what, signatures=(signer(entries),))
    return control.register(name, replace(what, files=entries))


def _homes(source: Path) -> tuple[Path, ...]:
    """Return where links of `source` may lead: inside it, and a hub's cache keeps its bytes beside its snapshots."""
    real = source.resolve()
    beside = (real.parent.parent / "blobs",) if real.parent.name == "snapshots" else ()
    return (real, *beside)


def _walk(folder: Path, root: Path, homes: tuple[Path, ...]) -> Iterator[LocalFile]:
    with os.scandir(folder) as entries:
        inside = sorted(entries, key=lambda entry: entry.name)
    for entry in inside:
        if entry.name in _LEFT_OUT or entry.name.endswith(".pyc"):
            continue
        where = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(where, root, homes)
        elif entry.is_file():
            if entry.is_symlink() and not any(where.resolve().is_relative_to(home) for home in homes):
                raise RefusedArtifact(
                    f"{where} is a link to {where.resolve()}, outside the folder; put the file itself there"
                )
            yield LocalFile(where, where.relative_to(root).as_posix(), entry.stat().st_size)
        elif entry.is_dir():
            raise InvalidInput(f"{where} is a link to a folder; push a folder that holds the files themselves")
        else:
            raise InvalidInput(
                f"{where} is not a file (a broken link, a socket or a device); remove it from the folder"
            )


def _pieces(where: Path) -> Iterator[bytes]:
    try:
        with where.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    except OSError as refused:
        raise InvalidInput(f"{where} cannot be read: {refused.strerror}") from refused


def _counted(local: LocalFile, entry: FileEntry, count: Callable[[int], None]) -> Iterator[bytes]:
    """Yield the file in pieces, telling `count` the bytes so far; stops a file that changes under the upload."""
    sent = 0
    for piece in _pieces(local.where):
        sent += len(piece)
        if sent > entry.size_bytes:
            break
        yield piece
        count(sent)
    if sent != entry.size_bytes:
        raise InvalidInput(f"{local.where} changed while it was uploaded; push again when nothing writes to it")
