"""What room a disk has, and whether this process can write to it: which a quota, a limit or a fault forbids too."""

import os
import threading
import time
from pathlib import Path
from typing import Final

FULL_BYTES: Final = 64 << 20  # less is no room: the next thing that is written fails
ROOM_BYTES: Final = 512 << 20
HANGS_S: Final = 5.0  # a byte that is not written after so long is as good as refused


def room(folder: Path) -> tuple[int, int] | None:
    """Return (all, free) bytes of the disk that `folder` is on, for this user; None when it does not say."""
    try:
        seen = os.statvfs(folder)
    except OSError:
        return None
    return seen.f_blocks * seen.f_frsize, seen.f_bavail * seen.f_frsize


def shortness(free_bytes: int) -> float:
    """Return how short of room a disk is, 0-1. Its mean over time means something, as that of free bytes does not."""
    return min(max((ROOM_BYTES - free_bytes) / (ROOM_BYTES - FULL_BYTES), 0.0), 1.0)


class WriteProbe:
    """Writes a byte to a file in `folder` now and then, in a thread of its own: a disk may hang."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f".probe-{os.getpid()}"
        self._refused = False
        self._began_s = 0.0
        self._thread: threading.Thread | None = None

    def look(self) -> bool:
        """Begin another try, unless one is under way; return whether the last one failed, or hangs."""
        if self._thread is not None and self._thread.is_alive():
            return self._refused or time.monotonic() - self._began_s > HANGS_S
        self._began_s = time.monotonic()
        self._thread = threading.Thread(target=self._try, name="write probe", daemon=True)
        self._thread.start()
        return self._refused

    def _try(self) -> None:
        try:
            opened = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(opened, b"\n")
            finally:
                os.close(opened)
                self._path.unlink(missing_ok=True)
            self._refused = False
        except OSError:
            self._refused = True
