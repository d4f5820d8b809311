"""What of an incarnation's journal is to be shipped next, wherever its files were cut or broken."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from stoker.gateway.usage.journal import SUFFIX
from stoker.protocol.usage import HEAD_BYTES, RECORD_BYTES_MAX, Frames, read_frames, read_header

HEADER_BYTES_MAX: Final = 1024


class Place(NamedTuple):
    """A segment and the number of its first record."""

    first: int
    path: Path


class Batch(NamedTuple):
    """Records with consecutive numbers. lost: so many before `first` cannot be read."""

    first: int
    lost: int
    payloads: list[bytes]

    @property
    def last(self) -> int:
        """The number of its last record."""
        return self.first + len(self.payloads) - 1


def places(folder: Path) -> tuple[list[Place], int]:
    """Return the segments of a folder in order, and how many have no readable beginning. Raises OSError."""
    found, broken = [], 0
    for path in folder.glob(f"*{SUFFIX}"):
        with path.open("rb") as file:
            data = file.read(HEADER_BYTES_MAX)
        head = read_header(data)
        if head is not None:
            found.append(Place(head[0].first, path))
        elif data.strip(b"\0"):  # a new one that was not begun is zero
            broken += 1
    return sorted(found), broken


class Reader:
    """Goes through the segments of one incarnation. `settled`: the number up to which nothing is to be read again."""

    def __init__(self, settled: int = 0) -> None:
        self.settled = settled
        self.broken: set[Path] = set()  # segments that could not be read to their end
        self._path = Path()
        self._offset = 0
        self._number = 0  # of the record at `_offset`
        self._behind = (0, 0)  # the number and the offset behind what was read last

    def next(self, segments: Sequence[Place], count_max: int, bytes_max: int) -> Batch | None:
        """Return what follows `settled` in `segments`; None when nothing does, so far. Blocks. Raises OSError.

        What is broken is passed over to the next segment.
        """
        start = max((at for at, each in enumerate(segments) if each.first <= self.settled + 1), default=0)
        for at in range(start, len(segments)):
            self._open(segments[at])
            frames = self._read(count_max, bytes_max)
            if frames.payloads:
                return Batch(frames.first, frames.first - self.settled - 1, frames.payloads)
            if frames.is_broken and at + 1 < len(segments):
                self.broken.add(segments[at].path)
        return None

    def is_torn(self) -> bool:
        """Return whether what `next` came to last is no end but something broken. Blocks. Raises OSError."""
        return self._path != Path() and self._frames(1, 1).is_broken

    def settle(self, until: int) -> None:
        """Go on behind the number `until`, which may be anywhere."""
        if until < self.settled:
            self._path = Path()
        elif until + 1 == self._behind[0]:
            self._number, self._offset = self._behind  # what was read last is not read again to be passed over
        self.settled = until

    def _open(self, place: Place) -> None:
        if place.path == self._path:
            return
        with place.path.open("rb") as file:
            head = read_header(file.read(HEADER_BYTES_MAX))
        self._path = place.path
        self._number = place.first
        self._offset = head[1] if head is not None else 0
        self._behind = (0, 0)

    def _read(self, count_max: int, bytes_max: int) -> Frames:
        """Return frames behind `settled`; the place is then before them, so that they can be read again."""
        while True:
            frames = self._frames(count_max, bytes_max)
            skipped = min(max(self.settled + 1 - self._number, 0), len(frames.payloads))
            if not skipped:
                self._behind = (frames.first + len(frames.payloads), frames.offset + self._offset)
                return frames
            self._number += skipped
            self._offset += sum(HEAD_BYTES + len(each) for each in frames.payloads[:skipped])

    def _frames(self, count_max: int, bytes_max: int) -> Frames:
        with self._path.open("rb") as file:
            data = os.pread(file.fileno(), bytes_max + HEAD_BYTES + RECORD_BYTES_MAX, self._offset)
        return read_frames(data, 0, self._number, count_max=count_max, bytes_max=bytes_max)
