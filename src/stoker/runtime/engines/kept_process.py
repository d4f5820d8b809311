"""A process that an engine keeps beside it: started, listened to, waited for; its last words are what it wrote last."""

import contextlib
import os
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

TAIL_LINES_MAX: Final = 50


class KeptProcess:
    """One process. What it writes goes into this process' own log.

    Args:
        name: of what it is, for its last words: "the model server".
        on_end: called by a thread when it ended, or did not start.
        process_group: 0 makes it the leader of a group of its own.
    """

    def __init__(
        self,
        argv: Sequence[str],
        name: str,
        on_end: Callable[[], None],
        *,
        pass_fds: Sequence[int] = (),
        process_group: int | None = None,
    ) -> None:
        self._argv = argv
        self._name = name
        self._on_end = on_end
        self._pass_fds = pass_fds
        self._process_group = process_group
        self._process: subprocess.Popen[bytes] | None = None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES_MAX)
        self._started = threading.Event()
        self._ended = threading.Event()
        # The kernel counts the thread that forked as the parent, so that thread lives as long as the child.
        threading.Thread(target=self._keep, name=name, daemon=True).start()
        self._started.wait()

    @property
    def is_running(self) -> bool:
        """Whether it still runs."""
        return not self._ended.is_set()

    @property
    def pid(self) -> int:
        """Its process id, 0 when it did not start."""
        return self._process.pid if self._process is not None else 0

    @property
    def last_words(self) -> str:
        """How it ended, if it did, and the last lines it wrote."""
        code = self._process.poll() if self._process is not None else None
        how = "did not start" if self._process is None else f"ended with code {code}" if code is not None else "runs"
        return f"{self._name} {how}: " + (" | ".join(self._tail) or "it wrote nothing")

    def wait(self, timeout_s: float) -> bool:
        """Return whether it ended within `timeout_s`; blocks."""
        return self._ended.wait(timeout_s)

    def signal(self, number: int) -> None:
        """Send it a signal, if it is there."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _keep(self) -> None:
        try:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=self._pass_fds,
                process_group=self._process_group,
            )
        except OSError as failed:
            self._tail.append(str(failed))
            self._ended.set()
            self._started.set()
            self._on_end()
            return
        self._started.set()
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._tail.append(line.decode("utf-8", "replace").rstrip())
                with contextlib.suppress(OSError):
                    os.write(2, line)
        self._process.wait()
        self._ended.set()
        self._on_end()
