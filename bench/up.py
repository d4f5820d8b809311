"""The platform under test, started as a user starts it: the command line, a state folder and a port of its own."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.servers import Contender
from stoker.app.demo import DemoModel
from stoker.app.home import Home

STOKER = Path(sys.executable).parent / "stoker"
READY_TIMEOUT_S = 180.0


def free_port() -> int:
    """Return a port whose successor is free too (the gateways' and the control API's)."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise RuntimeError("no two free ports in a row")


class Platform:
    """A running platform in a folder of its own; stopped and removed at the end of the block.

    gateways: None: as many as it starts where nobody says. command: the `stoker` that starts it, and so the build
    that runs.
    """

    def __init__(self, folder: Path | None = None, *, gateways: int | None = None, command: Path = STOKER) -> None:
        self._command = command
        self._made = None if folder else tempfile.TemporaryDirectory(prefix="stoker-bench-")
        self.home = Home((folder or Path(self._made.name if self._made else "")).resolve())
        self.port = free_port()
        self.gateways = gateways
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Platform":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()
        if self._made:
            self._made.cleanup()

    def cli(self, *arguments: str, stdin: str = "", timeout_s: float = READY_TIMEOUT_S) -> str:
        """Run `stoker …` against this platform and return what it printed. Raises RuntimeError with all it said."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
        done = subprocess.run(
            [str(self._command), *arguments],
            env={**own, "STOKER_HOME": str(self.home.root), "PORT": str(self.port)},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"stoker {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def up(self) -> None:
        """Start, without waiting for endpoints."""
        several = () if self.gateways is None else ("--gateways", str(self.gateways))
        self.cli("up", "--detach", *several)

    def deploy(self, model: DemoModel) -> None:
        """Register a demo model and serve it, unless it is there already; does not wait for its replica."""
        if model.name not in self.cli("get", "endpoints", "-o", "json"):
            self.cli("push", model.name, str(model.folder))
            self.cli("apply", "-f", "-", stdin=model.manifest)

    def down(self) -> None:
        """Drain and stop everything; nothing when it is not up."""
        if self.pids():
            self.cli("down")

    @property
    def key(self) -> str:
        key: str = json.loads(self.home.credentials.read_text())["key"]
        return key

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (("Authorization", f"Bearer {self.key}"),)

    def pids(self, prefix: str = "") -> dict[str, int]:
        """Return the living processes of this folder whose names start with `prefix`, as the kernel lists them."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            marker = next((v[15:].decode() for v in environment if v.startswith(b"STOKER_PROCESS=")), "")
            owner, _, name = marker.partition("/")
            if owner == self.home.id and state != "Z" and name.startswith(prefix):
                found[name] = int(entry.name)
        return found

    def contender(self, path: str, name: str = "stoker") -> Contender:
        """Return what load is put on: the gateways, with the processor time of every process of the platform."""
        return Contender(name, self.url + path, tuple(self.pids().values()), self.headers)

    def replica_address(self, endpoint: str) -> str:
        """Return the frames address of one replica of `endpoint` in the default project."""
        for spec in sorted(self.home.replicas.glob("*.json")):
            loaded: dict[str, Any] = json.loads(spec.read_text())
            if loaded["endpoint"] == endpoint:
                address: str = loaded["address"]
                return address
        raise RuntimeError(f"no replica of {endpoint} in {self.home.replicas}")

    def post(self, path: str, body: bytes, timeout_s: float = 30.0) -> bytes:
        """Return the answer to one request. Raises OSError while nobody answers, HTTPError for a bad status."""
        request = urllib.request.Request(self.url + path, data=body, method="POST")
        for name, value in (*self.headers, ("Content-Type", "application/json")):
            request.add_header(name, value)
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            data: bytes = answer.read()
        return data

    def wait_for(self, path: str, body: bytes, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Poll until `path` answers well."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.post(path, body)
                return
            except OSError as problem:
                if time.monotonic() > deadline:
                    said = problem.read().decode() if isinstance(problem, urllib.error.HTTPError) else problem
                    raise RuntimeError(f"{path} did not answer in {timeout_s:.0f} s: {said}") from problem
            time.sleep(0.01)
