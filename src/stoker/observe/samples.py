"""Reading the samples of an endpoint: newest first, and nothing past its time even if it still lies there.

Files are only opened here; gateways of this node write them (telemetry/segments.py).
"""

import heapq
import itertools
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from stoker.telemetry import segments
from stoker.telemetry.sealing import OF_PROJECT, KeyRing, Unreadable
from stoker.telemetry.segments import HOUR_S, Name
from stoker.types.samples import Rotated, SampleRecord

LIMIT_MAX: Final = 1_000


class Wanted(msgspec.Struct, frozen=True):
    """Which samples are asked for. `reasons`: any of them; empty: whatever they are."""

    limit: int
    since_s: float = 0.0  # unix time of the arrival
    reasons: tuple[str, ...] = ()
    tenant: str = ""
    key: str = ""
    id: str = ""  # its beginning is enough

    def takes(self, record: SampleRecord) -> bool:
        """Return whether `record` is one of them."""
        return (
            record.at_s >= self.since_s
            and (not self.reasons or not set(self.reasons).isdisjoint(record.reasons))
            and self.tenant in ("", record.tenant)
            and self.key in ("", record.key)
            and record.id.startswith(self.id)
        )


class SampleStore:
    """The samples below `folder`. Every call may take seconds, and raise OSError and sealing.Unreadable."""

    def __init__(self, folder: Path, keys: KeyRing, max_bytes: int) -> None:
        self._folder = folder
        self._keys = keys
        self.max_bytes = max_bytes

    def read(self, project: str, endpoint: str, wanted: Wanted, now_s: float) -> list[SampleRecord]:
        """Return at most `wanted.limit` samples, newest first."""
        limit = min(wanted.limit, LIMIT_MAX)
        found: list[SampleRecord] = []
        for _, hour in itertools.groupby(self._segments(project, endpoint, wanted.since_s, now_s), _hour):
            for _, path in hour:
                found.extend(record for record in self._records(project, path) if wanted.takes(record))
                found = heapq.nlargest(limit, found, key=_arrival)
            if len(found) >= limit:
                break  # older hours are of older requests
        return found

    def delete(self, project: str, endpoint: str) -> int:
        """Delete every sample of an endpoint; return how many files they were."""
        found = segments.segments(self._folder / project / endpoint)
        for _, path in found:
            path.unlink(missing_ok=True)
        return len(found)

    def sizes(self) -> dict[str, int]:
        """Return how many bytes are kept of each project."""
        found: dict[str, int] = {}
        for project in self._folder.iterdir() if self._folder.is_dir() else ():
            if project.is_dir():
                found[project.name] = sum(_size(path) for _, path in _of_project(project))
        return found

    def forget(self, project: str) -> int:
        """Make all samples of a project unreadable, copies too, then delete them; return how many files they were.

        What a gateway writes at this very moment is sealed with what is gone already.
        """
        self._keys.destroy(project)
        return sum(self.delete(project, each.name) for each in self._folders(project))

    def forget_others(self, projects: Iterable[str], known: Collection[str]) -> list[str]:
        """Forget those of `projects` that are not `known` any more; return which they were."""
        gone = [each for each in projects if each not in known]
        for each in gone:
            self.forget(each)
            with suppress(OSError):
                for folder in self._folders(each):
                    folder.rmdir()
                (self._folder / each).rmdir()
        return gone

    def projects(self) -> list[str]:
        """Return the projects that have keys or samples."""
        return sorted(each.name for each in self._folder.iterdir() if each.is_dir()) if self._folder.is_dir() else []

    def rotate(self, project: str = "") -> Rotated:
        """Seal what comes with new keys: of a project, or of all, and then in a new master key."""
        names = (
            [project] if project else [each for each in self.projects() if (self._folder / each / OF_PROJECT).exists()]
        )
        broken = set()
        for each in names:
            try:
                self._keys.rotate(each)
            except Unreadable:
                broken.add(each)
        if project and broken:
            self._keys.project(project, may_make=False)  # says why
        if not project and names:
            broken |= set(self._keys.rotate_master()[1])
        return Rotated(tuple(each for each in names if each not in broken), tuple(sorted(broken)))

    def _folders(self, project: str) -> list[Path]:
        folder = self._folder / project
        return sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []

    def sweep(self, now_s: float) -> int:
        """Delete what is too old, or too much; return how many files."""
        return segments.sweep(self._folder, self.max_bytes, now_s)

    def _segments(self, project: str, endpoint: str, since_s: float, now_s: float) -> list[tuple[Name, Path]]:
        if not (self._folder / project / OF_PROJECT).exists():
            return []
        found = segments.segments(self._folder / project / endpoint)
        return [(name, path) for name, path in found if name.expires_s > now_s and name.hour_s + HOUR_S >= since_s]

    def _records(self, project: str, path: Path) -> Iterator[SampleRecord]:
        keys = self._keys.project(project, may_make=False).opening
        try:
            for plain in segments.read(path, *keys):
                with suppress(msgspec.MsgspecError):  # of a stoker that wrote another form
                    yield msgspec.json.decode(plain, type=SampleRecord)
        except FileNotFoundError:
            return  # deleted meanwhile


def _of_project(folder: Path) -> Iterator[tuple[Name, Path]]:
    for endpoint in folder.iterdir():
        if endpoint.is_dir():
            yield from segments.segments(endpoint)


def _size(path: Path) -> int:
    with suppress(OSError):  # deleted meanwhile
        return path.stat().st_size
    return 0


def _hour(segment: tuple[Name, Path]) -> int:
    return segment[0].hour_s


def _arrival(record: SampleRecord) -> tuple[float, str]:
    return record.at_s, record.id
