"""Starts a peer on a port of its own, finds all its processes, and ends every one of them."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import machine
from bench.peers.install import NotHere, last_words
from bench.servers import ROOT, Contender

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 10.0
MARK = "STOKER_BENCH_PEER"


@dataclass(frozen=True)
class Start:
    """How a peer is started, and where and with which headers it then answers."""

    command: Sequence[str]
    port: int
    path: str
    env: dict[str, str] = field(default_factory=dict)
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"


class Running:
    """A peer that runs. Used as a context manager; NotHere when it does not answer `body` well in time."""

    def __init__(self, name: str, start: Start, folder: Path, body: bytes) -> None:
        self.name = name
        self._start = start
        self._body = body
        self._mark = uuid.uuid4().hex
        self._log = folder / f"{self._mark}.log"
        with self._log.open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    list(start.command),
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    cwd=ROOT,
                    env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), **start.env, MARK: self._mark},
                    start_new_session=True,
                )
            except OSError as problem:
                raise NotHere(f"not started: {problem}") from problem

    def __enter__(self) -> "Running":
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def pids(self) -> list[int]:
        """Return its processes: children, and what went its own way but carries the mark in its environment."""
        family = machine.family(self._process.pid) if self._process.poll() is None else []
        return sorted({*family, *_marked(self._mark)})

    def contender(self) -> Contender:
        return Contender(self.name, self._start.url, tuple(self.pids()), self._start.headers)

    def stop(self) -> None:
        """Ask all its processes to stop; after STOP_TIMEOUT_S kill what is left."""
        ending = self.pids()
        _signal(ending, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while _alive(ending) and time.monotonic() < deadline:
            self._process.poll()
            time.sleep(0.05)
        left = [*_alive(ending), *_marked(self._mark)]
        _signal(left, signal.SIGKILL)
        while _alive(left) and time.monotonic() < deadline + STOP_TIMEOUT_S:
            self._process.poll()
            time.sleep(0.05)
        self._process.wait()

    def _wait(self) -> None:
        def check() -> None:
            if not self.pids():
                raise NotHere(f"ended at its start: {last_words(self._log.read_text(errors='replace'))}")

        wait_for(self._start.url, self._start.headers, self._body, check)


def wait_for(
    url: str, headers: Sequence[tuple[str, str]], body: bytes, check: Callable[[], None] = lambda: None
) -> None:
    """Ask until the answer is good, calling `check` in between; NotHere when it was not in START_TIMEOUT_S."""
    deadline = time.monotonic() + START_TIMEOUT_S
    said = ""
    while time.monotonic() < deadline:
        try:
            ask(url, headers, body)
            return
        except urllib.error.HTTPError as problem:
            said = f"{problem.code} {problem.read()[:300].decode(errors='replace')}"
        except OSError as problem:
            said = str(problem)
        check()
        time.sleep(0.1)
    raise NotHere(f"did not answer in {START_TIMEOUT_S:.0f} s: {last_words(said)}")


def ask(url: str, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    """Return the answer to one request; raises OSError, for a bad status HTTPError."""
    request = urllib.request.Request(url, body, dict([*headers, ("Content-Type", "application/json")]))
    with urllib.request.urlopen(request, timeout=10) as answer:
        data: bytes = answer.read()
    return data


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def rss_mb(pids: Sequence[int]) -> float:
    """Return the resident memory of processes together, in MB."""
    return sum(machine.rss_bytes(pid) for pid in pids) / 1e6


def _marked(mark: str) -> list[int]:
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def _alive(pids: Sequence[int]) -> list[int]:
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(pid)
    return found


def _signal(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
