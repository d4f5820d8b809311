"""Brings files into the page cache before somebody waits for them: at idle priority, one after the other, never for the
price of memory that somebody uses.

What is there already is not read again. What was dropped is read again at the next look.
"""

import ctypes
import logging
import os
import platform
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from stoker.agent import kernel
from stoker.telemetry import machine
from stoker.types.ahead import Ahead, AheadStatus

CHUNK_BYTES: Final = 1 << 20
LOOK_EVERY_S: Final = 60.0  # to look again at what was brought in
FREE_BYTES_MIN: Final = 1 << 30  # of the node's memory: with less nothing is read ahead
_SET_IO_PRIORITY: Final = {"x86_64": 251, "aarch64": 30}  # ioprio_set(2)
_THIS_THREAD: Final = (1, 0)  # IOPRIO_WHO_PROCESS, the one that calls
_IDLE: Final = 3 << 13  # IOPRIO_CLASS_IDLE
_log: Final = logging.getLogger(__name__)


class Prefetch:
    """What one node reads ahead. `want` says what; `look`, once a second, has it done in a thread of its own."""

    def __init__(self) -> None:
        self.wanted: tuple[Ahead, ...] = ()
        self._cached: dict[str, int] = {}  # by folder
        self._thread = ThreadPoolExecutor(1, "prefetch", initializer=_be_idle)
        self._next_s = 0.0
        self._is_reading = threading.Event()

    def want(self, wanted: Sequence[Ahead]) -> None:
        """Have the files of these in the page cache from now on, in this order, and of no others."""
        self.wanted = tuple(wanted)
        self._cached = {each.folder: self._cached.get(each.folder, 0) for each in wanted}
        self._next_s = 0.0

    def look(self, now_s: float) -> None:
        """Begin to read what is missing, when it is time."""
        if self.wanted and now_s >= self._next_s and not self._is_reading.is_set():
            self._next_s = now_s + LOOK_EVERY_S
            self._is_reading.set()
            self._thread.submit(self._read, self.wanted)

    def status(self) -> tuple[AheadStatus, ...]:
        """Return how far it is."""
        return tuple(
            AheadStatus(each.model, each.size_bytes, self._cached.get(each.folder, 0), each.because)
            for each in self.wanted
        )

    def close(self) -> None:
        """Stop reading."""
        self.wanted = ()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _read(self, wanted: tuple[Ahead, ...]) -> None:
        pressed_s = kernel.pressed_s("memory")

        def may_go_on() -> bool:
            is_short = machine.memory()[1] < FREE_BYTES_MIN or kernel.pressed_s("memory") != pressed_s
            return self.wanted is wanted and not is_short

        try:
            for each in wanted:
                cached = bring(Path(each.folder), may_go_on)
                if self.wanted is wanted:
                    self._cached[each.folder] = cached
        except OSError as problem:  # it was removed, or the disk fails: whoever opens it will say so
            _log.warning("files could not be read ahead", extra={"reason": str(problem)})
        finally:
            self._is_reading.clear()


def bring(folder: Path, may_go_on: Callable[[], bool]) -> int:
    """Read those files of `folder` that are not in the page cache; return how many bytes are. Raises OSError.

    may_go_on: asked before each chunk that has to be read.
    """
    return sum(_bring(path, may_go_on) for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _bring(path: Path, may_go_on: Callable[[], bool]) -> int:
    cached = 0
    buffer = bytearray(CHUNK_BYTES)
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size_bytes = os.fstat(file).st_size
        for start in range(0, size_bytes, CHUNK_BYTES):
            count = min(CHUNK_BYTES, size_bytes - start)
            if is_cached(file, start, count) or (may_go_on() and os.preadv(file, [buffer], start) == count):
                cached += count
    finally:
        os.close(file)
    return cached


def is_cached(file: int, start: int, count: int) -> bool:
    """Return whether the first and the last byte of a stretch can be had without the disk."""
    for at in (start, start + count - 1):
        try:
            if os.preadv(file, [bytearray(1)], at, os.RWF_NOWAIT) != 1:
                return False
        except BlockingIOError:
            return False
        except OSError:  # a filesystem that cannot say
            return False
    return True


def _be_idle() -> None:
    """Have this thread's reads wait for everybody else's, where the disk's scheduler knows that."""
    number = _SET_IO_PRIORITY.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, *_THIS_THREAD, _IDLE)
