"""Run `stoker …` as a person does: the installed command, in its own process."""

import os
import subprocess
import sys
from pathlib import Path

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
