"""Faults on purpose: they end by themselves, with their process, and when the agent that made them is dead."""

import os
import resource

import msgspec
import pytest

from stoker.agent import kernel
from stoker.types.errors import Conflict, InvalidInput, NotFound
from stoker.types.ids import ReplicaId, RevisionId
from stoker.types.models import FileEntry, VersionManifest, sha256_digest
from stoker.types.process import ProcessSpec, ProcessStatus
from stoker.types.replica import ReplicaSpec
from tests.agent.conftest import Rig, until


def inject(rig: Rig, name: str = "w1", *, fence: int | None = None, **fault: object) -> ProcessStatus:
    answer = rig.api.exchange(
        "POST",
        f"/v1/processes/{name}/fault",
        body=msgspec.json.encode({"kind": "hang", **fault}),
        headers={"x-stoker-fence": str(rig.fence if fence is None else fence)},
    )
    return msgspec.json.decode(answer.body, type=ProcessStatus)


def end(rig: Rig, name: str = "w1") -> None:
    rig.api.exchange("DELETE", f"/v1/processes/{name}/fault", headers={"x-stoker-fence": str(rig.fence)})


def stands(pid: int) -> bool:
    line = kernel.process(pid)
    return line is not None and line.state == "T"


def test_a_hung_process_stands_still_and_goes_on_by_itself(shared: Rig) -> None:
    shared.put(shared.spec())
    before = shared.ready()
    assert inject(shared, seconds=1.0).fault == "hang"
    until(lambda: stands(before.pid), what="it stands still")
    shared.wait("w1", lambda status: not status.fault)
    until(lambda: not stands(before.pid), what="it goes on")
    assert shared.ready().pid == before.pid


def test_a_fault_ends_when_somebody_ends_it_and_ending_it_again_is_no_error(shared: Rig) -> None:
    shared.put(shared.spec())
    before = shared.ready()
    inject(shared, seconds=600)
    until(lambda: stands(before.pid), what="it stands still")
    end(shared)
    until(lambda: not stands(before.pid), what="it goes on")
    end(shared)
    end(shared, "w7")
    assert shared.ready().fault == ""


def test_a_slow_process_both_stands_and_runs(shared: Rig) -> None:
    shared.put(shared.spec())
    pid = shared.ready().pid
    inject(shared, kind="slow", seconds=600, still_ratio=0.5)
    for _ in range(2):
        until(lambda: stands(pid), what="it stands still")
        until(lambda: not stands(pid), what="it runs")
    end(shared)
    assert shared.ready().pid == pid


def test_a_killed_process_comes_back_without_a_fault(shared: Rig) -> None:
    shared.put(shared.spec())
    before = shared.ready()
    inject(shared, kind="kill")
    again = shared.wait("w1", lambda status: status.phase == "ready" and status.pid != before.pid)
    assert again.last_exit == "killed by SIGKILL"
    assert again.fault == ""


def test_the_next_agent_ends_the_fault_of_one_that_was_killed(rig: Rig) -> None:
    rig.put(rig.spec())
    before = rig.ready()
    inject(rig, seconds=600)
    until(lambda: stands(before.pid), what="it stands still")
    rig.kill_agent()
    assert stands(before.pid)
    rig.start()
    until(lambda: not stands(before.pid), what="it goes on")
    after = rig.ready()
    assert (after.pid, after.fault) == (before.pid, "")


def test_a_hung_process_can_be_stopped_without_waiting_for_it(shared: Rig) -> None:
    shared.put(shared.spec())
    shared.ready()
    inject(shared, seconds=600)
    shared.delete("w1", drain_s=60.0)
    shared.gone()


def test_a_process_whose_disk_is_full_can_write_no_file_and_can_again(shared: Rig) -> None:
    shared.put(shared.spec(behaviour="writes"))
    pid = shared.ready().pid
    file = shared.home.replicas / "w1" / "file"
    until(lambda: file.exists() and file.stat().st_size, what="it writes")
    assert inject(shared, kind="disk", seconds=600).fault == "disk"
    refused = shared.home.replicas / "w1" / "refused"
    until(lambda: os.path.lexists(refused), what="a write was refused")
    end(shared)
    size = file.stat().st_size
    until(lambda: file.stat().st_size > size, what="it writes again")
    assert shared.ready().pid == pid


def test_the_next_agent_gives_the_disk_back(rig: Rig) -> None:
    rig.put(rig.spec(behaviour="writes"))
    pid = rig.ready().pid
    inject(rig, kind="disk", seconds=600)
    assert resource.prlimit(pid, resource.RLIMIT_FSIZE)[0] == 0
    rig.kill_agent()
    rig.start()
    until(lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE) == resource.getrlimit(resource.RLIMIT_FSIZE))
    assert (rig.ready().pid, rig.ready().fault) == (pid, "")


def modelled(rig: Rig) -> ProcessSpec:
    """Return a process that is told its model in a file, and is ready if that is whole."""
    folder = rig.home.models / "m"
    (folder / "deep").mkdir(parents=True, exist_ok=True)
    contents = {"weights.bin": b"w" * 1000, "deep/small.txt": b"small", "empty": b""}
    files = []
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        files.append(FileEntry(name, sha256_digest(content), len(content)))
    told = ReplicaSpec(
        replica=ReplicaId("w1"),
        revision=RevisionId("r1"),
        project="default",
        endpoint="e",
        task="predict",
        model="m@1",
        version="1",
        engine="python",
        model_dir=str(folder),
        manifest=VersionManifest(format="python", files=tuple(files), entry="weights.bin"),
        address=rig.home.address("w1"),
    )
    file = rig.home.replicas / "w1.json"
    file.write_bytes(msgspec.json.encode(told))
    spec = rig.spec(behaviour="verifies")
    return msgspec.structs.replace(spec, argv=(*spec.argv, str(file)))


def whole(rig: Rig) -> bool:
    contents = [path.read_bytes() for path in sorted((rig.home.models / "m").rglob("*")) if path.is_file()]
    return contents == [b"small", b"", b"w" * 1000]


def test_a_corrupt_copy_is_all_that_the_process_gets_and_the_model_stays_whole(shared: Rig) -> None:
    shared.put(modelled(shared))
    shared.ready()
    assert inject(shared, kind="corrupt", seconds=600).fault == "corrupt"
    failed = shared.wait("w1", lambda status: status.phase == "backoff" and "small.txt" in status.last_error)
    assert failed.fault == "corrupt", "it is there in the next life too"
    assert whole(shared)
    end(shared)
    after = shared.ready()
    assert after.fault == ""
    assert not (shared.home.replicas / "w1" / "corrupt").exists()
    assert whole(shared)


def test_the_next_agent_takes_the_corrupt_copy_away(rig: Rig) -> None:
    rig.put(modelled(rig))
    rig.ready()
    inject(rig, kind="corrupt", seconds=600)
    rig.wait("w1", lambda status: status.phase == "backoff")
    rig.kill_agent()
    rig.start()
    assert rig.ready().fault == ""
    assert whole(rig)


def test_a_process_that_has_no_model_here_cannot_have_a_corrupt_one(shared: Rig) -> None:
    shared.put(shared.spec())
    pid = shared.ready().pid
    with pytest.raises(Conflict, match="can be made to be corrupted"):
        inject(shared, kind="corrupt")
    assert (shared.ready().pid, shared.ready().fault) == (pid, "")


def test_a_process_that_refuses_a_fault_goes_on_without_one(shared: Rig) -> None:
    shared.put(shared.spec())
    pid = shared.ready().pid
    with pytest.raises(Conflict, match="does not answer 'fault'"):
        inject(shared, kind="clock")
    assert (shared.ready().pid, shared.ready().fault) == (pid, "")


def test_what_cannot_be_is_refused(shared: Rig) -> None:
    shared.put(shared.spec())
    shared.ready()
    inject(shared, seconds=600)
    with pytest.raises(Conflict, match="has a fault already"):
        inject(shared)
    end(shared)
    for wrong in ({"seconds": 601}, {"seconds": 0}, {"seconds": -1}, {"kind": "melt"}, {"still_ratio": 1.0}, {"x": 1}):
        with pytest.raises(InvalidInput):
            inject(shared, **wrong)
    with pytest.raises(NotFound):
        inject(shared, "w9")
    with pytest.raises(Conflict, match="fencing token"):
        inject(shared, fence=0)
    assert shared.ready().fault == ""
