"""Starts and stops the contenders that are one process: they say their port on the first line of their output."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench import machine

ROOT = Path(__file__).parent.parent
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Contender:
    """Something to put load on: where it answers, with which headers, and whose processor time counts."""

    name: str
    url: str
    pids: tuple[int, ...]
    headers: tuple[tuple[str, str], ...] = ()

    def cpu_s(self) -> float:
        return machine.cpu_s(self.pids)


class Server:
    """A contender in a process of its own: `python -m MODULE ARGUMENTS`. Used as a context manager."""

    def __init__(self, name: str, module: str, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.port = self._read_port()

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def contender(self, path: str) -> Contender:
        return Contender(self.name, f"http://127.0.0.1:{self.port}{path}", tuple(machine.family(self.pid)))

    def stop(self) -> None:
        """Ask it to stop; after STOP_TIMEOUT_S kill it with all it started."""
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _read_port(self) -> int:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ)
            line = self._process.stdout.readline() if ready.select(START_TIMEOUT_S) else b""
        if not line:
            self.stop()
            raise RuntimeError(f"{self.name} did not start; its errors are above")
        port: int = json.loads(line)["port"]
        return port
