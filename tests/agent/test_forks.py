"""Replicas that are forked: what they are, who looks after them, and what happens when their server does not."""

import os
import signal
from collections.abc import Iterator

import msgspec
import psutil
import pytest

from stoker.agent.forks import REPLICA_ARGV
from stoker.app.down import down
from stoker.confine import landlock
from stoker.types.forks import THREADS_ENV, USUAL_ENV, ForkStatus
from stoker.types.process import ProcessSpec, ProcessStatus
from tests.agent.conftest import Rig, started, until
from tests.runtime.models import python_spec

MODEL = """
import os, random
import numpy as np

class Model:
    inputs = {"x": ("FP32", [-1, 4])}
    outputs = {"y": ("FP32", [-1, 4])}

    def load(self, folder):
        a = np.random.default_rng(0).random((600, 600))
        for _ in range(4):
            a = a @ a / 300  # enough for OpenBLAS to use its threads
        print("DRAWN", random.random(), np.random.random(), len(os.listdir("/proc/self/task")), flush=True)

    def predict(self, inputs):
        return {"y": inputs["x"]}
"""


@pytest.fixture(scope="module")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """An agent with a fork server that is ready, and the replica it was started for."""
    for rig in started(tmp_path_factory.mktemp("forks") / "home"):
        rig.put(replica(rig, "r1"))
        rig.ready("r1")
        server(rig)
        yield rig


def replica(rig: Rig, name: str, threads: int = 1) -> ProcessSpec:
    told = python_spec(rig.home.root / "model", MODEL, replica=name, address=rig.home.address(name), cores=threads)
    path = rig.home.replicas / f"{name}.json"
    path.write_bytes(msgspec.json.encode(told))
    work_dir = str(rig.home.replicas / name)
    return ProcessSpec(
        name=name,
        kind="replica",
        argv=(*REPLICA_ARGV, str(path)),
        env={"HOME": work_dir, "TMPDIR": work_dir, **USUAL_ENV, THREADS_ENV: str(threads)},
        address=rig.home.address(name),
        work_dir=work_dir,
        drain_s=0.0,
    )


def server(rig: Rig, threads: int = 1, *, but: int = 0) -> ForkStatus:
    """Return the fork server once it is ready; `but`: not that process."""

    def ready() -> ForkStatus | None:
        found = [each for each in rig.node().forks if each.threads == threads and each.phase == "ready"]
        return found[0] if found and found[0].pid != but else None

    one: ForkStatus = until(ready, what="a fork server is ready")
    return one


def forked(rig: Rig, name: str, threads: int = 1) -> ProcessStatus:
    rig.put(replica(rig, name, threads))
    status = rig.wait(name, lambda status: status.phase == "ready" and bool(status.phases))
    assert "forked" in status.phases, (status, rig.node().forks, (rig.home.logs / "forks.log").read_text())
    return status


def drawn(rig: Rig, name: str) -> list[str]:
    return [line for line in rig.log(name).splitlines() if line.startswith("DRAWN")]


def test_a_forked_replica_is_what_one_is_that_was_started_by_itself(forking: Rig) -> None:
    assert forking.agent is not None
    own = psutil.Process(forking.ready("r1").pid)
    status = forked(forking, "r2")
    process = psutil.Process(status.pid)
    assert process.ppid() == forking.agent.pid
    assert os.getsid(status.pid) == os.getpgid(status.pid) == status.pid
    assert [each for each in process.cmdline() if each] == [each.replace("r1", "r2") for each in own.cmdline()]
    seen, usual = (each.environ() for each in (process, own))
    assert seen.pop("STOKER_PROCESS") == f"{forking.home.id}/r2"
    assert usual.pop("STOKER_PROCESS") == f"{forking.home.id}/r1"
    assert seen.pop("STOKER_SPAWNED_S") > usual.pop("STOKER_SPAWNED_S")
    assert seen == {name: value.replace("r1", "r2") for name, value in usual.items()}
    assert process.cwd() == own.cwd().replace("r1", "r2")
    assert process.cpu_affinity() == own.cpu_affinity()
    assert all(process.rlimit(kind) == own.rlimit(kind) for kind in (psutil.RLIMIT_NOFILE, psutil.RLIMIT_CORE))
    for file in ("oom_score_adj", "cgroup"):
        assert read(status.pid, file) == read(own.pid, file)
    assert descriptors(status.pid) == descriptors(own.pid)
    assert "imports" in status.phases
    assert "process" not in status.phases


def test_forks_draw_other_numbers_and_have_the_threads_they_were_given(forking: Rig) -> None:
    forking.put(replica(forking, "t1", 2))
    forking.ready("t1")
    server(forking, 2)
    for name in ("t2", "t3"):
        forked(forking, name, 2)
    lines = [drawn(forking, name)[0].split() for name in ("t1", "t2", "t3")]
    for at in (1, 2):
        assert len({line[at] for line in lines}) == 3, "from the generators of random and of numpy"
    assert len({line[3] for line in lines}) == 1, "as many threads as one that numpy found its variables with"


def test_a_fork_is_confined_with_all_the_threads_it_starts(forking: Rig) -> None:
    server(forking, 2)
    seen = forked(forking, "c1", 2).sandbox
    assert seen is not None
    if landlock.abi() >= landlock.SCOPES_ABI:
        assert [each for each in seen.findings if not each.holds] == []


def test_a_fork_that_dies_is_buried_and_forked_again_and_ends_when_told(forking: Rig) -> None:
    before = forked(forking, "r3")
    os.kill(before.pid, signal.SIGKILL)
    after = forking.wait("r3", lambda status: status.phase == "ready" and status.pid != before.pid)
    assert (after.last_exit, after.restarts) == ("killed by SIGKILL", 1)
    until(lambda: "forked" in (forking.status("r3") or after).phases, what="it was forked again")
    assert not psutil.pid_exists(before.pid)
    forking.delete("r3")
    forking.gone("r3")
    assert not psutil.pid_exists(after.pid)


def test_a_server_that_hangs_or_is_killed_meanwhile_costs_a_second_and_is_replaced(forking: Rig) -> None:
    for name, is_killed in (("h1", False), ("h2", True)):
        first = server(forking)
        os.kill(first.pid, signal.SIGSTOP)
        forking.put(replica(forking, name))
        forking.wait(name, lambda status: status.phase == "starting")
        if is_killed:
            os.kill(first.pid, signal.SIGKILL)
        status = forking.wait(name, lambda status: status.phase == "ready" and bool(status.phases))
        assert "process" in status.phases
        assert status.restarts == 0
        assert list(forking.marked().values()).count(name) == 1
        server(forking, but=first.pid)
    forked(forking, "h3")


def test_forks_outlive_their_agent_and_their_server_and_nothing_is_left_at_the_end(rig: Rig) -> None:
    rig.put(replica(rig, "r1"))
    rig.ready("r1")
    first = server(rig)
    before = forked(rig, "r2")
    rig.kill_agent()
    until(lambda: not psutil.pid_exists(first.pid), what="the server has ended with its agent")
    rig.start()
    assert rig.ready("r2").pid == before.pid
    server(rig)
    forked(rig, "r3")
    assert down(rig.home, drain_s=0.0)
    assert not rig.marked()


def read(pid: int, file: str) -> str:
    with open(f"/proc/{pid}/{file}", encoding="utf-8") as text:  # noqa: PTH123
        return text.read()


def descriptors(pid: int) -> list[str]:
    """Return what kinds of descriptors a process has, without its own names and numbers."""
    kinds = [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]  # noqa: PTH208, PTH115
    return sorted(kind.partition(":")[0] if ":" in kind else kind.rpartition("/")[2][-4:] for kind in kinds)
