"""What an agent promises of one process."""

import json
import os
import signal
import time
from pathlib import Path

import msgspec
import pytest

from stoker.agent import kernel
from stoker.types.errors import Conflict, Forbidden, InvalidInput, NotFound
from tests.agent.conftest import Rig, until


def test_a_process_is_started_becomes_ready_and_is_gone_after_its_deletion(rig: Rig) -> None:
    first = rig.put(rig.spec(labels={"endpoint": "digits"}))
    assert first.phase == "starting"
    status = rig.ready()
    assert status.pid > 0
    assert status.labels == {"endpoint": "digits"}
    assert status.restarts == status.crashes_in_row == 0
    rig.wait("w1", lambda status: status.rss_bytes > 1_000_000)
    rig.delete("w1")
    rig.gone()
    assert rig.marked() == {}
    assert list(rig.home.processes.iterdir()) == []


def test_the_same_spec_again_changes_nothing_and_another_replaces_the_process(rig: Rig) -> None:
    rig.put(rig.spec())
    first = rig.ready()
    assert rig.put(rig.spec()).pid == first.pid
    rig.put(rig.spec(env={"OTHER": "1"}))
    second = rig.wait("w1", lambda status: status.phase == "ready" and status.pid != first.pid)
    assert second.spec_digest != first.spec_digest
    assert second.restarts == 0
    assert len(rig.marked()) == 1


def test_a_load_is_shown_with_its_progress(rig: Rig) -> None:
    rig.put(rig.spec(env={"LOAD_S": "1"}))
    loading = rig.wait("w1", lambda status: status.phase == "loading" and status.progress.fraction > 0.2)
    assert loading.progress.stage == "weights"
    assert rig.ready().ready_at_s > loading.started_at_s


def test_the_environment_is_scrubbed_and_the_process_is_alone_in_its_session(rig: Rig) -> None:
    rig.put(rig.spec(behaviour="environment", env={"MINE": "1"}))
    status = rig.ready()
    line = next(line for line in rig.log("w1").splitlines() if line.startswith("ENVIRONMENT"))
    environment = json.loads(line.removeprefix("ENVIRONMENT"))
    assert environment["MINE"] == "1"
    assert environment["HOME"] == str(rig.home.replicas / "w1")
    assert environment["STOKER_PROCESS"] == f"{rig.home.id}/w1"
    assert "A_SECRET" not in environment
    found = kernel.process(status.pid)
    assert found is not None
    assert found.session == found.group == found.pid
    assert Path(f"/proc/{status.pid}/fd/0").readlink() == Path("/dev/null")
    assert Path(f"/proc/{status.pid}/oom_score_adj").read_text().strip() == "500"
    limits = Path(f"/proc/{status.pid}/limits").read_text()
    assert next(row for row in limits.splitlines() if row.startswith("Max core file size")).split()[4] == "0"


def test_a_crash_loop_backs_off_and_repeats_the_process_own_last_words(rig: Rig) -> None:
    rig.put(rig.spec(behaviour="crash"))
    status = rig.wait("w1", lambda status: status.phase == "backoff" and status.crashes_in_row >= 2)
    assert status.last_exit == "exit code 1"
    assert "the weights are made of cheese" in status.last_error
    assert status.next_start_s > time.time()
    assert status.restarts == 1
    assert status.pid == 0


def test_the_error_file_of_a_replica_comes_before_the_end_of_its_log(rig: Rig) -> None:
    error_file = rig.home.replicas / "w1.error"
    rig.put(rig.spec(behaviour="error-file", env={"ERROR_FILE": str(error_file)}))
    status = rig.wait("w1", lambda status: status.crashes_in_row == 1)
    assert (status.last_exit, status.last_error) == ("exit code 3", "no such operator: Foo")


def test_a_program_that_does_not_exist_is_said_so(rig: Rig) -> None:
    rig.put(msgspec.structs.replace(rig.spec(), argv=("/no/such",)))
    status = rig.wait("w1", lambda status: status.phase == "backoff")
    assert "No such file or directory: '/no/such'" in status.last_error


def test_an_end_that_nobody_asked_for_is_a_crash_even_with_exit_code_0(rig: Rig) -> None:
    rig.put(rig.spec(behaviour="quit"))
    assert rig.wait("w1", lambda status: status.crashes_in_row == 1).last_exit == "exit code 0"


def test_a_killed_process_comes_back_and_its_signal_is_named(rig: Rig) -> None:
    rig.put(rig.spec())
    first = rig.ready()
    os.kill(first.pid, signal.SIGKILL)
    again = rig.wait("w1", lambda status: status.phase == "ready" and status.pid != first.pid)
    assert (again.last_exit, again.restarts) == ("killed by SIGKILL", 1)


def test_a_process_over_its_memory_is_ended_and_the_reason_has_the_sizes(rig: Rig) -> None:
    rig.put(rig.spec(behaviour="leak", memory_bytes=200 * 2**20))
    status = rig.wait("w1", lambda status: status.crashes_in_row >= 1)
    assert status.last_error.startswith("used ")
    assert status.last_error.endswith("of 200.0 MiB allowed")
    assert status.last_exit == "killed by SIGKILL"


def test_a_load_that_stands_still_is_ended_after_its_start_timeout(rig: Rig) -> None:
    rig.put(rig.spec(behaviour="stuck-loading", start_timeout_s=1.5))
    status = rig.wait("w1", lambda status: status.crashes_in_row >= 1)
    assert "made no progress for" in status.last_error
    assert "at weights 40%" in status.last_error


def test_work_that_stands_still_is_ended_and_work_that_moves_is_not(rig: Rig) -> None:
    rig.put(rig.spec("still", env={"RUNNING": "2"}, stall_s=1.5))
    rig.put(rig.spec("moving", behaviour="progress", env={"RUNNING": "2"}, stall_s=1.5))
    status = rig.wait("still", lambda status: status.crashes_in_row >= 1)
    assert "with 2 requests running" in status.last_error
    moving = rig.status("moving")
    assert moving is not None
    assert (moving.phase, moving.restarts) == ("ready", 0)


def test_what_runs_may_finish_before_the_process_is_ended(rig: Rig) -> None:
    rig.put(rig.spec(env={"RUNNING": "1", "FINISH_S": "0.7"}))
    rig.ready()
    asked_s = time.monotonic()
    rig.delete("w1", drain_s=20)
    rig.wait("w1", lambda status: status.phase == "draining")
    rig.gone()
    assert 0.7 <= time.monotonic() - asked_s < 10


def test_a_process_that_ignores_drain_and_sigterm_is_killed_when_its_time_is_over(rig: Rig) -> None:
    rig.put(rig.spec(behaviour="deaf"))
    status = rig.ready()
    rig.delete("w1", drain_s=0.5)
    rig.wait("w1", lambda status: status.phase == "stopping")
    rig.gone()
    assert kernel.process(status.pid) is None


def test_a_hanging_process_can_be_ended_and_a_shorter_time_overrules_a_longer(rig: Rig) -> None:
    rig.put(rig.spec(behaviour="hang"))
    rig.ready()
    rig.delete("w1", drain_s=600)
    rig.delete("w1", drain_s=0)
    rig.gone()


def test_the_children_of_a_process_end_with_it_also_those_that_left_its_session(rig: Rig) -> None:
    rig.put(rig.spec(behaviour="children"))
    first = rig.ready()
    assert len(rig.marked()) == 3
    os.kill(first.pid, signal.SIGKILL)
    rig.wait("w1", lambda status: status.phase == "ready" and status.pid != first.pid)
    assert len(rig.marked()) == 3
    rig.delete("w1")
    rig.gone()
    assert rig.marked() == {}


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


def test_what_cannot_be_is_refused_with_the_field(rig: Rig) -> None:
    for name in ("agent", "../up", ".hidden", "A", "x" * 200):
        with pytest.raises((InvalidInput, NotFound)):
            rig.put(rig.spec(name))
    with pytest.raises(InvalidInput, match="no process spec"):
        rig.api.exchange("PUT", "/v1/processes/w1", body=b"{", headers={"x-stoker-fence": "1"})
    with pytest.raises(InvalidInput, match="x-stoker-fence"):
        rig.api.exchange("PUT", "/v1/processes/w1", body=msgspec.json.encode(rig.spec()))
    with pytest.raises(InvalidInput, match="wait_s"):
        rig.node(after=1, wait_s=-1)
    spec = rig.spec()
    with pytest.raises(Forbidden, match="the agent's own"):
        rig.put(type(spec)("control", "control", ("true",), {}, "unix:/tmp/x", "/tmp"))


def test_a_waiting_reader_hears_of_a_change_at_once_and_of_none_in_time(rig: Rig) -> None:
    before = rig.node()
    asked_s = time.monotonic()
    assert rig.node(after=before.sequence, wait_s=0.3).sequence == before.sequence
    assert time.monotonic() - asked_s >= 0.3
    rig.put(rig.spec())
    assert rig.node(after=before.sequence, wait_s=30).sequence > before.sequence
    # a reader with another agent's number is told at once, too
    assert rig.node(after=before.sequence + 10**9, wait_s=30).processes


def test_a_status_shows_the_machine(rig: Rig) -> None:
    node = rig.node()
    assert 0 < node.cores <= (os.cpu_count() or 1)
    assert 0 < node.memory_free_bytes < node.memory_bytes
    until(lambda: rig.node().started_at_s <= time.time())
