"""What the kernel says: processor time and memory of processes, and what machine this is."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


def cpu_s(pids: Iterable[int]) -> float:
    """Return the processor time that living `pids` have used, all threads, in user and kernel."""
    total = 0
    for pid in pids:
        try:
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total * TICK_S


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 when it is gone."""
    return _rollup(pid, "Rss")


def pss_bytes(pid: int) -> int:
    """Return the memory of a process, what it shares counted by its part; 0 when it is gone."""
    return _rollup(pid, "Pss")


def _rollup(pid: int, name: str) -> int:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def family(pid: int) -> list[int]:
    """Return `pid` and all its living descendants."""
    parents: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting.extend(parents.get(found[-1], ()))
    return found


def description() -> dict[str, str]:
    """Return what the numbers were measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in (PROC / "cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    packages = ("uvicorn", "httptools", "uvloop", "msgspec", "onnxruntime", "fastapi", "xllamacpp", "openvino-genai")
    return {
        "processor": f"{len(os.sched_getaffinity(0))} × {model}",
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in packages),
        "load average at start": f"{os.getloadavg()[0]:.2f}",
    }
