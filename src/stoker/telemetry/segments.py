"""Files of sealed records that only grow: one an endpoint, hour and gateway; deleted whole.

`samples/PROJECT/ENDPOINT/HOUR-EXPIRES-GATEWAY-BOOT.seg`: eight bytes that say what it is, then for each record four of
length (little endian) and the record, sealed to the file's name and its number in it, so that none can be moved,
swapped or left out in the middle unseen. A process that starts again begins another file: a record that a kill cut
through is the last one of its file, and is passed over. Nothing is fsynced: what a power cut takes are seconds of
samples.
"""

import os
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from stoker.telemetry.sealing import SEALED_EXTRA_BYTES, Unreadable, opened, seal

MAGIC: Final = b"STKSEG1\n"
SUFFIX: Final = ".seg"
RECORD_MAX_BYTES: Final = 16 << 20
SEGMENT_MAX_BYTES: Final = 64 << 20
HOUR_S: Final = 3600
_LENGTH: Final = struct.Struct("<I")


class Name(NamedTuple):
    """What a segment's name says; times are unix seconds."""

    hour_s: int
    expires_s: int
    writer: str

    @classmethod
    def of(cls, path: Path) -> "Name | None":
        """Return what `path` is called; None when no segment is called so."""
        parts = path.name.removesuffix(SUFFIX).split("-", 2)
        if not path.name.endswith(SUFFIX) or len(parts) != 3 or not (parts[0] + parts[1]).isdecimal():
            return None
        return cls(int(parts[0]), int(parts[1]), parts[2])


class Writer:
    """Appends the records of one endpoint. Every call may raise OSError, and leaves a file that can be read.

    Args:
        folder: of the endpoint; made when there is something to write.
        writer: who writes, different for every start of every process.
    """

    def __init__(self, folder: Path, writer: str) -> None:
        self._folder = folder
        self._writer = writer
        self._path: Path | None = None
        self._file = -1
        self._expires_s = 0
        self._hour_s = 0
        self._size = 0
        self._count = 0
        self._opened = 0

    def append(self, key: bytes, record: bytes, ttl_s: float, now_s: float) -> int:
        """Write a record; return the bytes it took."""
        if len(record) > RECORD_MAX_BYTES:
            raise OSError(f"a record of {len(record)} bytes")
        hour_s = int(now_s) // HOUR_S * HOUR_S
        expires_s = hour_s + HOUR_S + int(ttl_s)
        is_other = (hour_s, expires_s) != (self._hour_s, self._expires_s) or self._size > SEGMENT_MAX_BYTES
        is_gone = self._path is None or not self._path.exists()  # somebody deleted the samples
        if self._file < 0 or is_other or is_gone:
            self._open(hour_s, expires_s)
        assert self._path is not None
        sealed = seal(key, record, _place(self._path, self._count))
        self._write(_LENGTH.pack(len(sealed)) + sealed)
        self._count += 1
        return len(sealed) + _LENGTH.size

    def close(self) -> None:
        """Close the file; the next record begins another."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self, hour_s: int, expires_s: int) -> None:
        self.close()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._opened += 1
        path = self._folder / f"{hour_s}-{expires_s}-{self._writer}{self._opened:x}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._path, self._hour_s, self._expires_s, self._size, self._count = path, hour_s, expires_s, 0, 0
        self._write(MAGIC)

    def _write(self, data: bytes) -> None:
        """Write all of it; after a failure nothing of it stays, or the file is left and another begun."""
        try:
            done = os.write(self._file, data)
            if done < len(data):
                raise OSError(f"only {done} of {len(data)} bytes could be written")
        except OSError:
            try:
                os.ftruncate(self._file, self._size)
            finally:
                if self._size == 0 and self._path is not None:
                    self._path.unlink(missing_ok=True)
                self.close()
            raise
        self._size += done


def read(path: Path, *keys: bytes) -> Iterator[bytes]:
    """Yield the records of a segment, oldest first. Passes over what cannot be opened, ends where the file was cut.

    keys: that may have sealed them. Raises FileNotFoundError when it was deleted meanwhile.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return
        number = 0
        while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
            (size,) = _LENGTH.unpack(head)
            if size > RECORD_MAX_BYTES + SEALED_EXTRA_BYTES or len(sealed := file.read(size)) < size:
                return
            for key in keys:
                with suppress(Unreadable):
                    yield opened(key, sealed, _place(path, number))
                    if key is not keys[0]:
                        keys = (key, *(each for each in keys if each is not key))  # the next one most likely too
                    break
            number += 1


def segments(folder: Path) -> list[tuple[Name, Path]]:
    """Return the segments of one endpoint's folder, newest hour first; none when there is no folder."""
    if not folder.is_dir():
        return []
    found = [(name, path) for path in folder.iterdir() if (name := Name.of(path)) is not None]
    return sorted(found, reverse=True)


def sweep(root: Path, max_bytes: int, now_s: float) -> int:
    """Delete what is too old, then the oldest hours until all take at most `max_bytes`; return how many files.

    Raises OSError when one could not be deleted, after all others that had to go.
    """
    left: list[tuple[int, int, Path]] = []
    deleted = 0
    problem: OSError | None = None
    for path in root.glob(f"*/*/*{SUFFIX}"):
        name = Name.of(path)
        try:
            if name is not None and name.expires_s <= now_s:
                path.unlink(missing_ok=True)
                deleted += 1
            elif name is not None:
                left.append((name.hour_s, path.stat().st_size, path))
        except FileNotFoundError:
            continue  # another process sweeps too
        except OSError as wrong:
            problem = wrong
    total = sum(size for _, size, _ in left)
    for _, size, path in sorted(left):
        if total <= max_bytes:
            break
        try:
            path.unlink(missing_ok=True)
        except OSError as wrong:
            problem = wrong
            continue
        total -= size
        deleted += 1
    if problem is not None:
        raise problem
    return deleted


def has_any(root: Path) -> bool:
    """Return whether there is a segment of any endpoint."""
    return next(root.glob(f"*/*/*{SUFFIX}"), None) is not None


def _place(path: Path, number: int) -> bytes:
    return f"{path.parent.parent.name}/{path.parent.name}/{path.name}#{number}".encode()


def boot_name(process: str) -> str:
    """Return a writer's name that no other start of any process has."""
    return f"{process}-{time.time_ns():x}{os.getpid():x}-"
