"""Endpoints behind endpoints on a real platform: what apply refuses, what the loop makes, what gateways answer."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.control.rig import Rig, conditions, endpoint, infer, until
from tests.control.test_platform import READY_S, Load, apply, replica_processes, wait_settled

MANIFEST = b"""kind: Endpoint
metadata: {name: front}
spec:
  backends:
    - endpoint: small
    - endpoint: big
      when: request.bytes > 1000
---
kind: Endpoint
metadata: {name: small}
spec:
  model: m@1
  resources: {cpu: 0.25, memory: 256Mi}
  fallback:
    - front
    - nobody
---
kind: Endpoint
metadata: {name: big}
spec: {model: m@2, fallback: [big], resources: {cpu: 0.25, memory: 256Mi}}
"""


def tier(name: str, *backends: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"kind": "Endpoint", "metadata": {"name": name}, "spec": {"backends": list(backends), **spec}}


def test_what_does_not_fit_together_is_refused_with_its_line_and_nothing_is_stored(
    rig: Rig, onnx_files: list[Path]
) -> None:
    rig.start()
    for file in onnx_files[:2]:
        rig.push("m", file)
    status, body, _ = rig.request("POST", "/api/v1/apply", MANIFEST)
    assert status == 400
    assert [(each["line"], each["field"], each["message"]) for each in body["error"]["details"]] == [
        (5, "spec.backends[0].endpoint", "front: a cycle: front → small → front"),
        (15, "spec.fallback[0]", "small: a cycle: small → front → small"),
        (16, "spec.fallback[1]", "small: there is no endpoint 'nobody' in the project; known: big, front"),
        (20, "spec.fallback[0]", "big: big names itself"),
    ]
    assert not rig.client.endpoints()
    apply(rig, endpoint("b", "m@1"))
    apply(rig, endpoint("a", "m@1", fallback=["b"]))
    status, body, _ = rig.request("POST", "/api/v1/apply", endpoint("b", "m@1", fallback=["a"]))
    assert status == 400
    assert "a cycle: b → a → b" in body["error"]["message"], "also over several manifests"
    status, body, _ = rig.request("DELETE", "/api/v1/projects/default/endpoints/b")
    assert (status, body["error"]["code"]) == (409, "conflict")
    assert body["error"]["message"].startswith("endpoint 'b' serves for a;")
    for name in ("a", "b"):
        assert rig.request("DELETE", f"/api/v1/projects/default/endpoints/{name}")[0] == 202


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, onnx_files: list[Path]) -> Iterator[Rig]:
    """A platform with small (times 4) and big (times 8, falls back to small)."""
    rig = Rig(tmp_path_factory.mktemp("chains") / "h")
    try:
        yield ready(rig, onnx_files)
    finally:
        rig.close()


def ready(rig: Rig, onnx_files: list[Path]) -> Rig:
    rig.start_agent()
    for file in onnx_files:
        rig.push("m", file)
    for name, model in (("small", "m@1"), ("big", "m@2")):
        apply(rig, endpoint(name, model, fallback=["small"] if name == "big" else []))
    for name in ("small", "big"):
        wait_settled(rig, f"default.{name}-1", name)
    return rig


def test_a_tier_has_no_replicas_follows_its_backends_and_a_killed_one_costs_no_request(platform: Rig) -> None:
    rig = platform
    apply(rig, tier("front", {"endpoint": "small"}, {"endpoint": "big", "when": "request.method == 'infer'"}))
    until(lambda: is_ready(rig, "front"), "a backend is ready")
    detail = rig.client.endpoint("default", "front")
    assert (detail.revisions, detail.replicas, detail.status.replicas_wanted) == ((), (), 0)
    assert conditions(rig, "front")["Ready"].message == "2 of 2 backends ready: small, big"
    until(lambda: served(rig, "front") and infer(rig, "front")[0] == 8.0, "the gateway sees big ready")
    with Load(rig, "front") as load:
        until(lambda: load.values[8.0] > 20, "big serves")
        killed: set[int] = set()
        until(lambda: kill_big(rig, killed) and load.values[4.0] > 0, lambda: f"small serves for big: {load}")
        seen = load.values[8.0]
        until(lambda: load.values[8.0] > seen + 20, lambda: f"big serves again: {load}", READY_S)
    assert load.failures == []


def kill_big(rig: Rig, killed: set[int]) -> bool:
    """Kill big's replica, also the next one: on a busy machine that could be back before anybody asked."""
    for name, pid in replica_processes(rig).items():
        if name.startswith("default.big") and pid not in killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
    return bool(killed)


def test_an_endpoint_becomes_a_tier_and_a_model_again_without_losing_a_request(platform: Rig) -> None:
    rig = platform
    apply(rig, endpoint("a", "m@3"))
    wait_settled(rig, "default.a-1")
    until(lambda: served(rig, "a"), "the gateway knows it")
    with Load(rig, "a") as load:
        until(lambda: load.values[12.0] > 20, "its model serves")
        apply(rig, tier("a", {"endpoint": "small"}))
        until(lambda: load.values[4.0] > 20, "its backend serves")
        until(lambda: not any(name.startswith("default.a") for name in replica_processes(rig)), "its own are gone")
    assert load.failures == []
    rig.client.rollback("default", "a", None)
    until(lambda: served(rig, "a") and infer(rig, "a")[0] == 12.0, "its model serves again", READY_S)
    assert rig.client.endpoint("default", "a").resource.spec.backends == ()


def is_ready(rig: Rig, name: str) -> bool:
    found = conditions(rig, name)
    return "Ready" in found and found["Ready"].status


def served(rig: Rig, name: str) -> bool:
    try:
        infer(rig, name)
    except (AssertionError, OSError):
        return False
    return True
