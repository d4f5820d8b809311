"""The fork servers of a node: which run, what is asked of them, and what happens when one does not answer.

Whoever cannot be forked is started by itself, at once: a server that is not there, refuses, hangs or dies costs a start
at most ANSWER_S.
"""

import logging
import os
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec

from stoker.agent import logs
from stoker.agent.folders import Folders
from stoker.agent.forkserver import ForkServer
from stoker.agent.kernel import ProcessLine
from stoker.core import forks
from stoker.types.errors import Unavailable
from stoker.types.forks import ORDER_BYTES_MAX, ForkKey, ForkOrder, ForkPhase, ForkStatus
from stoker.types.process import ProcessSpec
from stoker.types.replica import ReplicaSpec

ANSWER_S: Final = 1.0  # a fork takes 10 to 30 ms; orders to one server are answered one after the other
REPLICA_ARGV: Final = (sys.executable, "-m", "stoker.app.replica_main")
_log: Final = logging.getLogger(__name__)


class Forked:
    """A process that waits for the word to go; left without it, it ends by itself."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self._pipe = pipe

    def __enter__(self) -> "Forked":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._pipe)

    def go(self) -> None:
        """Let it run; one that is dead already is seen to be by whoever owns it."""
        with suppress(BrokenPipeError):
            os.write(self._pipe, b"!")


class ForkServers:
    """All of one agent. `fork` replicas, `tend` the servers once a second, `close` at the end."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._servers: dict[ForkKey, ForkServer] = {}
        self._seen: dict[ForkKey, forks.Server] = {}  # those that failed too
        self._ending: list[ForkServer] = []
        self._is_closed = False

    @property
    def pids(self) -> dict[str, int]:
        """Return the processes by name."""
        return {server.key.name: server.pid for server in (*self._ending, *self._servers.values())}

    def key(self, spec: ProcessSpec) -> ForkKey | None:
        """Return which server the process could be forked from, None when from none."""
        if spec.argv[:-1] != REPLICA_ARGV:
            return None
        try:
            told = msgspec.json.decode(Path(spec.argv[-1]).read_bytes(), type=ReplicaSpec)
        except (OSError, msgspec.MsgspecError):  # it will say so itself
            return None
        return forks.key(told.engine, spec.env)

    async def fork(self, key: ForkKey, order: ForkOrder, log: Path) -> Forked | None:
        """Return a process for `order`; None when it has to be started otherwise, at most ANSWER_S later."""
        server = self._servers.get(key)
        message = msgspec.msgpack.encode(order)
        if server is None or not server.is_ready or len(message) > ORDER_BYTES_MAX:
            return None
        Path(order.work_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as held, ExitStack() as unless_forked:
            output = logs.open_log(log)
            held.callback(os.close, output)
            waits, tell = os.pipe2(os.O_CLOEXEC)
            held.callback(os.close, waits)
            unless_forked.callback(os.close, tell)
            try:
                pid = await server.fork(message, (output, waits), ANSWER_S)
            except Unavailable as refused:
                _log.warning("started without a fork", extra={"server": key.name, "reason": refused.message})
                return None
            unless_forked.pop_all()
            return Forked(pid, tell)

    def tend(self, wanted: Sequence[ForkKey], lines: Iterable[ProcessLine], *, is_busy: bool, free_bytes: int) -> None:
        """Bury servers that died, end those that nobody needs, start one that is missing.

        Args:
            wanted: as core.forks.plan has it, like the other two.
            lines: all processes of the machine.
        """
        if self._is_closed:
            return
        now_s = time.monotonic()
        self._ending = [each for each in self._ending if not each.has_ended]
        used = {line.pid: line.rss_bytes for line in lines}
        for key, server in list(self._servers.items()):
            server.rss_bytes = used.get(server.pid, server.rss_bytes)
            seen = self._seen[key]
            wanted_s = now_s if key in wanted else seen.wanted_s
            if server.problem or server.has_ended:
                self._failed(key, server.problem or "it died", wanted_s, now_s)
            else:
                phase: ForkPhase = "ready" if server.is_ready else "starting"
                failures = 0 if server.forked else seen.failures
                self._seen[key] = forks.Server(phase, wanted_s, server.rss_bytes, failures)
        plan = forks.plan(wanted, self._seen, now_s=now_s, is_busy=is_busy, free_bytes=free_bytes)
        for key, because in plan.ends.items():
            _log.info("fork server ended", extra={"server": key.name, "reason": because})
            self._end(key)
            del self._seen[key]
        if plan.start is not None:
            self._start(plan.start, now_s)

    def status(self) -> tuple[ForkStatus, ...]:
        """Return what is known of each."""
        return tuple(self._status(key, seen, self._servers.get(key)) for key, seen in sorted(self._seen.items()))

    def close(self) -> None:
        """End them all; no other is started. What was forked goes on."""
        self._is_closed = True
        for key in list(self._servers):
            self._end(key)
        self._seen.clear()

    def _start(self, key: ForkKey, now_s: float) -> None:
        before = self._seen.get(key)
        self._seen[key] = forks.Server("starting", now_s, failures=before.failures if before is not None else 0)
        try:
            self._servers[key] = server = ForkServer(key, self._folders)
        except OSError as refused:
            self._failed(key, str(refused), now_s, now_s)
        else:
            _log.info("fork server started", extra={"server": key.name, "pid": server.pid})

    def _failed(self, key: ForkKey, problem: str, wanted_s: float, now_s: float) -> None:
        _log.warning("fork server failed", extra={"server": key.name, "reason": problem})
        failures = self._seen[key].failures + 1
        self._seen[key] = forks.Server("failed", wanted_s, 0, failures, forks.again_s(failures, now_s), problem)
        self._end(key)

    def _end(self, key: ForkKey) -> None:
        server = self._servers.pop(key, None)
        if server is not None:
            server.end()
            self._ending.append(server)

    @staticmethod
    def _status(key: ForkKey, seen: forks.Server, server: ForkServer | None) -> ForkStatus:
        told = ForkStatus(key.imports, key.threads, seen.phase, problem=seen.problem)
        if server is None:
            return told
        return msgspec.structs.replace(told, pid=server.pid, rss_bytes=server.rss_bytes, forked=server.forked)
