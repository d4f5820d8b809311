"""A gateway's own journal of usage: a record is in the file before its answer's last byte leaves.

Each start of a gateway's process (an incarnation) has a folder of its own under `usage/`, with segments in it and a
file that it holds locked while it lives: whoever can lock it knows that the writer is dead, and may ship the rest. A
killed process loses nothing that was written; a power cut at most what was not yet synced (SYNC_S). A segment's room on
the disk is taken before its first record, and the next one's while there is still room in this one: so it is known
before a request runs whether its record can be written, and one that must be paid is refused when it cannot.
"""

import fcntl
import itertools
import logging
import os
import secrets
import time
from collections import deque
from pathlib import Path
from typing import Final

from stoker.protocol.usage import Header, beginning, frame
from stoker.telemetry.metrics import Registry

# Room for the records (about 250 bytes) of all requests that may be in flight when no further segment can be made.
SEGMENT_BYTES: Final = 4 << 20
SEGMENTS_MIN: Final = 3  # the one that is written, the next, and one that waits to be settled
LOCK: Final = "lock"
SUFFIX: Final = ".seg"

_log = logging.getLogger(__name__)


class Segment:
    """One file. Its records are `first` to `last`; the next one's place is `size`."""

    __slots__ = ("file", "first", "is_dirty", "last", "path", "size")

    def __init__(self, path: Path, room_bytes: int) -> None:
        """Make the file and take its room. Raises OSError, and leaves nothing."""
        self.path = path
        self.first = self.last = self.size = 0
        self.is_dirty = False
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(self.file, 0, room_bytes)
        except OSError:
            self.remove()
            raise

    def begin(self, header: Header) -> None:
        """Write the header. Raises OSError."""
        self.first, self.last = header.first, header.first - 1
        self.size = os.pwrite(self.file, beginning(header), 0)

    def remove(self) -> None:
        """Close and delete it."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1
        self.path.unlink(missing_ok=True)


class Journal:
    """Appends records and keeps their segments until they are settled. Its folder is made by `tend`. All on the loop.

    max_bytes: what all of its segments may take.
    """

    def __init__(
        self, root: Path, gateway: str, registry: Registry, max_bytes: int, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self.root = root
        self.gateway = gateway
        self.incarnation = f"{time.time_ns() // 1_000_000:x}-{secrets.token_hex(6)}"
        self.folder = root / f"{gateway}.{self.incarnation}"
        self.segments: deque[Segment] = deque()  # the last one is written
        self.is_full = False  # no record of a further request may find room
        self.last = 0  # the number of the newest record
        self._lock = -1
        self._spare: Segment | None = None
        self._names = itertools.count(1)
        self._segment_bytes = segment_bytes
        self._segments_max = max(max_bytes // segment_bytes, SEGMENTS_MIN)
        process = registry.process
        self._records = registry.counter("stoker_usage_records_total", process=process)
        self._lost = registry.counter("stoker_usage_records_lost_total", process=process)
        self._bytes = registry.gauge("stoker_usage_journal_bytes", process=process)

    def tend(self) -> None:
        """Make room for what comes, where there is none yet: at the beginning, and once a second."""
        if self._lock < 0:
            self._begin()
        if self._spare is None and self._lock >= 0:
            self._spare = self._segment()
        if not self.segments and self._spare is not None:
            self._turn()
        was_full, self.is_full = self.is_full, self._spare is None
        if was_full is not self.is_full:
            _log.warning("the usage journal is %s", "full" if self.is_full else "no longer full")
        self._bytes.set(float((len(self.segments) + (self._spare is not None)) * self._segment_bytes))

    def append(self, payload: bytes, *, must: bool = True) -> bool:
        """Write a record; return whether it is in the file. What finds no room is counted as lost.

        must: false, and it leaves the room of a full journal to those that must be written.
        """
        if self.is_full and not must:
            self._lost.value += 1.0
            return False
        data = frame(self.last + 1, payload)
        segment = self.segments[-1] if self.segments else None
        if segment is None or segment.size + len(data) > self._segment_bytes:
            segment = self._turn()
        try:
            if segment is None or os.pwrite(segment.file, data, segment.size) < len(data):
                raise OSError("no room for a usage record")
        except OSError as refused:
            self._failed(refused)
            self._lost.value += 1.0
            return False
        segment.size += len(data)
        self.last = segment.last = self.last + 1
        segment.is_dirty = True
        self._records.value += 1.0
        return True

    def settle(self, until: int) -> None:
        """Delete segments whose records are all settled, which are those up to the number `until`."""
        while len(self.segments) > 1 and self.segments[0].last <= until:
            self.segments.popleft().remove()

    def unsynced(self) -> list[int]:
        """Return descriptors, to be given to `sync`, of what was written since the last call."""
        files = []
        for segment in self.segments:
            if segment.is_dirty:
                segment.is_dirty = False
                files.append(os.dup(segment.file))
        return files

    def close(self, settled: int) -> None:
        """End; when everything up to the last record is settled nothing stays on the disk."""
        for segment in (*self.segments, *([self._spare] if self._spare is not None else [])):
            if settled >= self.last or segment is self._spare:
                segment.remove()
            else:
                os.close(segment.file)
        self.segments.clear()
        self._spare = None
        if settled >= self.last:
            (self.folder / LOCK).unlink(missing_ok=True)
            self.folder.rmdir()
        if self._lock >= 0:
            os.close(self._lock)

    def _begin(self) -> None:
        """Make the folder and lock it."""
        half = self.root / f".{self.folder.name}"  # not to be taken for a dead one's before it is locked
        try:
            half.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(half / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            half.rename(self.folder)
        except OSError as refused:
            self._failed(refused)
        else:
            self._lock = lock

    def _turn(self) -> Segment | None:
        """Go on to the next segment and return it; None when there is none."""
        segment, self._spare = self._spare, None
        if segment is not None:
            try:
                segment.begin(Header(self.gateway, self.incarnation, self.last + 1))
            except OSError as refused:
                self._failed(refused)
                segment.remove()
                segment = None
            else:
                self.segments.append(segment)
        self._spare = self._segment()
        self.is_full = self._spare is None
        return segment

    def _segment(self) -> Segment | None:
        """Return a new segment; None when there is no room for one."""
        if len(self.segments) >= self._segments_max:
            return None
        try:
            return Segment(self.folder / f"{next(self._names):08d}{SUFFIX}", self._segment_bytes)
        except OSError as refused:
            self._failed(refused)
            return None

    def _failed(self, refused: OSError) -> None:
        if not self.is_full:
            _log.error("usage cannot be written", extra={"folder": str(self.folder), "reason": str(refused)})
        self.is_full = True


def sync(files: list[int]) -> None:
    """Put on the disk what was written to `files`, and close them. Blocks."""
    for file in files:
        try:
            os.fdatasync(file)
        except OSError as refused:
            _log.error("usage is not on the disk yet", extra={"reason": str(refused)})
        finally:
            os.close(file)


def seize(folder: Path) -> int | None:
    """Return the lock of a dead incarnation's folder, to be closed; None when its writer or a shipper holds it."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock
