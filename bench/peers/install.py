"""Which version of each peer is measured, and how it gets into the cache: a folder a version, nothing outside it."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.rounds import say

INSTALL_TIMEOUT_S = 1200.0
DONE = "installed"  # written last: a folder without it is half an installation
ORT = ("onnxruntime==1.31.1", "numpy==2.4.6", "msgspec==0.22.0")  # the engine is the same for all, and stoker's


@dataclass(frozen=True)
class Package:
    """One peer at one version; `needs` is what it must have beside it, pinned."""

    name: str
    version: str
    needs: tuple[str, ...] = ()
    extra: str = ""
    registry: Literal["pypi", "npm"] = "pypi"

    @property
    def folder(self) -> str:
        return f"{self.name.strip('@').replace('/', '-')}-{self.version}"


LITSERVE = Package("litserve", "0.2.19", ORT)
BENTOML = Package("bentoml", "1.4.40", ORT)
MLSERVER = Package("mlserver", "1.7.1", ("uvloop<0.22", *ORT))  # its event loop policy is gone from uvloop 0.22
KSERVE = Package("kserve", "0.21.0", ORT)
PYTRITON = Package("nvidia-pytriton", "0.7.0", ("onnxruntime==1.31.1", "numpy==1.26.4"))  # it refuses numpy 2
RAY = Package("ray", "2.60.0", ORT, extra="serve,haproxy")
LITELLM = Package("litellm", "1.104.0", extra="proxy")  # the proxy extra of 1.108 and later names a package PyPI lacks
VLLM_ROUTER = Package("vllm-router", "0.1.17")
SGLANG_ROUTER = Package("sglang-router", "0.3.2")
# With a newer @hono/node-server it does not stream.
SMG = Package("smg", "1.13.0")
PORTKEY = Package("@portkey-ai/gateway", "1.15.2", ("@hono/node-server@1.3.3",), registry="npm")


class NotHere(Exception):
    """A peer that could not be installed or started, and why, in a line."""


def cache() -> Path:
    """Return the folder that holds the peers."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stoker-bench"


def place(package: Package) -> Path:
    """Return the folder of `package`, installed there if it was not. Raises NotHere with the installer's last words."""
    folder = cache() / package.folder
    if (folder / DONE).exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    say(f"  installing {package.folder}")
    for command in commands(package, folder):
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise NotHere(f"not installed: {problem}") from problem
        if done.returncode != 0:
            raise NotHere(f"not installed: {last_words(done.stderr or done.stdout)}")
    (folder / DONE).touch()
    return folder


def commands(package: Package, folder: Path) -> list[list[str]]:
    """Return what installs `package` into the empty `folder`."""
    if package.registry == "npm":
        needs = [
            f"overrides[{name}]={version}" for name, _, version in (need.rpartition("@") for need in package.needs)
        ]
        install = ["npm", "install", "--silent", f"{package.name}@{package.version}"]
        return [["npm", "init", "--yes"], ["npm", "pkg", "set", *needs], install]
    wanted = f"{package.name}[{package.extra}]" if package.extra else package.name
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    return [[sys.executable, "-m", "venv", str(folder)], [*pip, f"{wanted}=={package.version}", *package.needs]]


def last_words(text: str) -> str:
    """Return the last line of a log that says something, short."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"
