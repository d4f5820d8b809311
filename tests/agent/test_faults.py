"""Faults on purpose: they end by themselves, with their process, and when the agent that made them is dead."""

import msgspec
import pytest

from stoker.agent import kernel
from stoker.types.errors import Conflict, InvalidInput, NotFound
from stoker.types.process import ProcessStatus
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
    assert inject(shared, seconds=0.5).fault == "hang"
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
