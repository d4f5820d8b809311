"""A real control, without an agent: it keeps and answers everything, and starts nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from stoker.app.home import Home
from stoker.client.connection import Connection
from stoker.client.control import ControlClient
from stoker.client.credentials import read_credentials
from stoker.types.errors import StokerError
from tests.cli.run import stoker_here
from tests.databases import migrated
from tests.ports import free_ports

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state folder of a running control."""
    root = tmp_path_factory.mktemp("control")
    Home(root).make()
    migrated(Home(root).database).dispose()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    argv = [sys.executable, "-m", "stoker.app.control_main", "--home", str(root), "--api-port", str(free_ports(1)[0])]
    with (root / "output").open("ab") as output:
        run = subprocess.Popen(argv, env=clean, stdout=output, stderr=output)
    try:
        assert _is_ready(root, run), f"control did not start:\n{(root / 'output').read_text()}"
        yield root
    finally:
        run.send_signal(signal.SIGTERM)
        run.wait(timeout=60)


@pytest.fixture
def run(home: Path) -> Run:
    """Run `stoker …` in this process against that control."""

    def with_home(*arguments: str, **more: Any) -> CompletedProcess[str]:
        return stoker_here(*arguments, home=home, **more)

    return with_home


@pytest.fixture
def control(home: Path) -> ControlClient:
    """The typed client of that control."""
    credentials = read_credentials(home / "credentials.json")
    return ControlClient(Connection(credentials.control_base(), credentials.key))


def _is_ready(root: Path, run: "subprocess.Popen[bytes]") -> bool:
    """Return whether it came up; false when it ended."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and run.poll() is None:
        try:
            credentials = read_credentials(root / "credentials.json")
            if ControlClient(Connection(credentials.control_base(), credentials.key)).is_ready():
                return True
        except StokerError:
            pass
        time.sleep(0.05)
    return False
