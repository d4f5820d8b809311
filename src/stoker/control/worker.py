"""A process of its own for one piece of work: lines of JSON in, lines of JSON out, and gone with whoever asked.

It is killed when the context is left, whatever happened; it ends with control too (PR_SET_PDEATHSIG, in its main).
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from stoker.types.errors import DeadlineExceeded, StokerError, Unavailable, all_codes
from stoker.types.work import Problem

_T = TypeVar("_T")

LINE_BYTES_MAX: Final = 8 * 2**20
TAIL_BYTES_MAX: Final = 2_000
END_WAIT_S: Final = 5.0  # of a process that closed its output, or was killed
_KEPT_VARIABLES: Final = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "LD_LIBRARY_PATH")


class Worker:
    """The process, once it was started."""

    def __init__(self, process: asyncio.subprocess.Process, errors: Path, doing: str) -> None:
        self._process = process
        self._errors = errors
        self._doing = doing

    async def tell(self, value: Any, *, is_last: bool = False) -> None:
        """Send a line; after the last one its input is closed. Raises Unavailable when it is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(value) + b"\n")
            await self._process.stdin.drain()
            if is_last:
                self._process.stdin.close()
        except (OSError, RuntimeError) as gone:  # a RuntimeError is what uvloop says of a pipe that is closed
            raise await self._death() from gone

    async def hear(self, kind: type[_T], within_s: float) -> _T:
        """Return its next line. Raises what it says went wrong, DeadlineExceeded, or Unavailable when it died."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(within_s):
                line = await self._process.stdout.readline()
        except TimeoutError as late:
            raise DeadlineExceeded(f"{self._doing} said nothing for {within_s:.0f} s and was ended") from late
        except ValueError as long:
            raise Unavailable(f"{self._doing} answered with more than {LINE_BYTES_MAX} bytes") from long
        if not line:
            raise await self._death()
        try:
            said: _T | Problem = msgspec.json.decode(line, type=kind | Problem)
        except msgspec.DecodeError as wrong:
            raise Unavailable(f"{self._doing} answered what cannot be read: {wrong}") from wrong
        if isinstance(said, Problem):
            raise all_codes().get(said.code, StokerError)(said.message)
        return said

    async def _death(self) -> StokerError:
        """Return what its end was, from its exit code and its last words."""
        code = None
        with suppress(TimeoutError):
            async with asyncio.timeout(END_WAIT_S):
                code = await self._process.wait()
        words = await asyncio.to_thread(_tail, self._errors)
        if code == -signal.SIGALRM:
            return DeadlineExceeded(f"{self._doing} took longer than it may and was ended")
        if "MemoryError" in words or "bad_alloc" in words:
            return Unavailable(f"{self._doing} takes more memory than it may have")
        if code == -signal.SIGKILL:
            return Unavailable(f"{self._doing} was killed, as the kernel does when the machine has no memory left")
        how = "closed its output" if code is None else f"ended with code {code}"
        if code is not None and code < 0:
            how = f"crashed ({signal.Signals(-code).name})"
        return Unavailable(f"{self._doing} {how}{': ' + words if words else ''}")


@asynccontextmanager
async def started(module: str, doing: str, errors: Path, env: dict[str, str]) -> AsyncIterator[Worker]:
    """Yield a process that runs `module`; it is dead when this returns.

    Args:
        module: as in `python -m`.
        doing: what it does, for messages: "quantizing smol@1".
        errors: a file for its standard error.
        env: variables beside the few that are kept of control's own.
    """
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    with errors.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env={**kept, **env},
            cwd="/",
            start_new_session=True,
            limit=LINE_BYTES_MAX,
        )
    try:
        yield Worker(process, errors, doing)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # Also a caller that is cancelled leaves no process behind that nobody waited for; but one that hangs in the
        # kernel, on a broken disk, holds nobody for ever.
        with suppress(TimeoutError):
            async with asyncio.timeout(END_WAIT_S):
                await process.wait()


def _tail(file: Path) -> str:
    with suppress(OSError), file.open("rb") as opened:
        return opened.read()[-TAIL_BYTES_MAX:].decode("utf-8", "replace").strip()
    return ""
