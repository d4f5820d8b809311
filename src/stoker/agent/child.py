"""A living process in the agent's hands, by birth or by adoption: its end, its signals, and what it leaves behind.

A pidfd tells of the death and takes the signals, so that neither can reach another process that got the same pid.
"""

import asyncio
import os
import signal
import subprocess
from contextlib import suppress
from typing import Final

from stoker.agent import kernel

SWEEPS_MAX: Final = 20  # a process that forks faster than it is killed must not hold the agent for ever


class Child:
    """One process, leader of its own session. `exited` is set once it is dead (and perhaps not yet reaped)."""

    def __init__(self, pid: int, start_ticks: int, pidfd: int, born: "subprocess.Popen[bytes] | None") -> None:
        self.pid = pid
        self.start_ticks = start_ticks
        self.exited = asyncio.Event()
        self._pidfd = pidfd
        self._born = born
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(pidfd, self._on_exit)

    @classmethod
    def of_birth(cls, born: "subprocess.Popen[bytes]") -> "Child":
        """Take a process that this agent just started."""
        line = kernel.process(born.pid)  # there even when it died already: nobody else can reap it
        return cls(born.pid, line.start_ticks if line is not None else 0, os.pidfd_open(born.pid), born)

    @classmethod
    def of_fork(cls, pid: int) -> "Child":
        """Take a process that a fork server made for this agent. Raises OSError when it is gone already."""
        line = kernel.process(pid)
        return cls(pid, line.start_ticks if line is not None else 0, os.pidfd_open(pid), None)

    @classmethod
    def adopt(cls, pid: int, start_ticks: int) -> "Child | None":
        """Take a process that another agent started; None when it is gone."""
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return None
        # Asked after the pidfd holds it: from here on the pid cannot become another process' unnoticed.
        if not kernel.is_same(pid, start_ticks):
            os.close(pidfd)
            return None
        return cls(pid, start_ticks, pidfd, None)

    @property
    def is_alive(self) -> bool:
        """Return whether it runs, as far as the loop has heard."""
        return not self.exited.is_set()

    async def wait(self, timeout_s: float) -> bool:
        """Return whether it is dead, after at most `timeout_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.exited.wait()
        return self.exited.is_set()

    def send(self, number: signal.Signals) -> None:
        """Signal the process itself; nothing happens once it is dead."""
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def send_group(self, number: signal.Signals) -> None:
        """Signal the process and all that shares its group; nothing happens once it is buried."""
        if self._pidfd >= 0:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def kill_group(self) -> None:
        """SIGKILL the process and all that shares its group."""
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.send(signal.SIGKILL)

    def bury(self) -> str:
        """Reap the dead process and return how it ended: `exit code 3`, `killed by SIGKILL`."""
        code = kernel.exit_code(self._pidfd) if self._born is None and self._pidfd >= 0 else None
        self._release()
        if self._born is not None:
            return describe_exit(self._born.wait())
        if code is not None:
            return describe_exit(code)
        return "ended unseen (an earlier agent had started it)"

    def let_go(self) -> None:
        """Stop watching a process that goes on without this agent."""
        self._release()
        if self._born is not None and self._born.returncode is None:
            self._born.returncode = 0  # or Popen complains of a process that still runs

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self.exited.set()

    def _release(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


def describe_exit(returncode: int) -> str:
    """Return in words what `Popen.returncode` means."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


def sweep(home_id: str, name: str, leader: int) -> int:
    """SIGKILL what a dead process left behind: its session, and all that carries its name. Returns how many.

    To be called before the leader is reaped, while its pid still stands for its session.
    """
    killed = 0
    for _ in range(SWEEPS_MAX):
        left = [
            line
            for line in kernel.processes()
            if line.is_alive
            and line.pid != leader
            and (line.session == leader or kernel.marker(line.pid) == f"{home_id}/{name}")
        ]
        if not left:
            break
        for line in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(line.pid, signal.SIGKILL)
                killed += 1
    return killed
