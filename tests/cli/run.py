"""Run `stoker …` as a person does: the installed command, in its own process."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stoker.cli.main import main

STOKER = Path(sys.executable).parent / "stoker"


def stoker(
    *arguments: str, home: Path | None = None, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Return what the command said and its exit code. Nothing of this process' own settings reaches it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("STOKER_", "_STOKER"))}
    clean.update(environment)
    if home is not None:
        clean["STOKER_HOME"] = str(home)
    return subprocess.run(
        [str(STOKER), *arguments], env=clean, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


def stoker_here(
    *arguments: str | Path, home: Path | None = None, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Do as `stoker` does, in this process: where many commands are asked, and none that starts anything."""
    out, err = _stream(), _stream()
    with pytest.MonkeyPatch.context() as here, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        for name in [name for name in os.environ if name.startswith(("STOKER_", "_STOKER"))]:
            here.delenv(name)
        if home is not None:
            here.setenv("STOKER_HOME", str(home))
        for name, value in environment.items():
            here.setenv(name, value)
        here.setattr(sys, "argv", ["stoker", *map(str, arguments)])
        here.setattr(sys, "stdin", _stream(stdin))
        code = main()
    return subprocess.CompletedProcess(arguments, code, _said(out), _said(err))


def _stream(text: str = "") -> io.TextIOWrapper:
    """Return a stream of a process: of text, with its bytes below it."""
    return io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8", newline="", write_through=True)


def _said(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.buffer.read().decode().replace("\r\n", "\n")  # as `subprocess` reads it
