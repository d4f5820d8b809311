"""Shipping a version on a real platform, under load: good ones arrive, bad ones go back, and no request is lost."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from stoker.app.home import Home
from stoker.client.connection import Connection
from stoker.client.rollouts import RolloutClient, RolloutDetail
from tests.whole.load import Load
from tests.whole.rig import Platform, until

pytestmark = pytest.mark.timeout(300)

ADDER = """
import random
import time

class Model:
    inputs = {{"x": ("FP32", [-1, 1])}}
    outputs = {{"y": ("FP32", [-1, 1])}}

    def load(self, folder):
        {load}

    def predict(self, inputs):
        {work}
        return {{"y": inputs["x"] + {number}}}
"""
# What version 1 does, of a row of its own shape, in other datatypes, with names and outputs of its own.
OTHER = """
import numpy as np

class Model:
    inputs = {"features": ("FP64", [-1, 1, 1]), "plus": ("INT64", [-1])}
    outputs = {"debug": ("FP64", [-1]), "sums": ("FP64", [-1, 2])}

    def predict(self, inputs):
        x = inputs["features"]
        assert x.dtype == np.float64 and x.shape[1:] == (1, 1), x
        x = x[:, 0, 0]
        return {"debug": x, "sums": np.stack([x * 0, x + inputs["plus"]], axis=1)}
"""
MAPPING = {
    "inputs": {"features": {"from": "x", "datatype": "FP32", "shape": [-1, 1]}, "plus": {"value": 1}},
    "outputs": {
        "y": {"from": "sums", "datatype": "FP32", "take": {"axis": 1, "indices": [1]}},
        "debug": None,
    },
}
ONE = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
WORK = {
    1: "time.sleep(0.004)",
    2: "time.sleep(0.004)",
    3: "assert random.random() > 0.3, 'a bad model'",
    4: "pass",
    5: "time.sleep(0.004)",
    6: "time.sleep(0.004)",
    7: "time.sleep(1.5)",
    8: "time.sleep(0.004)",
    9: "time.sleep(0.004)",
}
LOAD = {
    4: "raise OSError('the weights are on another disk')",
    7: "time.sleep(1.5)",
    8: "time.sleep(1.5)",
    9: "time.sleep(1.5)",
}
# What the verdict needs in the median to find one that fails more (docs/benchmarks.md); a tenth is the canary's.
EXPOSED_MAX = 250
CANARY = {"strategy": "canary", "steps": [10, 50], "dwell": "1s", "requests_min": 100}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("rollouts")
    platform = Platform(folder / "home", gateways=2)
    try:
        platform.up()
        for number, work in WORK.items():
            source = folder / f"adder{number}"
            source.mkdir()
            text = ADDER.format(number=number, work=work, load=LOAD.get(number, "self.ready = True"))
            (source / "model.py").write_text(text)
            platform.cli("push", "adder", str(source))
        other = folder / "other"
        other.mkdir()
        (other / "model.py").write_text(OTHER)
        platform.cli("push", "adder", str(other))
        yield platform
    finally:
        platform.kill_everything()


def ask(platform: Platform, version: int, rollout: dict[str, Any], replicas: int = 2, **more: Any) -> None:
    """Apply the endpoint with this version and this way to get there; its rollout is the newest when this returns."""
    before = numbers(platform)
    spec = {
        "model": f"adder@{version}",
        "replicas": {"min": replicas, "max": replicas},
        "resources": {"cpu": 0.25, "memory": "300Mi"},
        "rollout": rollout,
        **more,
    }
    manifest = {"apiVersion": "stoker/v1", "kind": "Endpoint", "metadata": {"name": "adder"}, "spec": spec}
    platform.cli("apply", "-f", "-", stdin=json.dumps(manifest))
    if rollout["strategy"] != "direct":
        until(lambda: numbers(platform) != before, 30, "its rollout begins")


@pytest.fixture
def adder(one: Platform) -> Platform:
    """Version 1 serves, whatever the test before left."""
    ask(one, 1, {"strategy": "direct"})
    until(lambda: is_settled(one, "adder@1"), 60, "version 1 serves")
    return one


def is_settled(platform: Platform, ref: str) -> bool:
    described = platform.json("describe", "endpoint", "adder")
    served = [each for each in described["revisions"] if each["revision"] == described["status"]["serving"]]
    progress = next(each for each in described["status"]["conditions"] if each["type"] == "Progressing")
    return bool(served) and served[0]["model"] == ref and progress["reason"] == "Complete"


def rollouts(platform: Platform) -> RolloutClient:
    return RolloutClient(Connection(f"unix:{Home(platform.home).run / 'control-api.sock'}", platform.key))


def numbers(platform: Platform) -> list[int]:
    """Return the endpoint's rollouts, newest first."""
    return [each.number for each in rollouts(platform).everything("default", "adder")]


def newest(platform: Platform) -> RolloutDetail:
    """Return the newest rollout, whole."""
    return rollouts(platform).newest("default", "adder")


def load(platform: Platform, **settings: int) -> Load:
    return Load(f"{platform.url}/v2/models/adder/infer", platform.key, ONE, **settings)


def ended(platform: Platform, phase: str, timeout_s: float = 60.0) -> RolloutDetail:
    until(lambda: newest(platform).is_ended, timeout_s, lambda: f"the rollout ends: {newest(platform)}")
    found = newest(platform)
    assert found.phase == phase, found.because
    return found


def exposed(found: RolloutDetail) -> int:
    """Return how many requests the canary had."""
    return max((each.canary.total for each in found.lines if each.canary is not None), default=0)


def test_a_good_version_goes_through_its_steps_and_no_request_is_lost(adder: Platform) -> None:
    with load(adder) as traffic:
        traffic.wait_for(200)
        ask(adder, 2, CANARY)
        found = ended(adder, "promoted")
        traffic.wait_for(200)
    assert traffic.outcome.failed() == {}, traffic.outcome
    assert traffic.outcome.broken == 0
    weights = [each.weight for each in found.timeline if each.event == "ready"]
    assert weights == [10, 50]


def test_a_bad_version_is_rolled_back_by_itself(adder: Platform) -> None:
    """Slow and crashing ones: bench/rollouts.py."""
    with load(adder) as traffic:
        traffic.wait_for(500)
        ask(adder, 3, CANARY | {"requests_min": 1_000_000})
        found = ended(adder, "rolled-back")
        traffic.wait_for(200)
    assert exposed(found) <= EXPOSED_MAX, found.lines[:3]
    assert found.lines[0].metric == "error"
    assert traffic.outcome.failed() == {}, traffic.outcome  # tried again in the version before
    assert traffic.outcome.broken == 0
    until(lambda: adder.json("describe", "endpoint", "adder")["status"]["replicas_ready"] == 2, 30, "the old ones stay")


def test_a_version_that_does_not_load_is_rolled_back_with_its_own_words(adder: Platform) -> None:
    with load(adder) as traffic:
        ask(adder, 4, CANARY)
        found = ended(adder, "rolled-back", 90)
    assert "the weights are on another disk" in found.because
    assert traffic.outcome.failed() == {}


def test_control_that_is_killed_in_any_phase_goes_on_with_it(adder: Platform) -> None:
    def dies_in(phase: str) -> None:
        until(lambda: newest(adder).phase == phase, 60, lambda: f"{phase}: {newest(adder)}")
        adder.kill("control")
        until(adder.client.is_ready, 30, "control is back")

    with load(adder) as traffic:
        traffic.wait_for(200)
        ask(adder, 8, CANARY | {"pause_at": [10], "dwell": "3s"})
        dies_in("scaling")  # it loads for a while
        dies_in("paused")
        adder.cli("rollouts", "resume", "adder")
        dies_in("stepping")
        ended(adder, "promoted")
        ask(adder, 5, {"strategy": "blue-green", "keep": "5m"})
        dies_in("keeping")
        adder.cli("rollouts", "abort", "adder")
        ended(adder, "rolled-back")
        ask(adder, 6, {"strategy": "a-b", "dwell": "1s", "requests_min": 50})
        dies_in("reported")
        adder.cli("rollouts", "promote", "adder")
        ended(adder, "promoted")
    assert traffic.outcome.failed() == {}, traffic.outcome
    assert traffic.outcome.broken == 0


def test_control_that_is_killed_before_the_traffic_and_while_nothing_serves_goes_on_too(adder: Platform) -> None:
    """The phases before a canary has anything, and the one in which what served finishes."""

    def dies_in(phase: str) -> None:
        until(lambda: newest(adder).phase == phase, 60, lambda: f"{phase}: {newest(adder)}")
        adder.kill("control")
        until(adder.client.is_ready, 30, "control is back")

    hook = {"webhook": "http://127.0.0.1:9/", "holds": True}
    with load(adder) as traffic:
        traffic.wait_for(200)
        gates = {"profile": {"requests": 20, "latency_worse_max": 100}}
        ask(adder, 9, {"strategy": "canary", "steps": [10], "hooks": [hook]}, gates=gates)
        dies_in("gating")  # its replica loads for a while
        dies_in("awaiting")
        adder.cli("rollouts", "approve", "adder")
        until(lambda: newest(adder).phase == "stepping", 60, "it goes on")
        adder.cli("rollouts", "promote", "adder")
        ended(adder, "promoted")
        ask(adder, 7, {"strategy": "direct"})
        until(lambda: is_settled(adder, "adder@7"), 60, "the slow one serves")
        # As it never served: a way back would take no steps. What has to go finishes what it was asked.
        ask(adder, 5, {"strategy": "recreate"}, resources={"cpu": 0.25, "memory": "310Mi"})
        dies_in("clearing")
        ended(adder, "promoted")
    assert traffic.outcome.failed() == {}, traffic.outcome
    assert traffic.outcome.broken == 0


def test_recreate_holds_requests_while_neither_version_runs(adder: Platform) -> None:
    with load(adder) as traffic:
        traffic.wait_for(200)
        ask(adder, 2, {"strategy": "recreate"})
        found = ended(adder, "promoted")
        traffic.wait_for(200)
    assert "clearing" in [each.phase for each in found.timeline]
    assert traffic.outcome.failed() == {}, traffic.outcome
    assert traffic.outcome.broken == 0


def test_a_rollback_with_control_gone_is_the_gateways_and_control_obeys_it_later(adder: Platform) -> None:
    with load(adder) as traffic:
        traffic.wait_for(200)
        ask(adder, 2, CANARY | {"pause_at": [10], "requests_min": 1_000_000})
        until(lambda: newest(adder).phase == "paused", 60, "the canary has its share")
        control = adder.pid("control")
        os.kill(control, signal.SIGSTOP)
        try:
            said = adder.cli("rollback", "adder")
        finally:
            os.kill(control, signal.SIGCONT)
        assert "gateway" in said
        found = ended(adder, "rolled-back")
        traffic.wait_for(100)
    assert "by itself" in found.because or "asked to" in found.because
    assert traffic.outcome.failed() == {}, traffic.outcome


def seen(platform: Platform) -> dict[str, Any]:
    """Return what the data plane says of the endpoint's schema."""
    headers = {"Authorization": f"Bearer {platform.key}"}
    with urlopen(Request(f"{platform.url}/v2/models/adder", headers=headers)) as answer:
        told: dict[str, Any] = json.load(answer)
    return {side: told[side] for side in ("inputs", "outputs")}


def outputs(said: set[str]) -> list[Any]:
    """Return the different outputs in answers, whichever version gave them."""
    return [json.loads(each) for each in {json.dumps(json.loads(text)["outputs"]) for text in said}]


def test_a_version_of_another_schema_is_released_under_clients_that_never_change(
    adder: Platform, tmp_path: Path
) -> None:
    """Through every gate and a canary, back, and through a shadow, all on the schema that clients know."""
    other = len(WORK) + 1
    golden = tmp_path / "golden.jsonl"
    golden.write_text("\n".join(json.dumps({"input": [at], "expected": {"y": [at + 1.0]}}) for at in range(20)))
    gates = {"golden": {"at_most": 0.001}, "profile": {"requests": 20, "latency_worse_max": 100}}
    known = seen(adder)
    try:
        with load(adder) as traffic:
            traffic.wait_for(100)
            ask(adder, other, CANARY)
            assert "say in spec.mapping what becomes of their tensors" in ended(adder, "refused").because
            adder.cli("golden", "set", "adder", str(golden))
            ask(adder, other, CANARY | {"steps": [50]}, gates=gates, mapping=MAPPING)
            ended(adder, "promoted")
            until(lambda: is_settled(adder, f"adder@{other}"), 60, "it serves")
            assert seen(adder) == known
            dossier = adder.json("release", "show", "adder")["dossier"]
            found = {each["kind"]: each for each in dossier["results"]}
            assert [found[kind]["state"] for kind in ("schema", "golden", "profile")] == ["passed"] * 3
            assert "by spec.mapping: input features = x as clients send it, FP32[-1, 1]" in found["schema"]["because"]
            page = adder.cli("describe", "adder")
            assert "plus = the constant 1" in page
            assert "debug is dropped" in page
            traffic.wait_for(100)
            adder.cli("rollback", "adder")
            until(lambda: is_settled(adder, "adder@1"), 60, lambda: f"version 1 serves again: {newest(adder)}")
            assert adder.client.endpoint("default", "adder").resource.spec.mapping is None
            shadow = {"strategy": "shadow", "dwell": "1s", "requests_min": 100, "mirror": {"ratio": 1.0}}
            ask(adder, other, shadow, gates=gates, mapping=MAPPING)
            compared = ended(adder, "promoted")
            traffic.wait_for(100)
    finally:
        adder.cli("golden", "remove", "adder")
    line = next(each for each in compared.lines if each.metric == "disagreement")
    assert line.canary is not None
    assert (line.canary.bad, line.canary.total >= 100) == (0, True)
    assert traffic.outcome.failed() == {}, traffic.outcome
    assert traffic.outcome.broken == 0
    assert outputs(traffic.outcome.said) == [[{"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [2]}]]
    assert {json.loads(each)["model_version"] for each in traffic.outcome.said} == {"1", str(other)}
