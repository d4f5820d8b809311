"""Game days on a real platform: a replica is killed, a run is interrupted, a run is killed."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from stoker.client.views import KeyView
from tests.whole.rig import STOKER, Platform, until

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


@pytest.fixture(scope="module")
def endpoint(demo: Platform) -> Iterator[str]:
    demo.client.apply(MANIFEST.encode())
    until(lambda: demo.client.endpoint("default", "broken").status.replicas_ready == 2, what="both replicas are ready")
    yield "broken"
    demo.client.delete_endpoint("default", "broken")


def faults(demo: Platform) -> dict[int, str]:
    """Return the faults by pid."""
    return {each.pid: each.fault for node in demo.client.nodes() for each in node.processes if each.fault}


def command(endpoint: str, duration: str) -> list[str]:
    options = ("--baseline", "1s", "--duration", duration, "--rps", "5", "--yes")
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
    arguments = ("gameday", "run", "replica-kill", "-e", endpoint, "--baseline", "1s", "--rps", "10", "--yes")
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
        command(endpoint, "5s"), env=demo.environment, capture_output=True, timeout=30, check=False
    )
    assert b"has a game day already" in refused.stderr
    assert faults(demo) == {pid: "hang"}, "a run that was refused ended what another one does"
    run.send_signal(signal.SIGINT)
    assert run.wait(20) != 0
    assert faults(demo) == {}
    assert not stands(pid)
    assert not own_keys(demo)


def test_the_fault_of_a_run_that_was_killed_ends_by_itself_and_its_key_expires(demo: Platform, endpoint: str) -> None:
    run, pid = begun(demo, endpoint, "3s")
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


def test_an_endpoint_that_is_not_marked_is_refused_with_what_to_do(demo: Platform) -> None:
    argv = [str(STOKER), "gameday", "run", "replica-kill", "--endpoint", "digits", "--yes"]
    done = subprocess.run(argv, env=demo.environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    assert "gameday: allowed" in done.stderr
    assert msgspec.json.decode(demo.cli("gameday", "list", "-o", "json"))["items"]
