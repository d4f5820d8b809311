"""What a backup holds, and how one is taken while the platform runs, and read again.

A tar inside a sealed stream (protocol/sealed.py). Each database is copied as it is at one moment; blobs are those that
the rows of that moment need, and the audit's checkpoints those of that moment too. The last member lists every file
with its SHA-256. What is made anew at a start is not in it: versions laid out, processes, route tables, logs.
"""

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Final, Protocol

import msgspec

import stoker
from stoker.app.home import Home
from stoker.blob.folder import FolderBlobs, sync_folder
from stoker.protocol.sealed import Head, OpeningReader, SealingWriter, Secret, read_head
from stoker.store import copies, schema
from stoker.telemetry.sealing import MASTER, OF_PROJECT, KeyRing, Unreadable
from stoker.types.errors import NotFound, RefusedArtifact, Unavailable
from stoker.types.ids import Digest

STATE: Final = "state.db"
LIST: Final = "FILES.json"
LIST_BYTES_MAX: Final = 256 << 20
TRIES: Final = 3  # of a moment whose blobs go while they are copied
READ_BYTES: Final = 1 << 20
# What else a platform is made of. Samples are sealed with keys in their folder; with STOKER_SAMPLES_KEY_FILE the master
# key is elsewhere, and so not in the backup.
_DATABASES: Final = ("metrics.db", "feedback.db")
_FILES: Final = ("platform.key", "ca.json", "credentials.json")
_FOLDERS: Final = ("samples", "drift", "hooks", "gamedays", "gateway/quarantine")
_CHECKPOINTS: Final = "audit.checkpoints"

Told = Callable[[str, int, int], None]  # what is done, so many bytes of so many


class Member(msgspec.Struct, frozen=True):
    """One file of a backup."""

    path: str
    size_bytes: int
    sha256: str
    mode: int


class Contents(msgspec.Struct, frozen=True):
    """What a backup holds. made_at_s: unix time."""

    files: tuple[Member, ...]
    schema: str
    made_at_s: float
    stoker: str


class Sink(Protocol):
    """Where the files of a backup go as they are read."""

    def take(self, path: str, mode: int, chunks: Iterator[bytes]) -> None:
        """Take one file; every chunk must be read."""
        ...


def take(home: Home, target: Path, secret: Secret, told: Told) -> Contents:
    """Write a backup of the platform in `home` to the file `target`, whole or not at all.

    Raises NotFound where there is no platform; Conflict, SchemaTooNew for its schema; Unavailable; OSError.
    """
    if not home.database.is_file():
        raise NotFound(f"no platform in {home.root}: there is no {STATE}")
    partial = target.with_name(f".{target.name}.partial")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    home.tmp.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with (
            open(handle, "wb") as file,  # noqa: PTH123 - the mode must be right from the first byte
            tempfile.TemporaryDirectory(dir=home.tmp, prefix="backup-") as scratch,
        ):
            now_s = time.time()
            about: dict[str, str | float] = {"schema": schema.VERSION, "stoker": stoker.__version__, "made_at_s": now_s}
            sources = _gathered(home, Path(scratch), told)
            contents = _written(SealingWriter(file, secret, about), sources, now_s, told)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        sync_folder(target.absolute().parent)
    finally:
        partial.unlink(missing_ok=True)
    return contents


def head(path: Path) -> Head:
    """Return what anybody may read of a backup. Raises InvalidInput, OSError."""
    with path.open("rb") as file:
        return read_head(file)[0]


def read(path: Path, secret: Secret, sink: Sink, told: Told) -> Contents:
    """Hand every file of a backup to `sink` and return what it holds, each byte compared.

    Raises RefusedArtifact where it was changed or is not whole; InvalidInput; OSError.
    """
    size = path.stat().st_size
    seen: list[Member] = []
    contents: Contents | None = None
    with path.open("rb") as file:
        opening = io.BufferedReader(OpeningReader(file, secret), READ_BYTES)
        with tarfile.open(fileobj=opening, mode="r|") as tar:
            for entry in tar:
                inside = _inside(tar, entry)
                if entry.name == LIST:
                    contents = msgspec.json.decode(inside.read(LIST_BYTES_MAX), type=Contents)
                    continue
                digest = hashlib.sha256()
                sink.take(entry.name, entry.mode, _hashed(inside, digest))
                seen.append(Member(entry.name, entry.size, digest.hexdigest(), entry.mode))
                told("reading", file.tell(), size)
        while opening.read(READ_BYTES):  # to the last piece: a cut within it would not be seen before
            pass
    if contents is None or tuple(seen) != contents.files:
        raise RefusedArtifact("it does not hold the files that its list says")
    if wrong := next((each.path for each in seen if _is_bad_blob(each)), ""):
        raise RefusedArtifact(f"{wrong} has other bytes than its name says: it was damaged before it was copied")
    return contents


def _gathered(home: Home, scratch: Path, told: Told) -> list[tuple[str, Path]]:
    """Return every file of a backup by its path in it, databases as copies of one moment."""
    blobs = FolderBlobs(home.blobs, home.tmp)
    told("copying databases", 0, 0)
    if home.usage.is_dir():  # before the rows: what is settled meanwhile is known by its number, and counts once
        shutil.copytree(home.usage, scratch / "usage", copy_function=_copied)
    for _ in range(TRIES):
        state = scratch / STATE
        state.unlink(missing_ok=True)
        copies.copy(home.database, state)
        digests, lines = copies.needed(state)
        if all(map(blobs.touch, sorted(digests))):  # none is collected for an hour now
            break
    else:
        raise Unavailable(
            "blobs go while they are copied; try again, and if it stays, look at blobs/", retry_after_s=5.0
        )
    (scratch / _CHECKPOINTS).write_text("".join(f"{line}\n" for line in lines))
    (scratch / _CHECKPOINTS).chmod(0o600)
    sources = [(STATE, state), (_CHECKPOINTS, scratch / _CHECKPOINTS), *_sample_keys(home, scratch)]
    for name in _DATABASES:
        if (home.root / name).is_file():
            copies.copy(home.root / name, scratch / name)
            sources.append((name, scratch / name))
    sources += [(name, home.root / name) for name in _FILES if (home.root / name).is_file()]
    sources += [(f"blobs/{_blob_path(digest)}", blobs.path(digest)) for digest in sorted(digests)]
    for root, folder in ((scratch, "usage"), *((home.root, each) for each in _FOLDERS)):
        for file in sorted((root / folder).rglob("*")):
            if file.is_file() and not file.is_symlink() and not (folder == "samples" and _is_keys(file)):
                sources.append((file.relative_to(root).as_posix(), file))
    return sources


def _sample_keys(home: Home, scratch: Path) -> list[tuple[str, Path]]:
    """Copy the keys of samples as they are at one moment: a rotation between two of them would leave one unreadable."""
    ring = KeyRing(home.samples)
    if not ring.files():
        return []
    found = []
    try:
        with ring.locked():
            for file in ring.files():
                copy = scratch / file.relative_to(home.root)
                copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                shutil.copy2(file, copy)
                found.append((file.relative_to(home.root).as_posix(), copy))
    except Unreadable as held:
        raise Unavailable(str(held), retry_after_s=5.0) from held
    return found


def _is_keys(file: Path) -> bool:
    return file.name in (MASTER, OF_PROJECT) or file.name.startswith(".")


def _written(sealing: SealingWriter, sources: list[tuple[str, Path]], now_s: float, told: Told) -> Contents:
    """Write every file and then the list of them."""
    total = sum(_size(source) for _, source in sources)
    files: list[Member] = []
    with tarfile.open(fileobj=sealing, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name, source in sources:
            try:
                file = source.open("rb")
            except FileNotFoundError:
                if name.startswith("samples/"):
                    continue  # the oldest go by themselves
                raise
            with file:
                stat = os.fstat(file.fileno())
                hashing = _Hashing(file)
                tar.addfile(_entry(name, stat.st_size, stat.st_mode & 0o777), hashing)  # as long as it was then
                files.append(Member(name, stat.st_size, hashing.digest.hexdigest(), stat.st_mode & 0o777))
            told("writing", sum(each.size_bytes for each in files), total)
        contents = Contents(tuple(files), schema.VERSION, now_s, stoker.__version__)
        data = msgspec.json.encode(contents)
        tar.addfile(_entry(LIST, len(data), 0o600), io.BytesIO(data))
    sealing.finish()
    return contents


def _copied(source: str, target: str) -> str:
    """Copy a file, unless it was settled and removed meanwhile."""
    with suppress(FileNotFoundError):
        shutil.copy2(source, target)
    return target


def _entry(name: str, size_bytes: int, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size_bytes, mode
    return entry


class _Hashing(io.RawIOBase):
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """See io.RawIOBase."""
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _inside(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    """Return the bytes of a member. Raises RefusedArtifact for what is no file below the state folder."""
    path = PurePosixPath(entry.name)
    inside = tar.extractfile(entry) if entry.isreg() else None
    if inside is None or path.is_absolute() or ".." in path.parts:
        raise RefusedArtifact(f"{entry.name[:100]!r} in it is no file of a state folder")
    return inside


def _hashed(file: IO[bytes], digest: "hashlib._Hash") -> Iterator[bytes]:
    while data := file.read(READ_BYTES):
        digest.update(data)
        yield data


def _is_bad_blob(member: Member) -> bool:
    return member.path.startswith("blobs/") and not member.path.endswith(member.sha256)


def _blob_path(digest: Digest) -> str:
    name = digest.removeprefix("sha256:")
    return f"{name[:2]}/{name}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
