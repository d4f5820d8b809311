"""What is killed for real, under load, loses nothing."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.whole.load import Load
from tests.whole.rig import Platform, until


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, digits_model: str) -> Iterator[Platform]:
    """A platform of two gateways and two replicas of a small classifier."""
    platform = Platform(tmp_path_factory.mktemp("kills") / "home", gateways=2)
    try:
        platform.up()
        platform.cli("push", "digits", digits_model)
        platform.cli("deploy", "digits", "--model", "digits@1", "--replicas", "2", "--cpu", "0.5", "--wait")
        yield platform
    finally:
        platform.kill_everything()


@pytest.fixture
def digits(one: Platform) -> Platform:
    """The platform, whole again after what the test before did to it: each kill finds one that was killed already."""

    def is_whole() -> bool:
        running = [process.name for process in one.processes()]
        alive = all(running.count(name) == 1 for name in ("keeper", "agent", "control", "gateway-0", "gateway-1"))
        return alive and one.client.endpoint("default", "digits").status.replicas_ready == 2

    if not one.processes():
        one.up()
    until(is_whole, what="the platform is whole")
    return one


def load(platform: Platform, **settings: int) -> Load:
    return Load(f"{platform.url}/v2/models/digits/infer", platform.key, **settings)


def replicas(platform: Platform) -> dict[str, int]:
    return {process.name: process.pid for process in platform.processes() if process.name.startswith("default.digits")}


def test_a_replica_killed_under_load_loses_no_request(digits: Platform) -> None:
    before = replicas(digits)
    assert len(before) == 2
    with load(digits) as traffic:
        traffic.wait_for(200)
        for name, pid in before.items():
            os.kill(pid, signal.SIGKILL)
            until(lambda name=name, pid=pid: replicas(digits).get(name, pid) != pid, what=f"{name} runs again")
            traffic.wait_for(200)
    assert traffic.outcome.failed() == {}, traffic.outcome
    assert traffic.outcome.broken == 0


def test_the_agent_killed_under_load_loses_no_request_and_adopts_its_replicas(digits: Platform) -> None:
    before = replicas(digits)
    with load(digits) as traffic:
        traffic.wait_for(200)
        agent = digits.kill("agent")
        until(lambda: [p for p in digits.processes() if p.name == "agent" and p.pid != agent], what="a new agent")
        until(lambda: digits.cli("status", check=False), what="the platform answers")
        traffic.wait_for(500)
    assert traffic.outcome.failed() == {}, traffic.outcome
    assert traffic.outcome.broken == 0
    assert replicas(digits) == before, "a replica was reloaded"
    # and the new agent owns them: one that dies now comes back
    name, pid = next(iter(before.items()))
    os.kill(pid, signal.SIGKILL)
    until(lambda: replicas(digits).get(name, pid) != pid, what=f"{name} runs again")


def test_control_killed_under_load_loses_no_request(digits: Platform) -> None:
    before = replicas(digits)
    with load(digits) as traffic:
        traffic.wait_for(200)
        control = digits.kill("control")
        traffic.wait_for(500)
        until(lambda: [p for p in digits.processes() if p.name == "control" and p.pid != control], what="control runs")
        until(lambda: "digits" in digits.cli("status", check=False), what="control answers")
    assert traffic.outcome.failed() == {}, traffic.outcome
    assert traffic.outcome.broken == 0
    assert replicas(digits) == before, "a replica was reloaded"
    digits.database_is_sound()


def test_a_gateway_killed_under_load_costs_only_its_own_connections(digits: Platform) -> None:
    with load(digits, connections=16) as traffic:
        traffic.wait_for(200)
        killed = digits.kill("gateway-1")
        until(
            lambda: [p for p in digits.processes() if p.name == "gateway-1" and p.pid != killed],
            what="the gateway runs again",
        )
        traffic.wait_for(500)
    assert traffic.outcome.failed() == {}, traffic.outcome
    assert traffic.outcome.broken <= 16, "more than the connections that gateway could hold"


def test_gateways_started_without_control_serve_from_the_last_table(digits: Platform) -> None:
    os.kill(digits.pid("agent"), signal.SIGSTOP)  # so that nobody restarts control
    os.kill(digits.pid("keeper"), signal.SIGSTOP) if any(p.name == "keeper" for p in digits.processes()) else None
    try:
        digits.kill("control")
        with load(digits) as traffic:
            traffic.wait_for(300)
        assert traffic.outcome.failed() == {}, traffic.outcome
    finally:
        for process in digits.processes():
            os.kill(process.pid, signal.SIGCONT)


def test_down_and_up_again_serves_the_same_endpoints_and_down_leaves_nothing(digits: Platform) -> None:
    digits.down()
    assert digits.processes() == []
    digits.up()
    started = time.monotonic()
    with load(digits, connections=1) as traffic:
        traffic.wait_for(1, timeout_s=30)
    assert time.monotonic() - started < 30
    digits.down()
    assert digits.processes() == []
    assert list((digits.home / "tmp").iterdir()) == []


def test_a_drained_platform_loses_no_admitted_request(digits: Platform) -> None:
    with load(digits) as traffic:
        traffic.wait_for(200)
        digits.down()
        answered = traffic.outcome.answered
        assert answered >= 200
        # after the drain nothing listens: connections break, but no answer was an error
        assert set(traffic.outcome.statuses) <= {200, 503}, traffic.outcome
