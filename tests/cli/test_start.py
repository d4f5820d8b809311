"""The command starts fast, because it is typed all day."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.run import STOKER, stoker

# What must not be imported to say hello: each costs more than the whole command may take.
HEAVY = ("rich", "yaml", "numpy", "sqlalchemy", "starlette", "uvicorn", "aiohttp", "asyncio", "onnxruntime", "psutil")


def best_of(count: int, arguments: list[str]) -> float:
    """Return the quickest run, in seconds: other work on the machine only adds."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        subprocess.run(arguments, capture_output=True, check=False, timeout=60)
        times.append(time.perf_counter() - began)
    return min(times)


@pytest.mark.parametrize("arguments", [["--help"], ["status"]])
def test_starts_within_four_bare_interpreters(arguments: list[str], tmp_path: Path) -> None:
    """150 ms on a machine whose bare interpreter takes 15 ms and whose click takes 40; as a ratio on a busy one."""
    bare = best_of(7, [sys.executable, "-c", "import click, http.client"])
    whole = best_of(7, [str(STOKER), "--home", str(tmp_path), *arguments])
    assert whole < max(0.15, 2.5 * bare), f"stoker {arguments}: {whole * 1000:.0f} ms, click alone {bare * 1000:.0f} ms"


@pytest.mark.parametrize("module", ["main", "status", "get", "apply", "deploy", "push", "chat", "up", "top"])
def test_nothing_heavy_is_imported_to_read_the_arguments(module: str) -> None:
    code = f"import sys, stoker.cli.main, stoker.cli.{module}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


def test_says_its_version() -> None:
    assert stoker("--version").stdout.startswith("stoker, version ")
