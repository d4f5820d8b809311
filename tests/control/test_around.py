"""Who is asked around control: everyone in turn, never too many at once, and each believed about itself alone."""

import asyncio
from collections.abc import Mapping

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stoker.control.around import ASKED_MAX, REPLICAS_MAX, Around, of_itself
from stoker.control.observe import Observer
from stoker.placement.local import LocalDriver
from stoker.telemetry.catalogue import SAID_BY_REPLICA
from stoker.telemetry.metrics import Registry
from stoker.types.process import NodeStatus, ProcessStatus

WHOSE = {"project": "default", "endpoint": "a", "revision": "default.a-1"}
NODE = NodeStatus(node="n1", sequence=1, cores=2.0, memory_bytes=8 << 30, memory_free_bytes=1 << 30, processes=())


class Nodes(LocalDriver):
    """A driver whose nodes say what a test sets."""

    def __init__(self) -> None:
        super().__init__("/nowhere")
        self.statuses: tuple[NodeStatus, ...] = (NODE,)

    async def observe(self) -> tuple[NodeStatus, ...]:
        return self.statuses

    async def changed(self, seen: Mapping[str, int], wait_s: float) -> None:
        raise AssertionError("nobody waits here")


def replica(number: int, phase: str = "ready") -> ProcessStatus:
    one = ProcessStatus(name=f"default.a-1-{number:04}", kind="replica", phase="ready", labels=WHOSE)
    return msgspec.structs.replace(one, phase=phase)


def around(*processes: ProcessStatus) -> Around:
    driver = Nodes()
    driver.statuses = (msgspec.structs.replace(NODE, processes=processes),)
    observer = Observer(driver)
    asyncio.run(observer.look())
    return Around(driver, observer, Registry("control"))


@given(st.integers(0, 2 * REPLICAS_MAX))
def test_every_replica_is_asked_in_its_turn_and_never_too_many_at_once(count: int) -> None:
    asked = around(*(replica(number) for number in range(count)))
    rounds = max(-(-min(count, REPLICAS_MAX) // ASKED_MAX), 1)
    for _ in range(3):
        found = [[each.name for each in asked.due()] for _ in range(rounds)]
        assert all(names[0] == "agent-n1" and len(names) <= ASKED_MAX + 1 for names in found)
        names = [name for turn in found for name in turn if name != "agent-n1"]
        assert set(names) == {replica(number).name for number in range(min(count, REPLICAS_MAX))}


def test_who_cannot_answer_is_not_asked() -> None:
    processes = [replica(number, phase) for number, phase in enumerate(("loading", "backoff", "draining", "stopped"))]
    gateway = ProcessStatus(name="gateway-0", kind="gateway", phase="ready")
    assert [each.name for each in around(*processes, gateway).due()] == ["agent-n1", replica(2).name]


def test_a_replica_is_believed_about_itself_alone() -> None:
    registry = Registry("r")
    own = {**WHOSE, "replica": replica(1).name}
    for labels in (own, {**own, "replica": replica(2).name}, {**own, "endpoint": "b"}):
        registry.gauge("stoker_engine_running", **labels).set(7.0)
        registry.counter("stoker_replica_stalled_seconds_total", **labels).add(9)
    registry.counter("stoker_requests_total", **WHOSE, method="infer", code="500").add(1_000)
    registry.gauge("stoker_load_seconds", stage="verify", **own).set(0.5)
    registry.gauge("process_open_fds", process="control").set(9.0)
    kept = of_itself(registry.snapshot(), replica(1))
    assert [metric.name for metric in kept.metrics] == ["stoker_engine_running"]
    assert [one.labels for one in kept.metrics[0].series] == [("default", "a", "default.a-1", replica(1).name)]
    assert {metric.name for metric in kept.metrics} < SAID_BY_REPLICA
