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


def stoker_here(*arguments: str, home: Path, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Do as `stoker` does, in this process: where many commands are asked, and none that starts anything."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as here, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        for name in [name for name in os.environ if name.startswith(("STOKER_", "_STOKER"))]:
            here.delenv(name)
        here.setenv("STOKER_HOME", str(home))
        for name, value in environment.items():
            here.setenv(name, value)
        here.setattr(sys, "argv", ["stoker", *arguments])
        here.setattr(sys, "stdin", io.StringIO(stdin))
        code = main()
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
