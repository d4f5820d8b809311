"""What an agent promises of one process."""

import os
import signal

from tests.agent.conftest import Rig, until


def test_a_process_is_started_becomes_ready_and_is_gone_after_its_deletion(rig: Rig) -> None:
    first = rig.put(rig.spec(labels={"endpoint": "digits"}))
    assert first.phase == "starting"
    status = rig.ready()
    assert status.pid > 0
    assert status.labels == {"endpoint": "digits"}
    assert status.restarts == status.crashes_in_row == 0
    assert until(lambda: rig.status().rss_bytes > 1_000_000)
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


def test_a_killed_agent_is_followed_by_one_that_adopts_the_same_process(rig: Rig) -> None:
    rig.put(rig.spec(env={"LOAD_S": "0.3"}))
    before = rig.ready()
    rig.kill_agent()
    rig.start()
    after = rig.ready()
    assert after.pid == before.pid
    assert rig.log("w1").count("listening") == 1
    # and it is owned: it comes back when it dies
    os.kill(before.pid, signal.SIGKILL)
    again = rig.wait("w1", lambda status: status.phase == "ready" and status.pid != before.pid)
    assert again.restarts == 1
