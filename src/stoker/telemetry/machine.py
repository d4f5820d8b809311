"""What memory this machine has for processes, and what of it is free."""

from contextlib import suppress
from pathlib import Path


def memory() -> tuple[int, int]:
    """Return (all, free) bytes of memory for processes on this machine, within the cgroup's limit if it has one."""
    info = _meminfo()
    whole, free = info.get("MemTotal", 0), info.get("MemAvailable", 0)
    for limit, used in (
        (number("/sys/fs/cgroup/memory.max"), number("/sys/fs/cgroup/memory.current")),
        (
            number("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
            number("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
        ),
    ):
        if 0 < limit < whole:
            whole, free = limit, min(free, max(0, limit - used))
    return whole, free


def number(path: str) -> int:
    """Return the number in a file of the kernel, 0 when there is none."""
    with suppress(OSError, ValueError):
        return int(Path(path).read_text())
    return 0


def _meminfo() -> dict[str, int]:
    found = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * 1024
    return found
