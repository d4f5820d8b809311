"""A model server as a child process: started by command, waited for, watched, and never left behind."""

import contextlib
import http.client
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from stoker.runtime.engines import child_port
from stoker.runtime.engines.kept_process import KeptProcess
from stoker.runtime.engines.port import Progress
from stoker.types.errors import EngineFailed, InvalidInput

POLL_S = 0.1
STARTS_MAX: Final = 3  # of a command whose port another process took before it
OTHERS_WAIT_S: Final = 10.0  # so long an answer is not believed that another process seems to give
# What servers say whose port is taken: Python's, Go's, Rust's and C's errors, llama.cpp.
_TAKEN: Final = ("address already in use", "eaddrinuse", "errno 98", "couldn't bind", "address in use")
STOP_TIMEOUT_S = 8.0  # longer than the guard's own patience
_GUARD = Path(__file__).with_name("child_guard.py")

log = logging.getLogger(__name__)


class Child:
    """One command under its guard. `on_death` is called, from a thread, when it ends after it was ready and unasked.

    `port` is where it listens; it may be another one once `wait_ready` has returned.
    """

    def __init__(self, command: list[str], on_death: Callable[[str], None]) -> None:
        if not any("{port}" in part for part in command):
            raise InvalidInput(
                "command has no {port}; the server must be told where to listen", field="options.command"
            )
        self._on_death = on_death
        self._is_closing = False
        self._was_ready = False
        self._command = command
        self._start()

    def _start(self) -> None:
        self.port = child_port.choose()
        command = [part.replace("{port}", str(self.port)) for part in self._command]
        guarded = [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), *command]
        self._process = KeptProcess(guarded, "the model server", partial(self._end, self.port), process_group=0)

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
        """Wait until GET `path` answers 200. Raises EngineFailed with the server's last words.

        Where another process has the port, the command is started again with another one, at most STARTS_MAX times.
        """
        begun_s = time.monotonic()
        starts, doubted_s = 1, 0.0  # since when the answers seem to be another's
        while True:
            spent_s = time.monotonic() - begun_s
            if not self.is_running:
                if starts == STARTS_MAX or not self._lost_port():
                    raise EngineFailed(self.last_words)
                log.warning("another process took the port of the model server; another is tried", extra=self._said())
                starts, doubted_s = starts + 1, 0.0
                self._start()
            elif self._answers(path):
                doubted_s = doubted_s or time.monotonic()
                is_doubted = child_port.is_others(self.port, self.pid)
                if not is_doubted or time.monotonic() - doubted_s > OTHERS_WAIT_S:
                    if is_doubted:
                        log.warning("another process listens for the model server", extra=self._said())
                    self._was_ready = True
                    return
            if spent_s > timeout_s:
                raise EngineFailed(f"GET {path} did not answer 200 in {timeout_s:.0f} s; {self.last_words}")
            progress("server", min(0.9, spent_s / timeout_s))
            self._process.wait(POLL_S)

    def _lost_port(self) -> bool:
        """Return whether it ended because its port was taken: somebody listens there, or it says so."""
        words = self.last_words.lower()
        return not child_port.is_free(self.port) or any(each in words for each in _TAKEN)

    def _said(self) -> dict[str, object]:
        return {"port": self.port, "words": self.last_words[-500:]}

    def close(self) -> None:
        """Stop the command and everything it started; blocks, at most STOP_TIMEOUT_S."""
        self._is_closing = True
        self._process.signal(signal.SIGTERM)
        if not self._process.wait(STOP_TIMEOUT_S):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(STOP_TIMEOUT_S)

    def _end(self, port: int) -> None:
        """Note that the process ended that was told `port`; what was told another one before is long forgotten."""
        if self._was_ready and not self._is_closing and port == self.port:
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
