"""What models print: it goes into the replica's log, and is lost where that cannot be written.

A print that raises would fail the request it is part of, because of a disk that is full.
"""

import io
import os
import sys
from typing import Any

_STDOUT, _STDERR = 1, 2


class _Log(io.RawIOBase):
    """A descriptor that takes everything, and loses what it cannot write."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        try:
            return os.write(self._descriptor, data)
        except OSError:
            return len(data)


def lose_rather_than_fail() -> None:
    """Have standard output and error lose what cannot be written, and write the rest line by line."""
    sys.stdout = _text(_STDOUT)
    sys.stderr = _text(_STDERR)


def _text(descriptor: int) -> io.TextIOWrapper:
    buffer = io.BufferedWriter(_Log(descriptor))
    return io.TextIOWrapper(buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True)
