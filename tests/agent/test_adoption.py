"""Processes outlive their agent; whatever moment it died in, the next one puts everything in order."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from stoker.agent import adopt, kernel
from stoker.agent.kernel import ProcessLine
from stoker.agent.records import Record, Records
from stoker.app.down import down
from stoker.types.errors import Conflict, NotReachable, Unavailable
from stoker.types.process import ProcessSpec
from tests.agent.conftest import WAIT_S, WORKER, Rig, until

SEED = random.SystemRandom().randrange(1 << 30)


def test_a_killed_agent_is_followed_by_one_that_adopts_the_same_process(rig: Rig) -> None:
    rig.put(rig.spec(env={"LOAD_S": "0.3"}))
    before = rig.ready()
    rig.kill_agent()
    rig.start()
    after = rig.ready()
    assert after.pid == before.pid
    assert (after.started_at_s, after.ready_at_s) == (before.started_at_s, before.ready_at_s)
    assert rig.log("w1").count("listening") == 1
    # and it is owned: it comes back when it dies
    os.kill(before.pid, signal.SIGKILL)
    again = rig.wait("w1", lambda status: status.phase == "ready" and status.pid != before.pid)
    assert again.restarts == 1
    assert again.last_exit in ("killed by SIGKILL", "ended unseen (an earlier agent had started it)")


def test_a_process_that_died_with_the_agent_is_started_again_by_the_next(rig: Rig) -> None:
    rig.put(rig.spec())
    before = rig.ready()
    rig.kill_agent()
    os.kill(before.pid, signal.SIGKILL)
    rig.start()
    assert rig.ready().pid != before.pid


def test_a_process_is_still_adopted_when_only_its_intent_was_written_down(rig: Rig) -> None:
    rig.put(rig.spec())
    before = rig.ready()
    rig.kill_agent()
    records = Records(rig.home.processes)
    (record,) = records.read().values()
    records.write(Record(record.spec, fence=record.fence, starts=1))  # as it was before the pid was known
    rig.start()
    assert rig.ready().pid == before.pid
    assert len(rig.marked()) == 1


def test_a_process_without_a_record_and_a_torn_record_are_cleared_away(rig: Rig) -> None:
    rig.put(rig.spec())
    rig.ready()
    rig.put(rig.spec("w2"))
    kept = rig.ready("w2")
    rig.kill_agent()
    (rig.home.processes / "w1.json").write_bytes(b'{"spec": {"na')
    rig.start()
    assert rig.ready("w2").pid == kept.pid
    assert rig.status("w1") is None
    until(lambda: set(rig.marked().values()) == {"w2"}, what="the process of the torn record is gone")
    assert (rig.home.processes / "w1.json.broken").exists()


def test_a_pid_that_belongs_to_another_process_now_is_not_touched(rig: Rig) -> None:
    rig.put(rig.spec())
    before = rig.ready()
    rig.kill_agent()
    os.kill(before.pid, signal.SIGKILL)
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        records = Records(rig.home.processes)
        (record,) = records.read().values()
        records.write(msgspec.structs.replace(record, pid=bystander.pid))
        rig.start()
        assert rig.ready().pid != bystander.pid
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_stray_that_appears_later_is_ended_too(rig: Rig) -> None:
    stray = subprocess.Popen(["sleep", "1000"], env={"STOKER_PROCESS": f"{rig.home.id}/w9"}, start_new_session=True)
    assert stray.wait(WAIT_S) == -signal.SIGKILL


def test_a_second_agent_on_the_same_folder_gives_way(rig: Rig) -> None:
    second = subprocess.run(
        [sys.executable, str(Path(WORKER).parent / "alone.py"), str(rig.home.root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "an agent runs already" in second.stderr
    assert rig.node()


def test_an_agent_killed_at_any_moment_leaves_no_orphan_and_loses_no_acknowledged_process(rig: Rig) -> None:
    chance = random.Random(SEED)
    acknowledged: set[str] = set()
    for turn in range(5):
        where = f"seed {SEED}, turn {turn}"
        assert rig.agent is not None
        kill_at_s = time.monotonic() + chance.uniform(0, 0.25)
        killer = subprocess.Popen(["sh", "-c", f"sleep {kill_at_s - time.monotonic():.3f}; kill -9 {rig.agent.pid}"])
        try:
            for number in range(6):
                name = f"w{turn}-{number}"
                rig.put(rig.spec(name))
                acknowledged.add(name)
                if number % 3 == 2:
                    gone = f"w{turn}-{number - 1}"
                    acknowledged.discard(gone)  # whether it is there is open until the delete is answered
                    rig.delete(gone)
        except NotReachable:
            pass
        killer.wait()
        rig.agent.kill()
        rig.agent.wait()
        rig.start()
        there = {status.name for status in rig.node().processes}
        assert acknowledged <= there, f"{where}: lost {acknowledged - there}"
        for name in there:
            rig.ready(name)
        leaders = [name for line, name in rig.marked().items() if line.pid == line.session]
        assert sorted(leaders) == sorted(set(leaders)), f"{where}: twice"
        for name in there:
            rig.delete(name)
        acknowledged.clear()
        until(lambda: not rig.node().processes, what=f"{where}: all gone")
        assert rig.marked() == {}, where


def test_an_agent_killed_while_it_shuts_down_leaves_nothing_that_down_does_not_end(rig: Rig) -> None:
    chance = random.Random(SEED)
    for turn in range(3):
        for number in range(4):
            rig.put(rig.spec(f"w{number}", behaviour="children" if number == 0 else ""))
        for number in range(4):
            rig.ready(f"w{number}")
        rig.api.exchange("POST", "/v1/shutdown", query={"drain_s": 5})
        time.sleep(chance.uniform(0, 0.2))
        rig.kill_agent()
        down(rig.home, drain_s=5)
        where = f"seed {SEED}, turn {turn}"
        assert rig.marked() == {}, where
        assert list(rig.home.processes.iterdir()) == [], where
        rig.start()


def test_a_fence_is_forgotten_when_nothing_lived_on(rig: Rig) -> None:
    rig.fence = 7
    rig.put(rig.spec())
    first = rig.ready()
    rig.kill_agent()
    os.kill(first.pid, signal.SIGKILL)
    rig.start()
    rig.fence = 1  # of a database that was made anew
    rig.ready()
    rig.delete("w1")
    rig.gone()


def test_the_shutdown_of_an_agent_ends_everything(rig: Rig) -> None:
    for number in range(3):
        rig.put(rig.spec(f"w{number}"))
    rig.put(rig.spec("broken", behaviour="crash"))
    for number in range(3):
        rig.ready(f"w{number}")
    rig.api.exchange("POST", "/v1/shutdown", query={"drain_s": 5})
    assert rig.agent is not None
    assert rig.agent.wait(WAIT_S) == 0
    assert rig.marked() == {}
    assert list(rig.home.processes.iterdir()) == []


def test_a_full_disk_starts_nothing_says_so_and_is_over_when_there_is_room_again(rig: Rig) -> None:
    rig.put(rig.spec())
    first = rig.ready()
    assert rig.agent is not None
    free = resource.prlimit(rig.agent.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(rig.agent.pid, resource.RLIMIT_FSIZE, (10, free[1]))
    with pytest.raises(Unavailable, match=r"the record of process w2 cannot be written to .*: File too large"):
        rig.put(rig.spec("w2"))
    assert rig.status("w2") is None
    assert [path.name for path in rig.home.processes.iterdir()] == ["w1.json"]
    # one that dies now is not started without its record
    os.kill(first.pid, signal.SIGKILL)
    waiting = rig.wait("w1", lambda status: status.phase == "backoff" and "cannot be written" in status.last_error)
    assert waiting.pid == 0
    assert Records(rig.home.processes).read()["w1"].pid == first.pid
    resource.prlimit(rig.agent.pid, resource.RLIMIT_FSIZE, free)
    rig.ready()
    rig.put(rig.spec("w2"))
    rig.ready("w2")


def test_an_older_fencing_token_is_refused(rig: Rig) -> None:
    rig.fence = 7
    rig.put(rig.spec())
    assert rig.node().fence == 7
    rig.fence = 6
    with pytest.raises(Conflict, match="fencing token 6 is older than 7"):
        rig.put(rig.spec("w2"))
    with pytest.raises(Conflict, match="older"):
        rig.delete("w1")
    # the next agent remembers
    rig.kill_agent()
    rig.start()
    with pytest.raises(Conflict, match="older"):
        rig.delete("w1")


def line(pid: int, *, parent: int = 1, session: int = 0, ticks: int = 1) -> ProcessLine:
    return ProcessLine(pid, "S", parent, session or pid, session or pid, 0.0, ticks, 0)


def record(name: str, **fields: object) -> Record:
    return Record(ProcessSpec(name, "replica", ("true",), {}, "unix:/x", "/tmp"), **fields)  # type: ignore[arg-type]


def test_a_record_claims_its_own_process_only_in_the_same_boot() -> None:
    records = {"a": record("a", pid=10, start_ticks=5, boot="now")}
    assert adopt.claims(records, {line(10, ticks=5): "a"}, "now") == {"a": line(10, ticks=5)}
    assert adopt.claims(records, {line(10, ticks=6): "a"}, "now") == {}
    assert adopt.claims(records, {line(10, ticks=5): "a"}, "another") == {}


def test_of_several_leaders_an_intent_claims_the_newest() -> None:
    marked = {line(10, ticks=5): "a", line(11, ticks=9): "a", line(12, parent=11, session=11, ticks=10): "a"}
    assert adopt.claims({"a": record("a")}, marked, "now")["a"].pid == 11


def test_descendants_belong_to_their_owner_and_all_else_is_astray() -> None:
    marked = {
        line(10): "a",
        line(11, parent=10, session=10): "a",
        line(12, parent=11): "a",  # a session of its own, but a grandchild
        line(13): "a",  # left its parents for good
        line(14): "b",
        line(15): "agent",
    }
    assert {found.pid for found in adopt.strays(marked, {"a": 10})} == {13, 14}


def test_a_record_that_cannot_be_written_is_said_so_and_the_old_one_stays_whole(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.write(record("a", starts=1))
    (tmp_path / "a.json.tmp").mkdir()  # what a refusing disk looks like to the writer
    with pytest.raises(Unavailable, match="the record of process a cannot be written"):
        records.write(record("a", starts=2))
    (tmp_path / "a.json.tmp").rmdir()
    assert records.read()["a"].starts == 1


def test_the_kernel_knows_this_process() -> None:
    me = kernel.process(os.getpid())
    assert me is not None
    assert me.is_alive
    assert kernel.is_same(me.pid, me.start_ticks)
    assert not kernel.is_same(me.pid, me.start_ticks + 1)
    assert kernel.process(2**22 + 5) is None
