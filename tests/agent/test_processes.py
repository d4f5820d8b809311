"""What an agent promises of one process."""

import json
import os
import signal
import time
from pathlib import Path

import msgspec
import pytest

from stoker.agent import kernel
from stoker.agent.records import Records
from stoker.types.errors import Forbidden, InvalidInput, NotFound
from tests.agent.conftest import Rig, until


def test_a_process_is_started_becomes_ready_and_is_gone_after_its_deletion(shared: Rig) -> None:
    first = shared.put(shared.spec(labels={"endpoint": "digits"}))
    assert first.phase == "starting"
    status = shared.ready()
    assert status.pid > 0
    assert status.labels == {"endpoint": "digits"}
    assert status.restarts == status.crashes_in_row == 0
    shared.wait("w1", lambda status: status.rss_bytes > 1_000_000)
    shared.delete("w1")
    shared.gone()
    assert shared.marked() == {}
    assert list(shared.home.processes.iterdir()) == []


def test_the_same_spec_again_changes_nothing_and_another_replaces_the_process(shared: Rig) -> None:
    shared.put(shared.spec())
    first = shared.ready()
    assert shared.put(shared.spec()).pid == first.pid
    shared.put(shared.spec(env={"OTHER": "1"}))
    second = shared.wait("w1", lambda status: status.phase == "ready" and status.pid != first.pid)
    assert second.spec_digest != first.spec_digest
    assert second.restarts == 0
    assert len(shared.marked()) == 1


def test_of_many_specs_in_a_row_the_last_one_runs(shared: Rig) -> None:
    for number in range(12):
        last = shared.put(shared.spec(env={"NUMBER": str(number)}))
        time.sleep(0.02 * (number % 4))  # at different moments of the start before
    status = shared.wait("w1", lambda status: status.phase == "ready" and status.spec_digest == last.spec_digest)
    record = Records(shared.home.processes).read()["w1"]
    assert (record.pid, record.spec.env["NUMBER"], record.successor) == (status.pid, "11", None)
    assert len(shared.marked()) == 1


def test_a_load_is_shown_with_its_progress(shared: Rig) -> None:
    gate = shared.home.replicas / "w1.gate"
    shared.put(shared.spec(env={"GATE": str(gate)}))
    loading = shared.wait("w1", lambda status: status.phase == "loading" and bool(status.progress.stage))
    assert (loading.progress.stage, loading.progress.fraction) == ("weights", 0.5)
    gate.touch()
    assert shared.ready().ready_at_s > loading.started_at_s


def test_the_environment_is_scrubbed_and_the_process_is_alone_in_its_session(shared: Rig) -> None:
    shared.put(shared.spec(behaviour="environment", env={"MINE": "1"}))
    status = shared.ready()
    line = next(line for line in shared.log("w1").splitlines() if line.startswith("ENVIRONMENT"))
    environment = json.loads(line.removeprefix("ENVIRONMENT"))
    assert environment["MINE"] == "1"
    assert environment["HOME"] == str(shared.home.replicas / "w1")
    assert environment["STOKER_PROCESS"] == f"{shared.home.id}/w1"
    assert "A_SECRET" not in environment
    found = kernel.process(status.pid)
    assert found is not None
    assert found.session == found.group == found.pid
    assert Path(f"/proc/{status.pid}/fd/0").readlink() == Path("/dev/null")
    assert Path(f"/proc/{status.pid}/oom_score_adj").read_text().strip() == "500"
    limits = Path(f"/proc/{status.pid}/limits").read_text()
    assert next(row for row in limits.splitlines() if row.startswith("Max core file size")).split()[4] == "0"


def test_a_crash_loop_backs_off_and_repeats_the_process_own_last_words(shared: Rig) -> None:
    shared.put(shared.spec(behaviour="crash"))
    status = shared.wait("w1", lambda status: status.phase == "backoff" and status.crashes_in_row >= 2)
    assert status.last_exit == "exit code 1"
    assert "the weights are made of cheese" in status.last_error
    assert status.next_start_s > time.time()
    assert status.restarts == 1
    assert status.pid == 0


def test_the_error_file_of_a_replica_comes_before_the_end_of_its_log(shared: Rig) -> None:
    error_file = shared.home.replicas / "w1.error"
    shared.put(shared.spec(behaviour="error-file", env={"ERROR_FILE": str(error_file)}))
    status = shared.wait("w1", lambda status: status.crashes_in_row == 1)
    assert (status.last_exit, status.last_error) == ("exit code 3", "no such operator: Foo")


def test_a_program_that_does_not_exist_is_said_so(shared: Rig) -> None:
    shared.put(msgspec.structs.replace(shared.spec(), argv=("/no/such",)))
    status = shared.wait("w1", lambda status: status.phase == "backoff")
    assert "No such file or directory: '/no/such'" in status.last_error


def test_an_end_that_nobody_asked_for_is_a_crash_even_with_exit_code_0(shared: Rig) -> None:
    shared.put(shared.spec(behaviour="quit"))
    assert shared.wait("w1", lambda status: status.crashes_in_row == 1).last_exit == "exit code 0"


def test_a_killed_process_comes_back_and_its_signal_is_named(shared: Rig) -> None:
    shared.put(shared.spec())
    first = shared.ready()
    os.kill(first.pid, signal.SIGKILL)
    again = shared.wait("w1", lambda status: status.phase == "ready" and status.pid != first.pid)
    assert (again.last_exit, again.restarts) == ("killed by SIGKILL", 1)
    assert (again.crashes_in_row, again.ready_crashes) == (1, 1)
    assert again.last_error == "killed by SIGKILL, by a person or, short of memory, by the kernel"


def test_a_process_over_its_memory_is_ended_and_the_reason_has_the_sizes(shared: Rig) -> None:
    shared.put(shared.spec(behaviour="leak", memory_bytes=200 * 2**20))
    status = shared.wait("w1", lambda status: status.crashes_in_row >= 1)
    assert status.last_error.startswith("used ")
    assert status.killed_for == "memory"
    assert status.last_error.endswith("of 200.0 MiB allowed")
    assert status.last_exit == "killed by SIGKILL"


def test_a_load_that_stands_still_is_ended_after_its_start_timeout(shared: Rig) -> None:
    shared.put(shared.spec(behaviour="stuck-loading", start_timeout_s=1.5))
    status = shared.wait("w1", lambda status: status.crashes_in_row >= 1)
    assert "made no progress for" in status.last_error
    assert "at weights 40%" in status.last_error


def test_work_that_stands_still_is_ended_and_work_that_moves_is_not(shared: Rig) -> None:
    for name, behaviour in (("still", ""), ("moving", "progress")):
        shared.put(shared.spec(name, behaviour=behaviour, env={"RUNNING": "2"}, stall_s=1.5))
    status = shared.wait("still", lambda status: status.crashes_in_row >= 1)
    assert "with 2 requests running" in status.last_error
    assert status.last_exit == "killed by SIGABRT"
    assert "Current thread" in shared.log("still")  # where it stood
    moving = shared.status("moving")
    assert moving is not None
    assert (moving.phase, moving.restarts) == ("ready", 0)


def test_what_runs_may_finish_before_the_process_is_ended(shared: Rig) -> None:
    may = shared.home.replicas / "w1.may"
    shared.put(shared.spec(env={"RUNNING": "1", "FINISH": str(may)}))
    shared.ready()
    shared.delete("w1", drain_s=600)
    shared.wait("w1", lambda status: status.phase == "draining")
    may.touch()
    shared.gone()  # long before its time is over
    assert "finished" in shared.log("w1"), "it was ended before"


def test_a_process_that_ignores_drain_and_sigterm_is_killed_when_its_time_is_over(shared: Rig) -> None:
    shared.put(shared.spec(behaviour="deaf"))
    status = shared.ready()
    shared.delete("w1", drain_s=0.5)
    shared.wait("w1", lambda status: status.phase == "stopping")
    shared.gone()
    assert kernel.process(status.pid) is None


def test_a_hanging_process_can_be_ended_and_a_shorter_time_overrules_a_longer(shared: Rig) -> None:
    shared.put(shared.spec(behaviour="hang"))
    shared.ready()
    shared.delete("w1", drain_s=600)
    shared.delete("w1", drain_s=0)
    shared.gone()


def test_the_children_of_a_process_end_with_it_also_those_that_left_its_session(shared: Rig) -> None:
    shared.put(shared.spec(behaviour="children"))
    first = shared.ready()
    assert len(shared.marked()) == 3
    os.kill(first.pid, signal.SIGKILL)
    shared.wait("w1", lambda status: status.phase == "ready" and status.pid != first.pid)
    assert len(shared.marked()) == 3
    shared.delete("w1")
    shared.gone()
    assert shared.marked() == {}


def test_what_cannot_be_is_refused_with_the_field(shared: Rig) -> None:
    for name in ("agent", "../up", ".hidden", "A", "x" * 200):
        with pytest.raises((InvalidInput, NotFound)):
            shared.put(shared.spec(name))
    with pytest.raises(InvalidInput, match="no process spec"):
        shared.api.exchange("PUT", "/v1/processes/w1", body=b"{", headers={"x-stoker-fence": "1"})
    with pytest.raises(InvalidInput, match="x-stoker-fence"):
        shared.api.exchange("PUT", "/v1/processes/w1", body=msgspec.json.encode(shared.spec()))
    with pytest.raises(InvalidInput, match="wait_s"):
        shared.node(after=1, wait_s=-1)
    spec = shared.spec()
    with pytest.raises(Forbidden, match="the agent's own"):
        shared.put(type(spec)("control", "control", ("true",), {}, "unix:/tmp/x", "/tmp"))


def test_a_waiting_reader_hears_of_a_change_at_once_and_of_none_in_time(shared: Rig) -> None:
    before = shared.node()
    asked_s = time.monotonic()
    assert shared.node(after=before.sequence, wait_s=0.3).sequence == before.sequence
    assert time.monotonic() - asked_s >= 0.3
    shared.put(shared.spec())
    assert shared.node(after=before.sequence, wait_s=30).sequence > before.sequence
    # a reader with another agent's number is told at once, too
    assert shared.node(after=before.sequence + 10**9, wait_s=30).processes


def test_a_status_shows_the_machine(shared: Rig) -> None:
    node = shared.node()
    assert 0 < node.cores <= (os.cpu_count() or 1)
    assert 0 < node.memory_free_bytes < node.memory_bytes
    until(lambda: shared.node().started_at_s <= time.time())
