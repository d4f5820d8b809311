"""The platform's own alarms on a real history: what makes each hold, and what ends it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from stoker.client.views import Chart
from stoker.core import alarms
from stoker.core.alerts import Alert, Signal
from stoker.core.snapshot import EndpointState
from stoker.observe.history.history import History
from stoker.observe.objectives.alarms import ASK_EVERY_S, QUESTIONS, Alarms
from stoker.telemetry.metrics import Registry
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.resources import Endpoint, EndpointSpec, Metadata
from stoker.types.slos import Objective
from stoker.types.statuses import Condition, EndpointStatus
from tests.observe.rig import Counting, Rig

WHO = {"project": "default", "endpoint": "a"}
SERVES = EndpointStatus(revision="default.a-1", serving="default.a-1", replicas_ready=1, replicas_wanted=1)


def state(status: EndpointStatus = SERVES, *, is_deleting: bool = False) -> EndpointState:
    resource = Endpoint(Metadata("a"), EndpointSpec(model="digits"))
    return EndpointState(ProjectName("default"), EndpointName("a"), 1, resource, 0.0, is_deleting, status=status)


def requests(registry: Registry, code: str, count: float) -> None:
    registry.counter("stoker_requests_total", code=code, method="infer", revision="default.a-1", **WHO).add(count)


def failing(registry: Registry) -> None:
    requests(registry, "500", 30)
    requests(registry, "200", 300)


def refusing(registry: Registry) -> None:
    registry.counter("stoker_refused_total", reason="queue_full", **WHO).add(30)
    requests(registry, "429", 30)
    requests(registry, "200", 300)


def refused_rows(registry: Registry) -> None:
    registry.gauge("stoker_drift_refused", **WHO).set(30.0)
    registry.gauge("stoker_drift_rows", **WHO).set(400.0)


def lagging(registry: Registry) -> None:
    for _ in range(100):
        registry.histogram("stoker_event_loop_lag_seconds", process="gateway-0").observe(0.4)


def expiring(registry: Registry) -> None:
    registry.gauge("stoker_tls_certificate_expiry_timestamp_seconds", process="gateway-0").set(
        1_800_000_000 + 3 * 86_400
    )


def open_files(registry: Registry) -> None:
    registry.gauge("process_open_fds", process="gateway-0").set(900.0)
    registry.gauge("process_max_fds", process="gateway-0").set(1000.0)


def short_of_memory(registry: Registry) -> None:
    registry.gauge("stoker_node_memory_free_bytes", node="local").set(4.0)
    registry.gauge("stoker_node_memory_bytes", node="local").set(100.0)


def counted(name: str, count: float, **labels: str) -> Callable[[Registry], None]:
    return lambda registry: registry.counter(name, **labels).add(count)


def shown(name: str, value: float, **labels: str) -> Callable[[Registry], None]:
    return lambda registry: registry.gauge(name, **labels).set(value)


WRONG: dict[str, Callable[[Registry], None]] = {
    "EndpointFails": failing,
    "EndpointRefuses": refusing,
    "ScalingAtMaximum": shown("stoker_scaling_at_maximum", 1.0, **WHO),
    "BreakerOpen": shown("stoker_breaker_state", 2.0, process="gateway-0", **WHO),
    "InputsRefused": refused_rows,
    "RequestsQuarantined": counted("stoker_quarantined_total", 1, **WHO),
    "ProcessesRestart": counted("stoker_restarts_total", 4, kind="replica", node="local", reason="died", **WHO),
    "ReplicasEjected": counted("stoker_ejections_total", 3, reason="slow", **WHO),
    "KeyValueCacheFull": shown("stoker_kv_cache_usage_ratio", 0.97, revision="default.a-1", replica="r", **WHO),
    "LoopBlocked": lagging,
    "ControlFails": counted("stoker_loop_errors_total", 4),
    "SettingsUnread": shown("stoker_settings_unread", 2.0),
    "CertificateExpires": expiring,
    "DescriptorsShort": open_files,
    "NodeMemoryShort": short_of_memory,
    "NodeDiskShort": shown("stoker_node_disk_free_bytes", 3e8, node="local"),
    "FilesRefused": shown("stoker_replica_unwritable", 1.0, revision="default.a-1", replica="r", **WHO),
    "ClockStepped": counted("stoker_node_clock_stepped_seconds_total", 3600.0, node="local"),
    "ClockApart": shown("stoker_node_clock_apart_seconds", 40.0, node="local"),
    "NodeGone": shown("stoker_node_ready", 0.0, node="b"),
    "NodeCertificateExpires": shown("stoker_node_certificate_left_ratio", 0.2, node="b"),
    "NoticesLost": counted("stoker_notices_total", 1, outcome="lost"),
    "UsageLost": counted("stoker_usage_records_lost_total", 7, process="gateway-0"),
    "UsageBroken": counted("stoker_usage_journal_broken_total", 1, process="gateway-0"),
    "AuditFails": counted("stoker_audit_failures_total", 1, what="copy"),
    "AuditBroken": shown("stoker_audit_problems", 1.0),
    "IdentityProviderDown": shown("stoker_identity_provider_failing", 1.0, provider="corp"),
    "SecretUnavailable": shown("stoker_secret_failing", 1.0, project="default", secret="file:/none"),
    "HistoryFails": counted("stoker_history_failures_total", 1),
}


class World:
    """A history, a process that counts, and the alarms over it."""

    def __init__(self, path: Path) -> None:
        self.rig = Rig(path)
        self.process = Counting()
        self.alarms = Alarms(self.rig.history)
        self.tick()

    @property
    def history(self) -> History:
        return self.rig.history

    def tick(self, seconds: float = 10.0) -> None:
        self.rig.tick(self.process, seconds=seconds)

    def look(self, *states: EndpointState) -> list[Signal]:
        found = self.rig.run(self.alarms.look(states or (state(),), self.rig.clock.now_s))
        return [each for each in found if each.severity != "none"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "metrics.db")
    yield made
    made.rig.close()


def test_each_question_to_the_history_has_an_alarm_and_a_case_here() -> None:
    assert [each.alarm for each in QUESTIONS] == list(WRONG)
    assert set(WRONG) <= set(alarms.BY_NAME)


@pytest.mark.parametrize("name", list(WRONG))
def test_an_alarm_holds_when_what_it_asks_for_happens_and_ends_when_that_is_over(world: World, name: str) -> None:
    assert world.look() == []
    WRONG[name](world.process.registry)
    world.tick(ASK_EVERY_S)
    (signal,) = world.look()
    assert signal.labels["alertname"] == name
    assert "{" not in signal.summary
    assert signal.because
    world.process.restart()
    for _ in range(4):
        world.tick(1000.0)
    assert world.look() == []


def test_a_secret_that_cannot_be_read_is_named() -> None:
    told = alarms.BY_NAME["SecretUnavailable"].signal({"project": "shop", "secret": "file:/none"}, "because")
    assert told.summary == "the secret file:/none cannot be read"


def test_unusual_costs_hold_while_they_are_told_and_until_they_are_known_again(world: World) -> None:
    told = alarms.BY_NAME["CostUnusual"].signal({}, "because", "3.1 × the usual day: retries of key k1")
    alert = Alert("1", told.labels, "ticket", "firing", told.summary, "because", told.runbook, 1.0, 1.0)
    known: tuple[Signal, ...] | None = (told,)
    world.alarms.costly = lambda: known
    assert world.look() == [told]
    known = None
    found = world.rig.run(world.alarms.look((), world.rig.clock.now_s, (alert,)))
    assert [(each.summary, each.labels) for each in found] == [(told.summary, told.labels)]
    known = ()
    assert world.rig.run(world.alarms.look((), world.rig.clock.now_s, (alert,))) == ()


def test_a_few_failures_of_a_quiet_endpoint_are_none(world: World) -> None:
    requests(world.process.registry, "500", 3)
    requests(world.process.registry, "200", 10)
    world.tick(ASK_EVERY_S)
    assert world.look() == []


def test_between_two_questions_what_was_found_holds(world: World) -> None:
    WRONG["ReplicasEjected"](world.process.registry)
    world.tick(ASK_EVERY_S)
    first = world.look()
    world.tick(5.0)
    assert world.look() == first
    assert len(first) == 1


def test_an_endpoint_that_was_deleted_alarms_nobody_any_more(world: World) -> None:
    WRONG["BreakerOpen"](world.process.registry)
    world.tick(ASK_EVERY_S)
    assert world.look(state(is_deleting=True)) == []
    assert len(world.look()) == 1


def test_a_question_that_fails_neither_ends_what_holds_nor_silences_the_others(world: World) -> None:
    WRONG["BreakerOpen"](world.process.registry)
    WRONG["NoticesLost"](world.process.registry)
    world.tick(ASK_EVERY_S)

    class Half:
        """A history that cannot tell of breakers."""

        is_broken = False

        async def query(self, text: str, *, end_s: float | None = None) -> Chart:
            if self.is_broken and "breaker" in text:
                raise OSError("the disk is gone")
            return await world.history.query(text, end_s=end_s)

    half = Half()
    world.alarms = Alarms(half)
    both = {each.labels["alertname"] for each in world.look()}
    assert both == {"BreakerOpen", "NoticesLost"}
    half.is_broken = True
    world.tick(ASK_EVERY_S)
    assert {each.labels["alertname"] for each in world.look()} == both


def said(kind: str, reason: str, *, status: bool = False) -> tuple[Condition, ...]:
    return (Condition(kind, status, reason, "its own words", 0.0),)


@pytest.mark.parametrize(
    ("status", "names"),
    [
        (SERVES, []),
        (EndpointStatus(), []),
        (EndpointStatus(serving="default.a-1", replicas_wanted=0), []),
        (EndpointStatus(serving="default.a-1", replicas_wanted=1), ["EndpointDown"]),
        (EndpointStatus(conditions=said("Progressing", "CrashLoop")), ["CrashLoop"]),
        (EndpointStatus(conditions=said("Ready", "NoCapacity")), ["NoCapacity"]),
        (
            EndpointStatus(serving="default.a-1", replicas_wanted=1, conditions=said("Progressing", "Preempted")),
            ["Preempted"],
        ),
        (EndpointStatus(conditions=said("Drifted", "Moved", status=True)), ["Drifted"]),
        (EndpointStatus(conditions=said("Drifted", "Steady")), []),
    ],
)
def test_an_endpoints_own_conditions_alarm_in_its_words(world: World, status: EndpointStatus, names: list[str]) -> None:
    found = world.look(state(status))
    assert [each.labels["alertname"] for each in found] == names
    assert all(each.because == "its own words" for each in found if status.conditions)
    assert world.look(state(status, is_deleting=True)) == []


@pytest.mark.parametrize(
    ("slos", "reason", "names"),
    [
        ((Objective(name="answers", target=0.999),), "AlertRoute", ["DutyNotKept"]),
        ((Objective(name="answers", target=0.999),), "Replicas", []),  # others tell that, and sooner
        ((), "AlertRoute", []),
    ],
)
def test_a_duty_that_is_not_kept_alarms_where_something_is_promised(
    world: World, slos: tuple[Objective, ...], reason: str, names: list[str]
) -> None:
    status = EndpointStatus(conditions=said("BoundaryHolds", reason))
    resource = Endpoint(Metadata("a"), EndpointSpec(model="digits", slos=slos))
    found = world.look(msgspec.structs.replace(state(status), resource=resource))
    assert [each.labels["alertname"] for each in found] == names
    kept = EndpointStatus(conditions=said("BoundaryHolds", "DutiesKept", status=True))
    assert world.look(msgspec.structs.replace(state(kept), resource=resource)) == []
