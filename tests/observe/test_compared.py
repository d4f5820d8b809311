"""Live causes from what the platform's own meters count: a registry filled as gateways and control fill it."""

from collections.abc import Callable
from typing import Final

import msgspec
import pytest

from stoker.control.fleet import Fleet
from stoker.core.diagnose.causes import CauseKind
from stoker.core.diagnose.verdict import Diagnosis, diagnose
from stoker.gateway.meters import Meters
from stoker.observe.incidents.compared import OF_A_WINDOW, Site, window
from stoker.telemetry.catalogue import BY_NAME
from stoker.telemetry.metrics import Registry, subtract
from stoker.types.process import NodeStatus, ProcessStatus
from stoker.types.replica import Usage

WHOSE: Final = {"project": "default", "endpoint": "chat"}
REPLICAS: Final = ("chat-1-a", "chat-1-b", "chat-1-c")
SITE: Final = Site({"chat-1-a": "n0", "chat-1-b": "n1", "chat-1-c": "n1"})
MINUTE_S: Final = 60.0


def test_nothing_is_read_that_the_catalogue_lacks() -> None:
    assert [name for name in OF_A_WINDOW if name not in BY_NAME] == []


class Live:
    """A gateway's meters and control's, and answers as they count them."""

    def __init__(self) -> None:
        self.registry = Registry("all")
        self.meters = Meters(self.registry, "default", "chat")
        self.fleet = Fleet(self.registry)
        self.process = ProcessStatus("chat-1-a", "replica", "ready", started_at_s=1e12, labels=WHOSE)
        self.nodes(cpu=0.3)
        self.gpus("n1", {"0": 0.2, "1": 0.3})
        self.gpus("n7", {"0": 0.1})
        self.registry.gauge("stoker_node_disk_short_ratio", node="n1").set(0.0)

    def gpus(self, node: str, used: dict[str, float]) -> None:
        for gpu, ratio in used.items():
            self.registry.gauge("stoker_gpu_utilization_ratio", node=node, gpu=gpu).set(ratio)

    def answers(
        self, count: int, *, queue_s: float = 0.0, network_s: float = 0.001, work_s: float = 0.1, status: int = 200,
        replica: str = "", tenant: str = "", tokens: int = 50,
    ) -> None:  # fmt: skip
        revision = self.meters.revision("chat-1", "chat")
        for number in range(count):
            name, whom = replica or REPLICAS[number % 3], tenant or f"tenant-{number % 4}"
            phases = {"queue": queue_s, "network": network_s, "decode": work_s}
            revision.code(status).add()
            revision.duration.observe(sum(phases.values()))
            self.meters.replica("chat-1", name).ended(status, network_s + work_s)
            self.meters.tenants.of(whom).ended(status, 1, (Usage(10, tokens),))
            if status == 200:
                revision.tokens((Usage(10, tokens),))
                for phase, seconds in phases.items():
                    self.registry.histogram(
                        "stoker_request_phase_seconds", phase=phase, revision="chat-1", **WHOSE
                    ).observe(seconds)

    def nodes(self, *, cpu: float) -> None:
        for node in ("n0", "n1"):
            processes = (self.process,) if node == "n0" else ()
            self.fleet.look([NodeStatus(node, 1, 4.0, 8 << 30, 6 << 30, processes, 0.0, 0, cpu, max(cpu - 0.7, 0.0))])

    def started_again(self) -> None:
        """The replica becomes ready once more."""
        self.process = msgspec.structs.replace(self.process, ready_at_s=self.process.ready_at_s + 1)
        self.nodes(cpu=0.3)


def noisy_tenant(live: Live) -> None:
    live.answers(600, queue_s=2.0)
    live.answers(1400, queue_s=2.0, tenant="tenant-3")


def bad_replica(live: Live) -> None:
    live.answers(400)
    live.answers(200, replica="chat-1-b", work_s=2.0)


def failing_replica(live: Live) -> None:
    live.answers(400)
    live.answers(200, replica="chat-1-b", status=500)


def retry_storm(live: Live) -> None:
    live.answers(1500, queue_s=3.0)
    for _ in range(900):
        live.meters.client_retry()


def cold_start(live: Live) -> None:
    live.answers(480)
    live.answers(120, queue_s=6.0)
    for _ in range(120):
        live.meters.cold()
    live.started_again()


def network(live: Live) -> None:
    live.answers(600, network_s=0.8)


def slow_server(live: Live) -> None:
    live.answers(600, work_s=1.5)


def failing_server(live: Live) -> None:
    live.answers(450)
    live.answers(150, status=503)


def saturation(live: Live) -> None:
    live.nodes(cpu=1.0)
    live.answers(600, work_s=0.4)


def full_gpu(live: Live) -> None:
    live.gpus("n1", {"0": 0.2, "1": 0.99})
    live.answers(600, work_s=0.4)


def gpu_of_another_node(live: Live) -> None:
    live.gpus("n7", {"0": 0.99})
    live.answers(400)
    live.answers(200, replica="chat-1-b", work_s=2.0)


def no_room(live: Live) -> None:
    live.registry.gauge("stoker_node_disk_short_ratio", node="n1").set(1.0)
    live.answers(450)
    live.answers(150, status=500)


def unwritable(live: Live) -> None:
    for replica in REPLICAS:
        live.registry.gauge("stoker_replica_unwritable", revision="chat-1", replica=replica, **WHOSE).set(1.0)
    live.answers(450)
    live.answers(150, status=500)


def clock_set(live: Live) -> None:
    live.registry.counter("stoker_node_clock_stepped_seconds_total", node="n1").add(3600)
    live.answers(450)
    live.answers(150, status=500)


def clock_of_a_replica_set(live: Live) -> None:
    labels = {**WHOSE, "revision": "chat-1", "replica": "chat-1-a"}
    live.registry.counter("stoker_replica_clock_stepped_seconds_total", **labels).add(3600)
    live.answers(450)
    live.answers(150, status=500)


def empty_answers(live: Live) -> None:
    live.answers(400)
    live.answers(200, tokens=1)


def other_inputs(live: Live) -> None:
    live.registry.gauge("stoker_drift_score", **WHOSE).set(0.9)
    live.answers(600)


def found(breaks: Callable[[Live], None], site: Site) -> Diagnosis:
    """Return the diagnosis of a minute in which `breaks` happened, against a minute of ordinary answers."""
    live = Live()
    live.answers(600)
    before = live.registry.snapshot()
    base = window(subtract(before, msgspec.structs.replace(before, metrics=())), "default", "chat", 0.0, site)
    base = msgspec.structs.replace(base, start_s=0.0, end_s=MINUTE_S)
    breaks(live)
    change = subtract(live.registry.snapshot(), before)
    bad = window(change, "default", "chat", 0.0, site, base.slow_over_s)
    return diagnose(msgspec.structs.replace(bad, start_s=MINUTE_S, end_s=2 * MINUTE_S), base, ())


@pytest.mark.parametrize(
    ("breaks", "kind", "where", "is_remote"),
    [
        (noisy_tenant, "noisy_tenant", "tenant tenant-3", False),
        (bad_replica, "bad_replica", "replica chat-1-b", False),
        (failing_replica, "bad_replica", "replica chat-1-b", False),
        (retry_storm, "retry_storm", "", False),
        (cold_start, "cold_start", "", False),
        (network, "network", "", False),
        (slow_server, "dependency", "", True),
        (failing_server, "dependency", "", True),
        (saturation, "saturation", "", False),
        (full_gpu, "gpu_saturation", "gpu n1/1", False),
        (gpu_of_another_node, "bad_replica", "replica chat-1-b", False),
        (no_room, "disk_full", "", False),
        (unwritable, "disk_full", "", False),
        (clock_set, "clock", "", False),
        (clock_of_a_replica_set, "clock", "", False),
        (empty_answers, "model_behaviour", "", False),
        (other_inputs, "model_behaviour", "", False),
    ],
)
def test_a_cause_is_named_from_what_the_meters_count(
    breaks: Callable[[Live], None], kind: CauseKind, where: str, is_remote: bool
) -> None:
    site = msgspec.structs.replace(SITE, remote=frozenset({"chat-1"} if is_remote else ()))
    causes = found(breaks, site).causes
    assert causes, "nothing explains it"
    assert (causes[0].kind, causes[0].where) == (kind, where), causes


def test_what_nothing_measured_is_said_to_be_not_judged() -> None:
    diagnosis = found(network, SITE)
    assert "dependency" in diagnosis.not_judged, "a local model does not tell what it waits for"
    assert not {"noisy_tenant", "bad_replica", "retry_storm", "cold_start", "network"} & set(diagnosis.not_judged)
