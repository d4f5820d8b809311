"""What control counts of the processes that nodes report: starts, restarts, phases; and nothing twice."""

import time

import msgspec

from stoker.control.fleet import Fleet
from stoker.telemetry.metrics import Registry
from stoker.types.process import NodeStatus, ProcessStatus

LABELS = {"project": "default", "endpoint": "digits"}
WHOSE = {**LABELS, "node": "n1"}


def node(*processes: ProcessStatus) -> NodeStatus:
    return NodeStatus(
        node="n1", sequence=1, cores=2.0, memory_bytes=8 << 30, memory_free_bytes=1 << 30, processes=processes
    )


def replica(name: str = "r0", **more: object) -> ProcessStatus:
    status = ProcessStatus(name=name, kind="replica", phase="starting", started_at_s=time.time() + 1, labels=LABELS)
    return msgspec.structs.replace(status, **more)


def test_a_start_is_counted_once_when_it_becomes_ready() -> None:
    registry = Registry("control")
    fleet = Fleet(registry)
    starting = replica()
    ready = replica(phase="ready", started_at_s=starting.started_at_s, ready_at_s=starting.started_at_s + 2.5)
    for status in (node(), node(starting), node(ready), node(ready)):
        fleet.look([status])
    seen = registry.snapshot()
    assert seen.total("stoker_cold_starts_total", kind="replica", **WHOSE) == 1
    took = seen.distribution("stoker_cold_start_seconds", phase="total", **WHOSE)
    assert (took.count, round(took.sum, 3)) == (1, 2.5)


def test_a_start_that_was_over_before_anybody_looked_is_counted_too() -> None:
    registry = Registry("control")
    fleet = Fleet(registry)
    at_s = time.time() + 1
    fleet.look([node(replica(phase="ready", started_at_s=at_s, ready_at_s=at_s + 0.1))])
    assert registry.snapshot().total("stoker_cold_starts_total") == 1


def test_what_ran_before_control_is_not_counted() -> None:
    registry = Registry("control")
    fleet = Fleet(registry)
    fleet.look([node(replica(phase="ready", started_at_s=5.0, ready_at_s=6.0, restarts=7))])
    fleet.look([node(replica(phase="ready", started_at_s=5.0, ready_at_s=6.0, restarts=7))])
    assert registry.snapshot().total("stoker_cold_starts_total") == 0
    assert registry.snapshot().total("stoker_restarts_total") == 0


def test_restarts_are_counted_by_how_the_process_ended() -> None:
    registry = Registry("control")
    fleet = Fleet(registry)
    fleet.look([node(replica(phase="ready", started_at_s=5.0, ready_at_s=6.0))])
    fleet.look([node(replica(phase="backoff", restarts=2, last_exit="killed by SIGKILL"))])
    fleet.look([node(replica(phase="backoff", restarts=3, last_exit="exit code 3"))])
    seen = registry.snapshot()
    assert seen.total("stoker_restarts_total", reason="signal", **WHOSE) == 2
    assert seen.total("stoker_restarts_total", reason="exit", **WHOSE) == 1


def test_the_phases_of_a_start_are_counted_once_a_start() -> None:
    registry = Registry("control")
    fleet = Fleet(registry)
    first = replica(phase="ready", phases={"imports": 0.5, "verify": 0.5})
    first = msgspec.structs.replace(first, ready_at_s=first.started_at_s + 2.0)
    later = {"started_at_s": first.started_at_s + 9, "ready_at_s": first.ready_at_s + 9}
    second = msgspec.structs.replace(first, **later)
    for status in (first, first, second, second):
        fleet.look([node(status)])
    verify = registry.snapshot().distribution("stoker_cold_start_seconds", phase="verify", **WHOSE)
    assert (verify.count, verify.sum) == (2, 1.0)


def test_a_first_answer_is_counted_when_it_came() -> None:
    registry = Registry("control")
    fleet = Fleet(registry)
    ready = replica(phase="ready", phases={"imports": 0.5})
    ready = msgspec.structs.replace(ready, ready_at_s=ready.started_at_s + 2.0)
    answered = msgspec.structs.replace(ready, phases={"imports": 0.5, "first answer": 0.25})
    for status in (ready, answered, answered):
        fleet.look([node(status)])
    for phase, seconds in (("imports", 0.5), ("first answer", 0.25), ("total", 2.0)):
        seen = registry.snapshot().distribution("stoker_cold_start_seconds", phase=phase, **WHOSE)
        assert (seen.count, round(seen.sum, 6)) == (1, seconds)


def test_the_start_of_what_ran_before_control_is_not_counted_again() -> None:
    registry = Registry("control")
    Fleet(registry).look([node(replica(phase="ready", started_at_s=5.0, ready_at_s=6.0, phases={"verify": 0.5}))])
    assert registry.snapshot().distribution("stoker_cold_start_seconds").count == 0


def test_what_a_replica_and_its_children_use_is_counted_from_the_reports_over_restarts_too() -> None:
    registry = Registry("control")
    fleet = Fleet(registry)
    for pid, cpu_s, rss_bytes in ((7, 0.5, 100), (7, 2.0, 200), (7, 2.0, 200), (8, 0.25, 50)):
        fleet.look([node(replica(phase="ready", pid=pid, cpu_s=cpu_s, rss_bytes=rss_bytes))])
    seen = registry.snapshot()
    assert seen.total("stoker_replica_cpu_seconds_total", replica="r0", **WHOSE) == 2.25
    assert seen.total("stoker_replica_memory_bytes", replica="r0", **WHOSE) == 50


def test_what_a_replica_used_before_control_looked_is_not_counted() -> None:
    registry = Registry("control")
    fleet = Fleet(registry)
    for cpu_s in (1000.0, 1001.0):
        fleet.look([node(replica(phase="ready", started_at_s=5.0, pid=7, cpu_s=cpu_s))])
    assert registry.snapshot().total("stoker_replica_cpu_seconds_total", replica="r0", **WHOSE) == 1
