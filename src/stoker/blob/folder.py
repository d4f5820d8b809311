"""Blobs as files in a folder: `blobs/ab/abcdef…`, each written to a temporary name, fsynced, renamed.

A reader sees a whole blob or none, whatever dies when. Half-written files lie in the temporary folder and are
removed by `clean` at the next start.
"""

import errno
import hashlib
import os
import re
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from stoker.blob.port import BLOB_BYTES_MAX, Blob, BlobInfo
from stoker.types.errors import InvalidInput, NotFound, RefusedArtifact, TooLarge, Unavailable
from stoker.types.ids import Digest, is_digest
from stoker.types.units import format_bytes

READ_CHUNK_BYTES = 2**20
PARTIAL_PREFIX = "blob-"
_HEX = re.compile(r"[0-9a-f]{64}")
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FolderBlobs:
    """A BlobStore in `root`, with half-written files in `tmp` on the same filesystem."""

    def __init__(self, root: Path, tmp: Path) -> None:
        self._root = root
        self._tmp = tmp
        # Between the look at a blob's age and its removal nobody may touch it: both happen in this process.
        self._removal = threading.Lock()

    def clean(self) -> int:
        """Remove what an earlier process left half-written; call it before the first write. Returns how many."""
        count = 0
        for path in self._tmp.glob(PARTIAL_PREFIX + "*"):
            path.unlink(missing_ok=True)
            count += 1
        return count

    def writer(self, expected: Digest | None = None, limit_bytes: int = BLOB_BYTES_MAX) -> "FolderWriter":
        """Start a blob whose bytes come piece by piece."""
        if expected is not None:
            _hex(expected)
        return FolderWriter(self, self._tmp / f"{PARTIAL_PREFIX}{secrets.token_hex(8)}", expected, limit_bytes)

    def put(self, chunks: Iterable[bytes], expected: Digest | None = None, limit_bytes: int = BLOB_BYTES_MAX) -> Blob:
        """Store all of `chunks`; nothing stays behind when it fails."""
        with self.writer(expected, limit_bytes) as writer:
            for chunk in chunks:
                writer.write(chunk)
            return writer.commit()

    def has(self, digest: Digest) -> bool:
        """Return whether the blob is there."""
        return self._file(digest).is_file()

    def touch(self, digest: Digest) -> bool:
        """Return whether the blob is there, and if so start its grace period anew."""
        with self._removal:
            try:
                os.utime(self._file(digest))
            except FileNotFoundError:
                return False
        return True

    def size(self, digest: Digest) -> int:
        """Return the size in bytes. Raises NotFound."""
        return self.path(digest).stat().st_size

    def path(self, digest: Digest) -> Path:
        """Return the blob's own file, to be read only. Raises NotFound."""
        file = self._file(digest)
        if not file.is_file():
            raise NotFound(f"no blob {digest}; upload it first", field="digest")
        return file

    def open(self, digest: Digest) -> BufferedReader:
        """Return the blob opened for reading. Raises NotFound."""
        return self.path(digest).open("rb")

    def verify(self, digest: Digest) -> bool:
        """Return whether the stored bytes still have their digest; a damaged blob is removed."""
        with self.open(digest) as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual == _hex(digest):
            return True
        self.delete(digest)
        return False

    def delete(self, digest: Digest, unused_since_s: float | None = None) -> bool:
        """Remove the blob unless it was used after `unused_since_s`; return whether it went."""
        file = self._file(digest)
        with self._removal:
            try:
                if unused_since_s is not None and file.stat().st_mtime > unused_since_s:
                    return False
                file.unlink()
            except FileNotFoundError:
                return False
        return True

    def list(self) -> Iterator[BlobInfo]:
        """Yield every blob, in no order. What goes while this runs may or may not be seen."""
        for folder in self._root.iterdir() if self._root.is_dir() else ():
            for file in folder.iterdir() if folder.is_dir() else ():
                if not _HEX.fullmatch(file.name):
                    continue
                with suppress(FileNotFoundError):
                    stat = file.stat()
                    yield BlobInfo(Digest(f"sha256:{file.name}"), stat.st_size, stat.st_mtime)

    def adopt(self, partial: Path, digest: Digest) -> None:
        """Give the fsynced file `partial` its place; a blob already there stays, so that links to it stay shared."""
        target = self._file(digest)
        with self._removal:
            if target.is_file() and target.stat().st_size == partial.stat().st_size:
                os.utime(target)
                partial.unlink()
                return
            if not target.parent.is_dir():
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                sync_folder(self._root)
            partial.chmod(0o444)
            partial.rename(target)
        sync_folder(target.parent)

    def _file(self, digest: Digest) -> Path:
        name = _hex(digest)
        return self._root / name[:2] / name


class FolderWriter:
    """One blob on its way into a FolderBlobs; see BlobWriter."""

    def __init__(self, blobs: FolderBlobs, partial: Path, expected: Digest | None, limit_bytes: int) -> None:
        self._blobs = blobs
        self._partial = partial
        self._expected = expected
        self._limit_bytes = limit_bytes
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        # Without a buffer: a full disk shows in the write that met it, not in a close that nobody expects to fail.
        self._file = partial.open("xb", buffering=0)

    def __enter__(self) -> "FolderWriter":
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def write(self, chunk: bytes) -> None:
        """Append. Raises TooLarge over the limit, Unavailable when the disk is full."""
        self._size_bytes += len(chunk)
        if self._size_bytes > self._limit_bytes:
            raise TooLarge(f"the file is larger than {format_bytes(self._limit_bytes)}")
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise _told(error, self._size_bytes) from error
        self._hash.update(chunk)

    def commit(self) -> Blob:
        """Make the blob durable and visible under its digest; at once or not at all."""
        digest = Digest(f"sha256:{self._hash.hexdigest()}")
        if self._expected is not None and digest != self._expected:
            raise RefusedArtifact(
                f"the bytes have the digest {digest}, not {self._expected}: the upload is damaged or the file changed",
                field="digest",
            )
        try:
            os.fsync(self._file.fileno())
            self._file.close()
            self._blobs.adopt(self._partial, digest)
        except OSError as error:
            raise _told(error, self._size_bytes) from error
        return Blob(digest, self._size_bytes)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the rest of `file` in pieces that `put` takes."""
    while chunk := file.read(READ_CHUNK_BYTES):
        yield chunk


def _hex(digest: Digest) -> str:
    if not is_digest(digest):
        raise InvalidInput(f"{digest!r} is not a digest; write sha256: and 64 hex digits", field="digest")
    return digest.removeprefix("sha256:")


def _told(error: OSError, size_bytes: int) -> Exception:
    if error.errno in _NO_ROOM:
        return Unavailable(f"no room on the disk for a blob of {format_bytes(size_bytes)}: {error.strerror}")
    return error
