"""The command starts fast, because it is typed all day."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.run import STOKER, stoker

# What must not be imported to say hello: each costs more than the whole command may take.
HEAVY = ("rich", "yaml", "numpy", "sqlalchemy", "starlette", "uvicorn", "aiohttp", "asyncio", "onnxruntime", "psutil")

MODULES = ("main", "status", "get", "apply", "deploy", "push", "chat", "up", "top")


def cpu_s(arguments: list[str]) -> float:
    """Return the processor time of one run: on a busy machine the clock on the wall measures the neighbours."""
    pid = os.posix_spawn(
        arguments[0],
        arguments,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_WRONLY, 0) for descriptor in (1, 2)],
    )
    used = os.wait4(pid, 0)[2]
    return used.ru_utime + used.ru_stime


@pytest.mark.alone
@pytest.mark.parametrize("arguments", [["--help"], ["status"]])
def test_starts_within_150_ms_or_twice_what_its_two_libraries_take(arguments: list[str], tmp_path: Path) -> None:
    runs = [
        (
            cpu_s([sys.executable, "-c", "import click, msgspec, http.client"]),
            cpu_s([str(STOKER), "--home", str(tmp_path), *arguments]),
        )
        for _ in range(5)
    ]
    bare_s, whole_s = (min(times) for times in zip(*runs, strict=True))
    words = f"stoker {arguments}: {whole_s * 1000:.0f} ms, its libraries alone {bare_s * 1000:.0f} ms"
    assert whole_s < max(0.15, 2 * bare_s), words


def test_nothing_heavy_is_imported_to_read_the_arguments() -> None:
    modules = ", ".join(f"stoker.cli.{module}" for module in MODULES)
    code = f"import sys, {modules}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


def test_says_its_version() -> None:
    assert stoker("--version").stdout.startswith("stoker, version ")
