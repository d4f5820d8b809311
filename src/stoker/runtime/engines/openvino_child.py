"""The process of an OpenVINO pipeline as its replica sees it: started, spoken with, watched, never left behind."""

import contextlib
import os
import queue
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from stoker.runtime.engines.openvino_wire import Failed, FromChild, Ready, Setup, Stage, Step, ToChild, Wire
from stoker.runtime.engines.port import Progress
from stoker.types.errors import EngineFailed, InvalidInput, RefusedArtifact, StokerError, Unsupported

TAIL_LINES_MAX = 50
STOP_TIMEOUT_S = 10.0  # a step is waited for, and one takes a second at the most
_ERRORS: Final[dict[str, type[StokerError]]] = {
    "input": InvalidInput,
    "unsupported": Unsupported,
    "artifact": RefusedArtifact,
}


def as_error(kind: str, message: str) -> StokerError:
    """Return what the child refused or broke on as our error."""
    return _ERRORS.get(kind, EngineFailed)(message)


class Child:
    """The process.

    `on_step` is called with everything it makes, `on_death` when it ends after it was ready and unasked; both by a
    thread.
    """

    def __init__(self, on_step: Callable[[Step], None], on_death: Callable[[str], None]) -> None:
        self._on_step = on_step
        self._on_death = on_death
        self._tail: deque[str] = deque(maxlen=TAIL_LINES_MAX)
        self._is_closing = False
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        self._started = threading.Event()
        ours, self._theirs = socket.socketpair()
        self._end = ours
        self._wire = Wire(ours, FromChild)
        self._letters: queue.SimpleQueue[ToChild | None] = queue.SimpleQueue()  # one a request, one an abort
        # The kernel counts the thread that forked as the parent, so that thread lives as long as the child.
        threading.Thread(target=self._keep, name="openvino-process", daemon=True).start()
        self._started.wait()

    @property
    def pid(self) -> int:
        """Its process id, 0 when it did not start."""
        return self._process.pid if self._process is not None else 0

    @property
    def last_words(self) -> str:
        """How it ended, if it did, and the last lines it wrote."""
        code = self._process.poll() if self._process is not None else None
        how = "did not start" if self._process is None else f"ended with code {code}" if code is not None else "runs"
        return f"the openvino engine {how}: " + (" | ".join(self._tail) or "it wrote nothing")

    def load(self, setup: Setup, progress: Progress) -> Ready:
        """Have it load the model; blocks. Raises its refusal, or EngineFailed with its last words."""
        try:
            self._wire.send(setup)
            while True:
                message = self._wire.receive()
                match message:
                    case Stage():
                        progress(message.stage, message.fraction)
                    case Failed():
                        raise as_error(message.kind, message.message)
                    case Ready():
                        threading.Thread(target=self._read, name="openvino-answers", daemon=True).start()
                        threading.Thread(target=self._write, name="openvino-requests", daemon=True).start()
                        return message
        except (EOFError, OSError) as gone:
            self._ended.wait(STOP_TIMEOUT_S)
            raise EngineFailed(self.last_words) from gone

    def send(self, message: ToChild) -> None:
        """Tell it something, after all that was told before; never blocks."""
        self._letters.put(message)

    def close(self) -> None:
        """Stop it; blocks, at most STOP_TIMEOUT_S."""
        self._is_closing = True
        self._letters.put(None)
        self._wire.close()
        if self._process is not None and not self._ended.wait(STOP_TIMEOUT_S):
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._ended.wait(STOP_TIMEOUT_S)
        self._end.close()

    def _keep(self) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "stoker.runtime.engines.openvino_main", str(self._theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(self._theirs.fileno(),),
            )
        except OSError as failed:
            self._tail.append(str(failed))
            self._ended.set()
            return
        finally:
            self._theirs.close()
            self._started.set()
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._tail.append(line.decode("utf-8", "replace").rstrip())
                with contextlib.suppress(OSError):
                    os.write(2, line)  # and into this process' own log
        self._process.wait()
        self._ended.set()

    def _read(self) -> None:
        try:
            while True:
                self._on_step(self._wire.receive())
        except EOFError:
            pass
        self._ended.wait(STOP_TIMEOUT_S)  # for its last words
        self._letters.put(None)
        if not self._is_closing:
            self._on_death(self.last_words)

    def _write(self) -> None:
        while (message := self._letters.get()) is not None:
            try:
                self._wire.send(message)
            except OSError:
                return  # it is gone, which the reading thread sees too
