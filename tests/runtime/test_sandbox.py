"""Replicas with hostile code in them: every try is refused by the kernel, and the replica serves on."""

import errno
import json
import os
import platform
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.confine import landlock
from stoker.protocol.link import Link, connect
from stoker.types.replica import ReplicaSpec
from stoker.types.sandbox import Sandbox
from tests.runtime import hostile_model
from tests.runtime.models import python_spec
from tests.runtime.rig import Process, drive, infer, running, stats_of, until

CODE = Path(hostile_model.__file__).read_text()
REFUSED = {errno.EPERM, errno.EACCES, errno.EROFS}
# Names of what is attacked, without a replica, for the parameters.
AIMS: dict[str, Any] = {"pid": 1, "home": "", "abstract": ""}
ATTACKS = list(hostile_model.attacks(AIMS))

pytestmark = [
    pytest.mark.skipif(landlock.abi() < 6, reason="the kernel has not all of Landlock"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the attacks know the numbers of x86_64"),
]


class Scene:
    """A state folder with what is worth stealing in it, a process to be killed, and listeners to be called."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.replicas = self.home / "replicas"
        self.replicas.mkdir(parents=True)
        for name in ("state.db", "platform.key", "models/other/weights"):
            path = self.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("secret")
        self.victim = subprocess.Popen(["sleep", "600"], env={"SECRET": "key", "PATH": os.environ["PATH"]})
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.unix, self.abstract = (socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(2))
        self.unix.bind(str(self.home / "agent.sock"))
        self.abstract.bind(f"\0stoker-test-{os.getpid()}")
        self.unix.listen()
        self.abstract.listen()

    def spec(self, name: str, **sandbox: Any) -> ReplicaSpec:
        folder = self.home / "models" / name
        found = python_spec(folder, CODE, sandbox=Sandbox(tmp="64Mi", **sandbox), memory_bytes=1 << 30)
        aims = {
            "database": str(self.home / "state.db"),
            "key": str(self.home / "platform.key"),
            "other_model": str(self.home / "models/other/weights"),
            "asked": str(self.home / "models/other/weights"),
            "spec": str(self.replicas / "spec.json"),
            "home": str(self.home),
            "socket": str(self.home / "agent.sock"),
            "abstract": f"stoker-test-{os.getpid()}",
            "port": self.tcp.getsockname()[1],
            "pid": self.victim.pid,
        }
        (folder / "aims.json").write_text(json.dumps(aims))
        return found

    def close(self) -> None:
        self.victim.kill()
        self.victim.wait()
        for each in (self.tcp, self.unix, self.abstract):
            each.close()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("sandbox"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def confined(scene: Scene) -> Iterator[Process]:
    spec = scene.spec("confined", read=(str(scene.home), str(scene.home.parent)))
    with running(spec, scene.replicas) as process:
        yield process


async def tried(link: Link, attack: str) -> int:
    return int((await infer(link, [[float(ATTACKS.index(attack))]]))["error"].flat[0])


async def ready(process: Process) -> Link:
    link = await connect(process.spec.address) if process.links else await process.connect()
    process.links.append(link)
    await until(link, lambda stats: stats.state == "ready", process)
    return link


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_code_of_a_model_reaches_nothing_that_is_not_its_own(attack: str, confined: Process, scene: Scene) -> None:
    async def body(process: Process) -> None:
        link = await ready(process)
        found = await tried(link, attack)
        if attack == "useful":
            assert found == 0
        elif attack.startswith("fill "):
            assert found == errno.ENOSPC
        elif attack == "use io_uring":
            assert found == errno.ENOSYS
        else:
            assert found in REFUSED, os.strerror(found) if found > 0 else "it went through"
        assert await tried(link, "useful") == 0, "the replica serves on"

    drive(confined, body)
    assert scene.victim.poll() is None


def test_what_is_in_force_is_said_as_it_was_found(confined: Process) -> None:
    async def body(process: Process) -> None:
        seen = (await stats_of(await ready(process))).sandbox
        assert seen is not None
        assert [each.wall for each in seen.findings if not each.holds] == [], seen
        assert seen.by[0].startswith("landlock abi ")
        assert "seccomp" in seen.by

    drive(confined, body)


def test_without_a_sandbox_the_same_code_takes_it_all(scene: Scene, tmp_path: Path) -> None:
    """The attacks are real: what refuses them is the sandbox."""

    async def body(process: Process) -> None:
        link = await process.ready()
        harmless = (each for each in ATTACKS if each.startswith(("read ", "list ", "call ", "send", "ask")))
        for attack in harmless:
            assert await tried(link, attack) == 0, attack
        seen = (await stats_of(link)).sandbox
        assert seen is not None
        assert seen.level == "off"

    with running(scene.spec("off", level="off"), scene.replicas / "off") as process:
        drive(process, body)


def test_a_port_that_is_declared_may_be_called_and_no_other(scene: Scene) -> None:
    port = scene.tcp.getsockname()[1]

    async def body(process: Process) -> None:
        link = await process.ready()
        assert await tried(link, "call by TCP") == 0
        for attack in ("send by UDP", "listen", "call the agent", "ask netlink"):
            assert await tried(link, attack) in REFUSED, attack
        seen = (await stats_of(link)).sandbox
        assert seen is not None
        assert f"TCP to {port} and for names only" in [each.said for each in seen.findings]

    with running(scene.spec("ports", ports=(port,)), scene.replicas / "ports") as process:
        drive(process, body)


def test_a_replica_that_is_to_be_confined_strictly_does_not_start_where_it_cannot(scene: Scene) -> None:
    # Its socket lies where it may call it, which is as good as a machine that cannot hide others' sockets.
    spec = scene.spec("strict", level="strict", network="open")
    with running(spec, scene.replicas / "strict") as process:
        assert process.exit_code() == 3, process.log
        assert "spec.sandbox.level is strict" in process.error["message"]
        assert "sockets: sockets of the platform" in process.error["message"]
