"""A real agent process on a state folder of its own, with nothing around it but the test."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stoker.agent import kernel
from stoker.app.home import Home
from stoker.client.connection import Connection
from stoker.types.errors import NotReachable
from stoker.types.process import NodeStatus, ProcessSpec, ProcessStatus

HERE = Path(__file__).parent
WORKER = HERE / "worker.py"
ALONE = HERE / "alone.py"


WAIT_S = 90.0  # to give up, not to be quick
TEST_S = 600  # and of a whole test


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for each in items:
        if each.path.is_relative_to(HERE):
            each.add_marker(pytest.mark.timeout(TEST_S))


def until(claim: Callable[[], Any], timeout_s: float = WAIT_S, what: str = "") -> Any:
    deadline_s = time.monotonic() + timeout_s
    while True:
        value = claim()
        if value:
            return value
        assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)


class Rig:
    """One state folder, its agent, and what is asked of it."""

    def __init__(self, home: Home) -> None:
        home.make()
        self.home = home
        self.api = Connection(f"unix:{home.run / 'agent.sock'}", "")
        self.agent: subprocess.Popen[bytes] | None = None
        self.fence = 1

    def start(self, *, prefix: tuple[str, ...] = ()) -> None:
        environ = {**os.environ, "STOKER_PROCESS": f"{self.home.id}/agent", "A_SECRET": "of whoever started it"}
        with (self.home.logs / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(
                [*prefix, sys.executable, str(ALONE), str(self.home.root)], env=environ, stdout=log, stderr=log
            )
        until(self.answers, what=f"the agent answers\n{(self.home.logs / 'agent.log').read_text()}")

    def answers(self) -> bool:
        assert self.agent is not None
        assert self.agent.poll() is None, (self.home.logs / "agent.log").read_text()
        try:
            self.node()
        except NotReachable:
            return False
        return True

    def kill_agent(self) -> None:
        assert self.agent is not None
        self.agent.kill()
        self.agent.wait()

    def spec(self, name: str = "w1", behaviour: str = "", **fields: Any) -> ProcessSpec:
        env = {"ADDRESS": self.home.address(name), "WORKER": behaviour, **fields.pop("env", {})}
        return ProcessSpec(
            name=name,
            kind="replica",
            argv=(sys.executable, str(WORKER)),
            env=env,
            address=self.home.address(name),
            work_dir=str(self.home.replicas / name),
            **fields,
        )

    def put(self, spec: ProcessSpec) -> ProcessStatus:
        answer = self.api.exchange(
            "PUT",
            f"/v1/processes/{spec.name}",
            body=msgspec.json.encode(spec),
            headers={"x-stoker-fence": str(self.fence)},
        )
        return msgspec.json.decode(answer.body, type=ProcessStatus)

    def delete(self, name: str, drain_s: float = 0.0) -> None:
        self.api.exchange(
            "DELETE", f"/v1/processes/{name}", query={"drain_s": drain_s}, headers={"x-stoker-fence": str(self.fence)}
        )

    def node(self, **query: float) -> NodeStatus:
        return msgspec.json.decode(self.api.exchange("GET", "/v1/node", query=query).body, type=NodeStatus)

    def status(self, name: str = "w1") -> ProcessStatus | None:
        return {status.name: status for status in self.node().processes}.get(name)

    def wait(self, name: str, claim: Callable[[ProcessStatus], bool], timeout_s: float = WAIT_S) -> ProcessStatus:
        seen: list[ProcessStatus | None] = []

        def holds() -> ProcessStatus | None:
            seen.append(self.status(name))
            return seen[-1] if seen[-1] is not None and claim(seen[-1]) else None

        try:
            found: ProcessStatus = until(holds, timeout_s)
        except AssertionError:
            raise AssertionError(f"{name} never so; last: {seen[-1]}") from None
        return found

    def ready(self, name: str = "w1") -> ProcessStatus:
        return self.wait(name, lambda status: status.phase == "ready")

    def gone(self, name: str = "w1", timeout_s: float = WAIT_S) -> None:
        until(lambda: self.status(name) is None, timeout_s, f"{name} is gone")

    def marked(self) -> dict[kernel.ProcessLine, str]:
        found = kernel.marked(self.home.id)
        return {line: name for line, name in found.items() if name not in ("agent", "keeper")}

    def log(self, name: str) -> str:
        return (self.home.logs / f"{name}.log").read_text()


def kill_everything(home: Home) -> None:
    while alive := kernel.marked(home.id):
        for line in alive:
            try:
                os.kill(line.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def started(folder: Path) -> Iterator[Rig]:
    made = Rig(Home(folder))
    made.start()
    yield made
    if made.agent is not None and made.agent.poll() is None:
        made.kill_agent()
    kill_everything(made.home)
    shutil.rmtree(made.home.run, ignore_errors=True)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """An agent for one test that kills it, or changes what it remembers."""
    yield from started(tmp_path / "home")


@pytest.fixture(scope="session")
def _one_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    yield from started(tmp_path_factory.mktemp("agent") / "home")


@pytest.fixture
def shared(_one_agent: Rig) -> Iterator[Rig]:
    """One agent for all tests that only start and end processes; each finds it empty."""
    yield _one_agent
    for status in _one_agent.node().processes:
        _one_agent.delete(status.name)
    until(lambda: not _one_agent.node().processes, what="the test's processes are gone")
    for log in _one_agent.home.logs.glob("w*.log"):
        log.unlink()
