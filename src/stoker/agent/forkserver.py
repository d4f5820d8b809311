"""One fork server in the agent's hands: started, asked, ended. What it does is in app/fork_main.py."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec

from stoker.agent import logs
from stoker.agent.folders import Folders
from stoker.agent.kernel import MARKER
from stoker.agent.spawn import BASE_NAMES
from stoker.types.errors import Unavailable
from stoker.types.forks import THREADS_ENV, USUAL_ENV, ForkAnswer, ForkKey

IMPORTS_S: Final = 120.0  # scikit-learn takes 2 s, on a machine that is busy and cold ten times that
FORK_ARGV: Final = (sys.executable, "-m", "stoker.app.fork_main")
ANSWER_BYTES_MAX: Final = 4096
LOG: Final = "forks"  # all of them write to one
# What only makes room, see app/own_area.py: a variable, and the last argument.
ROOM: Final = ("STOKER_ROOM", "x" * 4096)
ARGV_ROOM: Final = "-" * 1024


class ForkServer:
    """Raises OSError where it cannot be started. `problem`: why it failed, "" while it did not."""

    def __init__(self, key: ForkKey, folders: Folders) -> None:
        self.key = key
        self.is_ready = False
        self.forked = 0
        self.rss_bytes = 0
        self.problem = ""
        self._turn = asyncio.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._process = _start(key, folders, theirs)
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self._socket.setblocking(False)
        self._hello = asyncio.get_running_loop().create_task(self._wait_ready(), name=key.name)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Return whether it is dead; it is reaped then."""
        return self._process.poll() is not None

    async def fork(self, order: bytes, descriptors: Sequence[int], timeout_s: float) -> int:
        """Return the pid of a new process for `order`. Raises Unavailable, at the latest after `timeout_s`.

        One that does not answer as it should is ended: what it says later would be taken for another answer.
        """
        try:
            async with asyncio.timeout(timeout_s), self._turn:
                if not self.is_ready:
                    raise Unavailable("it has ended")
                pid = await self._ask(order, descriptors)
        except (TimeoutError, OSError, msgspec.MsgspecError) as broken:
            raise Unavailable(str(broken) or f"no answer within {timeout_s:g} s") from broken
        self.forked += 1
        return pid

    def end(self) -> None:
        """End it; `has_ended` a moment later."""
        self.is_ready = False
        self._hello.cancel()
        self._socket.close()
        with suppress(ProcessLookupError):
            self._process.kill()

    async def _ask(self, order: bytes, descriptors: Sequence[int]) -> int:
        try:
            socket.send_fds(self._socket, [order], descriptors)
            answer = await self._answer()
            if answer.problem or not answer.pid:
                raise Unavailable(answer.problem or "it made no process")
        except BaseException as broken:
            self.problem = str(broken) or "it did not answer in time"
            self.end()
            raise
        return answer.pid

    async def _wait_ready(self) -> None:
        try:
            async with asyncio.timeout(IMPORTS_S):
                answer = await self._answer()
        except (TimeoutError, OSError, msgspec.MsgspecError) as broken:
            answer = ForkAnswer(problem=str(broken) or f"not ready after {IMPORTS_S:g} s")
        if answer.problem:
            self.problem = answer.problem
            self.end()
        else:
            self.is_ready = True

    async def _answer(self) -> ForkAnswer:
        data = await asyncio.get_running_loop().sock_recv(self._socket, ANSWER_BYTES_MAX)
        if not data:
            raise ConnectionResetError("it died")
        return msgspec.msgpack.decode(data, type=ForkAnswer)


def _start(key: ForkKey, folders: Folders, theirs: socket.socket) -> "subprocess.Popen[bytes]":
    environ = {name: os.environ[name] for name in BASE_NAMES if name in os.environ}
    environ |= {"PYTHONFAULTHANDLER": "1", "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1", **USUAL_ENV}
    # OpenBLAS starts its threads when it is imported; a fork is given those that it should have.
    environ |= {THREADS_ENV: str(key.threads), "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environ |= {MARKER: f"{folders.home_id}/{key.name}", ROOM[0]: ROOM[1]}
    output = logs.open_log(logs.log_path(folders.logs, LOG))
    try:
        return subprocess.Popen(
            [*FORK_ARGV, key.imports, str(key.threads), str(theirs.fileno()), ARGV_ROOM],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=environ,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
    finally:
        os.close(output)
