"""A model server as a child process: started by command, waited for, watched, and never left behind."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from stoker.runtime.engines.port import Progress
from stoker.types.errors import EngineFailed, InvalidInput

TAIL_LINES_MAX = 50
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
        self._tail: deque[str] = deque(maxlen=TAIL_LINES_MAX)
        self._is_closing = False
        self._was_ready = False
        self._process: subprocess.Popen[bytes] | None = None
        self._started = threading.Event()
        self._ended = threading.Event()
        # The kernel counts the thread that forked as the parent, so that thread lives as long as the child.
        self._keeper = threading.Thread(target=self._keep, name="model-server", daemon=True)
        self._keeper.start()
        self._started.wait()

    @property
    def is_running(self) -> bool:
        """Whether the command still runs."""
        return not self._ended.is_set()

    @property
    def pid(self) -> int:
        """The guard's process id, which is its group's too; 0 when it did not start."""
        return self._process.pid if self._process is not None else 0

    @property
    def last_words(self) -> str:
        """How it ended, if it did, and the last lines it wrote."""
        code = self._process.poll() if self._process is not None else None
        how = "did not start" if self._process is None else f"ended with code {code}" if code is not None else "runs"
        return f"the model server {how}: " + (" | ".join(self._tail) or "it wrote nothing")

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
            self._ended.wait(POLL_S)

    def close(self) -> None:
        """Stop the command and everything it started; blocks, at most STOP_TIMEOUT_S."""
        self._is_closing = True
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        if not self._ended.wait(STOP_TIMEOUT_S):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._ended.wait(STOP_TIMEOUT_S)

    def _keep(self) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), *self._command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        except OSError as failed:
            self._tail.append(str(failed))
            self._ended.set()
            return
        finally:
            self._started.set()
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._tail.append(line.decode("utf-8", "replace").rstrip())
                with contextlib.suppress(OSError):
                    os.write(2, line)  # and into this process' own log
        self._process.wait()
        self._ended.set()
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
