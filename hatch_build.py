"""How the gateway's hot path is compiled into the wheel: by mypyc, and only where STOKER_COMPILE=1 asks for it.

Without it the wheel is pure Python. Which modules are compiled is in pyproject.toml; why these, and what it gives, is
in docs/decisions/compiled-hot-path.md.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ASKED = "STOKER_COMPILE"
# The compiler that the tests passed with, and the packages whose types the compiled modules use.
NEEDED = ["mypy[mypyc]==2.4.1", "msgspec>=0.19", "httptools>=0.6.4"]
GROUP = "stoker.compiled"  # names the shared library, by which telemetry/build.py knows this build
OPTIONS = ["--config-file=", "--follow-imports=silent", "--ignore-missing-imports"]


class CompiledHook(BuildHookInterface[Any]):
    """Adds the compiled modules beside their sources, which stay for tracebacks."""

    def dependencies(self) -> list[str]:
        """Return what the build needs besides hatchling."""
        return NEEDED if _is_asked() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See BuildHookInterface. `version` is `editable` where the sources are to be run in place."""
        if not _is_asked():
            return
        if version == "editable":
            raise ValueError(f"{ASKED}=1 makes a wheel; an editable install runs the sources, so leave it out")
        self._folder = tempfile.mkdtemp(prefix="stoker-compile-")
        made = Path(self._folder) / "lib"
        _compile([f"src/stoker/{module}.py" for module in self.config["compiled"]], Path(self._folder), made)
        for path in made.rglob("*.*"):
            build_data["force_include"][str(path)] = str(path.relative_to(made))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """See BuildHookInterface."""
        if _is_asked():
            shutil.rmtree(self._folder)


def _is_asked() -> bool:
    return os.environ.get(ASKED, "") not in ("", "0")


def _compile(paths: list[str], scratch: Path, made: Path) -> None:
    """Compile the modules of `paths` into `made`. Ends the process with mypy's words when one cannot be."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    os.environ["MYPYPATH"] = "src"
    options = [*OPTIONS, f"--cache-dir={scratch / 'cache'}"]
    extensions = mypycify(
        [*options, *paths], group_name=GROUP, opt_level="3", debug_level="0", target_dir=str(scratch / "c")
    )
    command = build_ext(Distribution({"ext_modules": extensions}))
    command.build_lib, command.build_temp = str(made), str(scratch / "o")
    command.ensure_finalized()
    command.run()
