"""What the agent writes down of each process, so that the next agent finds it again: one JSON file a process.

The record is on disk before the process exists (the intent), and again with its pid once it does. An agent killed
between the two leaves a record without pid and perhaps a process, which its environment marker gives away.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from stoker.types.errors import Unavailable
from stoker.types.faults import Fault
from stoker.types.process import KilledFor, ProcessSpec

RECORD_BYTES_MAX: Final = 4 * 2**20
_log: Final = logging.getLogger(__name__)


class Record(msgspec.Struct, frozen=True):
    """One process as it was when something last changed. pid 0: it does not run, or nobody knows yet.

    `successor` is the spec that takes the name once the process of the old one has ended.
    """

    spec: ProcessSpec
    fence: int = 0
    pid: int = 0
    start_ticks: int = 0
    boot: str = ""
    started_at_s: float = 0.0
    ready_at_s: float = 0.0  # 0: not yet
    starts: int = 0
    crashes_in_row: int = 0
    ready_crashes: int = 0
    last_exit: str = ""
    last_error: str = ""
    killed_for: KilledFor = ""
    successor: ProcessSpec | None = None
    fault: Fault | None = None  # put into it on purpose; the agent that finds it here ends it


class Records:
    """The folder of records. Every write is whole or not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, record: Record) -> None:
        """Write one record durably. Raises Unavailable when the disk refuses; the old record is then still there."""
        path = self._path(record.spec.name)
        half = path.with_name(path.name + ".tmp")
        try:
            with half.open("wb") as file:
                file.write(msgspec.json.encode(record))
                file.flush()
                os.fsync(file.fileno())
            half.replace(path)
            self._sync_folder()
        except OSError as refused:
            with suppress(OSError):
                half.unlink(missing_ok=True)
            raise Unavailable(
                f"the record of process {record.spec.name} cannot be written to {self._folder}: {refused.strerror}"
            ) from refused

    def remove(self, name: str) -> None:
        """Forget one process. Raises Unavailable when the disk refuses."""
        try:
            self._path(name).unlink(missing_ok=True)
            self._sync_folder()
        except OSError as refused:
            raise Unavailable(f"the record of process {name} cannot be removed: {refused.strerror}") from refused

    def clear(self) -> None:
        """Forget everything; for when nothing runs and nothing is to be started again."""
        for path in self._folder.iterdir():
            with suppress(OSError):
                path.unlink()

    def read(self) -> dict[str, Record]:
        """Return every record by process name. One that cannot be read is set aside as `.broken` and logged."""
        found = {}
        for half in self._folder.glob("*.tmp"):
            half.unlink(missing_ok=True)
        for path in sorted(self._folder.glob("*.json")):
            try:
                if path.stat().st_size > RECORD_BYTES_MAX:
                    raise msgspec.DecodeError(f"{path.stat().st_size} bytes")
                record = msgspec.json.decode(path.read_bytes(), type=Record)
                if self._path(record.spec.name) != path:
                    raise msgspec.DecodeError(f"it is about {record.spec.name!r}")
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as broken:
                _log.warning("a record cannot be read", extra={"path": str(path), "reason": str(broken)})
                with suppress(OSError):
                    path.replace(path.with_name(path.name + ".broken"))
                continue
            found[record.spec.name] = record
        return found

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
