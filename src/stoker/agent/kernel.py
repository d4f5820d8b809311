"""What the kernel says: which process is which, what it uses, and what this machine has. Linux only (/proc, pidfd).

A pid alone names nobody, it is reused. A process is named by pid and start time (clock ticks since boot) within one
boot; both stay the same whatever the wall clock does.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple

from stoker.telemetry.machine import number

MARKER: Final = "STOKER_PROCESS"
_MARKER_PREFIX: Final = MARKER.encode() + b"="
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
# include/uapi/linux/pidfd.h: mask, cgroup id, eleven ids, exit status; _IOWR(0xFF, 11, struct pidfd_info).
_PIDFD_INFO: Final = struct.Struct("=QQ11Ii")
_PIDFD_INFO_EXIT: Final = 1 << 3
_PIDFD_GET_INFO: Final = 0xC040FF0B
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class ProcessLine(NamedTuple):
    """One line of /proc/<pid>/stat, as far as an agent cares."""

    pid: int
    state: str  # R, S, D, T, Z …
    parent: int
    group: int
    session: int
    cpu_s: float
    start_ticks: int
    rss_bytes: int

    @property
    def is_alive(self) -> bool:
        """A zombie is dead; only its parent has not looked yet."""
        return self.state not in ("Z", "X")


def boot_id() -> str:
    """Return what changes with every boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def process(pid: int) -> ProcessLine | None:
    """Return what the kernel says of `pid`, None when there is no such process."""
    try:
        text = _read(f"/proc/{pid}/stat")
    except OSError:
        return None
    # The name stands in parentheses and may hold anything, parentheses too.
    fields = text[text.rfind(b")") + 2 :].split()
    return ProcessLine(
        pid=pid,
        state=fields[0].decode(),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
        start_ticks=int(fields[19]),
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
    )


def processes() -> Iterator[ProcessLine]:
    """Yield every process of this machine that can be seen. About 15 µs each."""
    for name in os.listdir("/proc"):  # noqa: PTH208 - see _read
        if name.isdigit():
            line = process(int(name))
            if line is not None:
                yield line


def _read(path: str) -> bytes:
    """Return a file of /proc. Not by Path, which interns every name it meets: of pids, day after day, that is a table
    of a megabyte that is made anew each few minutes (2 MB in an hour)."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - that is the point
        return file.read()


def is_same(pid: int, start_ticks: int) -> bool:
    """Return whether `pid` is still the process that started at `start_ticks`, and alive."""
    line = process(pid)
    return line is not None and line.is_alive and line.start_ticks == start_ticks


def marker(pid: int) -> str:
    """Return the value of STOKER_PROCESS that `pid` was started with, "" when it has none or cannot be read."""
    with suppress(OSError):
        for pair in _read(f"/proc/{pid}/environ").split(b"\0"):
            if pair.startswith(_MARKER_PREFIX):
                return pair[len(_MARKER_PREFIX) :].decode(errors="replace")
    return ""


def marked(home_id: str) -> dict[ProcessLine, str]:
    """Return the living processes that carry the marker of this state folder, with the process name in it."""
    found = {}
    for line in processes():
        if line.is_alive:
            home, _, name = marker(line.pid).partition("/")
            if home == home_id and name:
                found[line] = name
    return found


def exit_code(pidfd: int) -> int | None:
    """Return how a dead process ended, as `Popen.returncode` says it: our child's, which is reaped by this, or
    another's once its parent reaped it (Linux 6.15)."""
    try:
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        status = _exit_status(pidfd)
        return os.waitstatus_to_exitcode(status) if status is not None else None
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _exit_status(pidfd: int) -> int | None:
    asked = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *([0] * 13)))
    with suppress(OSError):
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, asked)
        told = _PIDFD_INFO.unpack(asked)
        if told[0] & _PIDFD_INFO_EXIT:
            return int(told[-1])
    return None


def usable_cores() -> float:
    """Return the cores this process may use: what its affinity allows, cut by the quota of its cgroup."""
    cores = float(len(os.sched_getaffinity(0)))
    for quota, period in (_quota_v2(), _quota_v1()):
        if quota > 0 and period > 0:
            cores = min(cores, quota / period)
    return cores


def cpu_times() -> tuple[float, float]:
    """Return the processor time of this machine in use and in all since its boot, in seconds; zeros: not known."""
    with suppress(OSError, ValueError, IndexError):
        ticks = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        whole = sum(ticks)
        return (whole - ticks[3] - ticks[4]) / _TICKS_PER_S, whole / _TICKS_PER_S  # idle, and waiting for a disk
    return 0.0, 0.0


def pressed_s(what: Literal["cpu", "memory"]) -> float | None:
    """Return for how many seconds since its boot something waited for a core, or for memory (PSI); None: not known."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/pressure/{what}").read_text().split("\n", 1)[0].rpartition("total=")[2]) / 1e6
    return None


def _quota_v2() -> tuple[int, int]:
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota), int(period)  # "max" is no number: no quota
    return 0, 0


def _quota_v1() -> tuple[int, int]:
    return number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), number("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
