"""A model server as a child process: started by command, waited for, watched, and never left behind."""

import contextlib
import http.client
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from stoker.runtime.engines.kept_process import KeptProcess
from stoker.runtime.engines.port import Progress
from stoker.types.errors import EngineFailed, InvalidInput

POLL_S = 0.1
STOP_TIMEOUT_S = 8.0  # longer than the guard's own patience
_GUARD = Path(__file__).with_name("child_guard.py")


class Child:
    """One command under its guard. `on_death` is called, from a thread, when it ends after it was ready and unasked."""

    def __init__(self, command: list[str], on_death: Callable[[str], None]) -> None:
        self.port = _free_port()
        self._command = [part.replace("{port}", str(self.port)) for part in command]
        if self._command == command:
            raise InvalidInput(
                "command has no {port}; the server must be told where to listen", field="options.command"
            )
        self._on_death = on_death
        self._is_closing = False
        self._was_ready = False
        guarded = [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), *self._command]
        self._process = KeptProcess(guarded, "the model server", self._end, process_group=0)

    @property
    def is_running(self) -> bool:
        """Whether the command still runs."""
        return self._process.is_running

    @property
    def pid(self) -> int:
        """The guard's process id, which is its group's too; 0 when it did not start."""
        return self._process.pid

    @property
    def last_words(self) -> str:
        """How it ended, if it did, and the last lines it wrote."""
        return self._process.last_words

    def wait_ready(self, path: str, timeout_s: float, progress: Progress) -> None:
        """Wait until GET `path` answers 200. Raises EngineFailed with the server's last words."""
        begun_s = time.monotonic()
        while True:
            spent_s = time.monotonic() - begun_s
            if not self.is_running:
                raise EngineFailed(self.last_words)
            if self._answers(path):
                self._was_ready = True
                return
            if spent_s > timeout_s:
                raise EngineFailed(f"GET {path} did not answer 200 in {timeout_s:.0f} s; {self.last_words}")
            progress("server", min(0.9, spent_s / timeout_s))
            self._process.wait(POLL_S)

    def close(self) -> None:
        """Stop the command and everything it started; blocks, at most STOP_TIMEOUT_S."""
        self._is_closing = True
        self._process.signal(signal.SIGTERM)
        if not self._process.wait(STOP_TIMEOUT_S):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(STOP_TIMEOUT_S)

    def _end(self) -> None:
        if self._was_ready and not self._is_closing:
            self._on_death(self.last_words)

    def _answers(self, path: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
