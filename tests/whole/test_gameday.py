"""Game days on a real platform: a replica is killed, a run is interrupted, a run is killed."""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from stoker.client.views import KeyView, ReplicaView
from stoker.core.gameday import BY_NAME
from stoker.types.faults import Fault
from tests.whole.load import DIGIT
from tests.whole.rig import STOKER, WAIT_S, Platform, until

MANIFEST = """
apiVersion: stoker/v1
kind: Endpoint
metadata: {name: broken}
spec:
  model: digits
  gameday: allowed
  replicas: {min: 2, max: 2}
  resources: {cpu: 0.05, memory: 256Mi}
"""

OF_BEFORE = ("--force",)  # a slow machine's start, or the fault before, may have left an incident open


@pytest.fixture(scope="module")
def endpoint(demo: Platform) -> Iterator[str]:
    demo.client.apply(MANIFEST.encode())
    until(lambda: demo.client.endpoint("default", "broken").status.replicas_ready == 2, what="both replicas are ready")
    yield "broken"
    demo.cli("delete", "endpoint", "broken", "--wait")


def faults(demo: Platform) -> dict[int, str]:
    """Return the faults by pid."""
    return {each.pid: each.fault for node in demo.client.nodes() for each in node.processes if each.fault}


def command(endpoint: str, duration: str) -> list[str]:
    options = ("--baseline", "1s", "--duration", duration, "--rps", "5", "--yes", *OF_BEFORE)
    return [str(STOKER), "gameday", "run", "replica-hang", "--endpoint", endpoint, *options]


def begun(demo: Platform, endpoint: str, duration: str) -> tuple["subprocess.Popen[bytes]", int]:
    """Return a run whose fault has begun, and the pid of the replica that stands still."""
    run = subprocess.Popen(
        command(endpoint, duration), env=demo.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(lambda: faults(demo), what="the fault has begun")
    ((pid, kind),) = faults(demo).items()
    assert kind == "hang"
    return run, pid


def own_keys(demo: Platform) -> list[KeyView]:
    every = demo.client.keys()
    return [key for key in every if key.name.startswith("gameday")]


def stands(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_killed_replica_is_scored_and_the_report_is_kept(demo: Platform, endpoint: str) -> None:
    arguments = (
        "gameday",
        "run",
        "replica-kill",
        "-e",
        endpoint,
        "--baseline",
        "1s",
        "--rps",
        "10",
        "--yes",
        *OF_BEFORE,
    )
    report = demo.json(*arguments)
    assert report["card"]["recovered_after_s"] is not None, report
    assert 0 < report["score"] <= 1
    assert sum(each["requests"] for each in report["seconds"]) > 50
    assert report["id"] in demo.cli("gameday", "report")
    assert demo.json("gameday", "show", report["id"]) == report
    done = [entry.action.split()[0] for entry in demo.client.journal(endpoint=endpoint)]
    assert [action for action in done if action.startswith("Gameday")] == ["GamedayEnded", "GamedayBegan"]
    assert not own_keys(demo)


def test_an_interrupted_run_leaves_nothing_behind(demo: Platform, endpoint: str) -> None:
    run, pid = begun(demo, endpoint, "300s")
    refused = subprocess.run(
        command(endpoint, "5s"), env=demo.environment, capture_output=True, timeout=WAIT_S, check=False
    )
    assert b"has a game day already" in refused.stderr
    assert faults(demo) == {pid: "hang"}, "a run that was refused ended what another one does"
    run.send_signal(signal.SIGINT)
    assert run.wait(WAIT_S) != 0
    assert faults(demo) == {}
    assert not stands(pid)
    assert not own_keys(demo)


def test_the_fault_of_a_run_that_was_killed_ends_by_itself_and_its_key_expires(demo: Platform, endpoint: str) -> None:
    run, pid = begun(demo, endpoint, "8s")
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert stands(pid)
    until(lambda: not faults(demo), what="the node ended the fault")
    assert not stands(pid)
    left = own_keys(demo)
    assert left
    assert all(key.expires_at_s > 0 for key in left)
    for key in left:
        demo.client.revoke_key(key.id)


def ask(demo: Platform, endpoint: str) -> int:
    """Send one request and return the status."""
    headers = {"Authorization": f"Bearer {demo.key}", "Content-Type": "application/json"}
    url = f"{demo.url}/v2/models/{endpoint}/infer"
    try:
        asked = urllib.request.Request(url, json.dumps(DIGIT).encode(), headers)
        with urllib.request.urlopen(asked, timeout=WAIT_S) as it:
            return int(it.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def restarts(demo: Platform, endpoint: str) -> int:
    """Return how often the endpoint's replicas were started again."""
    return sum(each.restarts for each in demo.client.endpoint("default", endpoint).replicas)


def serving(demo: Platform, endpoint: str) -> str:
    """Return the revision that takes traffic."""
    return next(each.revision for each in demo.client.endpoint("default", endpoint).revisions if each.serving)


def one_of(demo: Platform, endpoint: str) -> ReplicaView:
    """Return a replica of the endpoint, once both are ready."""

    def found() -> list[ReplicaView]:
        ready = [each for each in demo.client.endpoint("default", endpoint).replicas if each.phase == "ready"]
        return sorted(ready, key=lambda each: each.replica) if len(ready) == 2 else []

    ready: list[ReplicaView] = until(found, what="both replicas are ready")
    return ready[0]


@pytest.mark.parametrize("scenario", ["disk-full", "clock-step", "slow-network"])
def test_what_callers_can_bear_is_borne_and_taken_out_again(demo: Platform, endpoint: str, scenario: str) -> None:
    kind = BY_NAME[scenario].fault
    assert kind is not None
    hurt = one_of(demo, endpoint)
    fault = Fault(kind, 60.0)
    demo.client.begin_gameday(
        "default", endpoint, scenario, seconds=60, replicas=[hurt.replica], fault=fault, force=True
    )
    until(lambda: kind in faults(demo).values(), what="the fault is there")
    for _ in range(5):
        assert ask(demo, endpoint) == 200
    demo.client.end_gameday("default", endpoint, "it is over")
    until(lambda: not faults(demo), what="it is taken out")
    assert one_of(demo, endpoint).restarts == hurt.restarts


def test_a_replica_over_its_memory_is_started_again(demo: Platform, endpoint: str) -> None:
    hurt = one_of(demo, endpoint)
    before, fault = restarts(demo, endpoint), Fault("memory", 60.0)
    demo.client.begin_gameday(
        "default", endpoint, "memory-pressure", seconds=60, replicas=[hurt.replica], fault=fault, force=True
    )
    until(lambda: restarts(demo, endpoint) > before, what="it is killed")
    again = one_of(demo, endpoint)
    assert "allowed" in again.last_error
    assert faults(demo) == {}
    demo.client.end_gameday("default", endpoint, "it is over")


def test_a_corrupt_model_is_never_opened_and_harms_no_other_replica(demo: Platform, endpoint: str) -> None:
    hurt = one_of(demo, endpoint)
    fault = Fault("corrupt", 120.0)
    demo.client.begin_gameday(
        "default", endpoint, "corrupt-artifact", seconds=120, replicas=[hurt.replica], fault=fault, force=True
    )

    hurt_now = until(
        lambda: [
            each
            for each in demo.client.endpoint("default", endpoint).replicas
            if each.replica == hurt.replica and "sha256" in each.last_error
        ],
        what="the replica says which file is not what was registered",
    )
    assert hurt_now[0].phase != "ready"
    assert ask(demo, endpoint) == ask(demo, "digits") == 200
    demo.client.end_gameday("default", endpoint, "it is over")
    one_of(demo, endpoint)


def test_a_bad_revision_is_taken_back_although_whoever_began_it_is_dead(demo: Platform, endpoint: str) -> None:
    one_of(demo, endpoint)
    before = demo.client.endpoint("default", endpoint).status.revision
    demo.client.begin_gameday("default", endpoint, "bad-revision", seconds=8, bad_revision=True, force=True)
    until(lambda: ask(demo, endpoint) != 200, what="a request fails on purpose")
    until(lambda: serving(demo, endpoint) == before, what="the revision before serves")
    assert all(ask(demo, endpoint) == 200 for _ in range(10))


def test_an_endpoint_that_is_not_marked_is_refused_with_what_to_do(demo: Platform) -> None:
    argv = [str(STOKER), "gameday", "run", "replica-kill", "--endpoint", "digits", "--yes"]
    done = subprocess.run(argv, env=demo.environment, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode != 0
    assert "gameday: allowed" in done.stderr
    assert msgspec.json.decode(demo.cli("gameday", "list", "-o", "json"))["items"]
