"""What a process wrote: one file a process, bounded by rotation, readable while it is written.

The child writes to the file itself (O_APPEND), so that it neither dies nor blocks when the agent dies. That is why
a full log is copied to `.1` and cut to nothing in place: the child's descriptor stays right. What is written in the
microseconds between the last byte copied and the cut is lost.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

LOG_BYTES_MAX: Final = 16 * 2**20  # times two, with the one before it
TAIL_BYTES_MAX: Final = 8 * 2**20
WORDS_BYTES_MAX: Final = 2048
_WORDS_READ_BYTES: Final = 16 * 1024  # one JSON line with a traceback can take half of it
# Logs of processes that are gone: enough to look into a crash, few enough to forget.
OLD_LOGS_MAX: Final = 64
_FOLLOW_EVERY_S: Final = 0.2
_COPY_BYTES: Final = 1 << 20
_log: Final = logging.getLogger(__name__)


class _JsonLine(msgspec.Struct):
    """What matters of one line of telemetry.logs."""

    message: str
    error: str = ""


def log_path(folder: Path, name: str) -> Path:
    """Return where process `name` writes."""
    return folder / f"{name}.log"


def open_log(path: Path) -> int:
    """Return a descriptor for the child to write to. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def size_of(path: Path) -> int:
    """Return how long the file is now; 0 when there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def rotate(path: Path, *, bytes_max: int = LOG_BYTES_MAX) -> bool:
    """Copy a log over `bytes_max` to `.1` and empty it; return whether it was done.

    On a full disk the copy is given up and the log emptied all the same: the newest lines are lost rather than the
    disk of everything else.
    """
    if size_of(path) <= bytes_max:
        return False
    old = path.with_name(path.name + ".1")
    try:
        with path.open("rb") as source, old.open("wb") as target:
            os.fchmod(target.fileno(), 0o600)
            while piece := source.read(_COPY_BYTES):
                target.write(piece)
                target.flush()
    except OSError as refused:
        _log.warning("a log was emptied without a copy", extra={"path": str(path), "reason": str(refused)})
        with suppress(OSError):
            old.unlink(missing_ok=True)
    with suppress(OSError):
        os.truncate(path, 0)
    return True


def prune(folder: Path, keep: set[str]) -> None:
    """Remove the oldest logs of processes that are not in `keep`, beyond OLD_LOGS_MAX."""
    old = [path for path in folder.glob("*.log") if path.stem not in keep]
    for path in sorted(old, key=_modified_s, reverse=True)[OLD_LOGS_MAX:]:
        for one in (path, path.with_name(path.name + ".1")):
            with suppress(OSError):
                one.unlink(missing_ok=True)


def last_words(path: Path, *, since: int = 0) -> str:
    """Return the last whole lines after byte `since`, at most WORDS_BYTES_MAX: what a dead process said."""
    end = size_of(path)
    if end < since:  # rotated meanwhile
        since = 0
    start = max(since, end - _WORDS_READ_BYTES)
    text = _read(path, start, end)
    if start > since and b"\n" in text:
        text = text[text.index(b"\n") + 1 :]
    said = [_words(line) for line in text.decode(errors="replace").strip().splitlines()]
    kept, size = len(said), 0
    while kept > 0 and size + len(said[kept - 1]) < WORDS_BYTES_MAX:
        kept -= 1
        size += len(said[kept]) + 1
    return "\n".join(said[kept:]) if kept < len(said) else "".join(said[-1:])[-WORDS_BYTES_MAX:]


def tail(path: Path, lines: int) -> tuple[bytes, int]:
    """Return the last `lines` lines, and the offset in the file after them. Reaches into the rotated file."""
    end = size_of(path)
    text = _read(path, max(0, end - TAIL_BYTES_MAX), end)
    if text.count(b"\n") < lines and end <= TAIL_BYTES_MAX:
        old = path.with_name(path.name + ".1")
        old_end = size_of(old)
        text = _read(old, max(0, old_end - TAIL_BYTES_MAX + end), old_end) + text
    kept = text.splitlines(keepends=True)[-lines:] if lines > 0 else []
    return b"".join(kept), end


async def read(path: Path, *, lines: int, follow: bool, is_wanted: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield the last `lines` lines and, with `follow`, what is written from then on, until it is not wanted.

    A piece is at most TAIL_BYTES_MAX; a reader that is slow makes this wait, never grow.
    """
    text, at = await asyncio.to_thread(tail, path, lines)
    if text:
        yield text
    while follow:
        end = size_of(path)
        if end < at:  # rotated: what was written between the last look and the cut is in `.1`
            old = path.with_name(path.name + ".1")
            rest = await asyncio.to_thread(_read, old, at, min(size_of(old), at + TAIL_BYTES_MAX))
            at = 0
            if rest:
                yield rest
        if end == at:
            if not is_wanted():
                return
            await asyncio.sleep(_FOLLOW_EVERY_S)
            continue
        piece = await asyncio.to_thread(_read, path, at, min(end, at + _COPY_BYTES))
        at += len(piece)
        if piece:
            yield piece


def _words(line: str) -> str:
    """Return what a line says to a person: of a JSON log line its message, and of a traceback the end."""
    if not line.startswith("{"):
        return line
    try:
        said = msgspec.json.decode(line, type=_JsonLine)
    except msgspec.MsgspecError:
        return line
    return "\n".join((said.message, *_exception(said.error)))


def _exception(traceback: str) -> list[str]:
    """Return the lines after the last indented one: the exception itself."""
    lines = traceback.splitlines()
    indented = [number for number, line in enumerate(lines) if line.startswith((" ", "…"))]
    return lines[indented[-1] + 1 :] if indented else lines


def _read(path: Path, start: int, end: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(max(0, end - start))
    except OSError:
        return b""


def _modified_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
