"""The process of an OpenVINO pipeline as its replica sees it: started, spoken with, watched, never left behind."""

import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Final

from stoker.runtime.engines.kept_process import KeptProcess
from stoker.runtime.engines.openvino_wire import Failed, FromChild, Ready, Setup, Stage, Step, ToChild, Wire
from stoker.runtime.engines.port import Progress
from stoker.types.errors import EngineFailed, InvalidInput, RefusedArtifact, StokerError, Unsupported

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
        self._is_closing = False
        ours, theirs = socket.socketpair()
        self._end = ours
        self._wire = Wire(ours, FromChild)
        self._letters: queue.SimpleQueue[ToChild | None] = queue.SimpleQueue()  # one a request, one an abort
        argv = [sys.executable, "-m", "stoker.runtime.engines.openvino_main", str(theirs.fileno())]
        with theirs:
            self._process = KeptProcess(argv, "the openvino engine", lambda: None, pass_fds=(theirs.fileno(),))

    @property
    def pid(self) -> int:
        """Its process id, 0 when it did not start."""
        return self._process.pid

    @property
    def last_words(self) -> str:
        """How it ended, if it did, and the last lines it wrote."""
        return self._process.last_words

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
            self._process.wait(STOP_TIMEOUT_S)
            raise EngineFailed(self.last_words) from gone

    def send(self, message: ToChild) -> None:
        """Tell it something, after all that was told before; never blocks."""
        self._letters.put(message)

    def close(self) -> None:
        """Stop it; blocks, at most STOP_TIMEOUT_S."""
        self._is_closing = True
        self._letters.put(None)
        self._wire.close()
        if not self._process.wait(STOP_TIMEOUT_S):
            self._process.signal(signal.SIGKILL)
            self._process.wait(STOP_TIMEOUT_S)
        self._end.close()

    def _read(self) -> None:
        try:
            while True:
                self._on_step(self._wire.receive())
        except EOFError:
            pass
        self._process.wait(STOP_TIMEOUT_S)  # for its last words
        self._letters.put(None)
        if not self._is_closing:
            self._on_death(self.last_words)

    def _write(self) -> None:
        while (message := self._letters.get()) is not None:
            try:
                self._wire.send(message)
            except OSError:
                return  # it is gone, which the reading thread sees too
