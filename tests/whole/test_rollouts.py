"""Shipping a version on a real platform, under load: good ones arrive, bad ones go back, and no request is lost."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from stoker.app.home import Home
from stoker.client.connection import Connection
from stoker.client.registration import Registration
from stoker.client.rollouts import RolloutClient, RolloutDetail, Said
from stoker.client.upload import push
from stoker.types.errors import Conflict
from tests.whole.load import Load
from tests.whole.rig import WAIT_S, Platform, until

ADDER = """
import pathlib
import random
import time

def waits(gate):
    while pathlib.Path("{gates}", gate).exists():
        time.sleep(0.01)

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
    7: "waits('answer')",
    8: "time.sleep(0.004)",
    9: "time.sleep(0.004)",
}
LOAD = {
    4: "raise OSError('the weights are on another disk')",
    8: "waits('load')",
    9: "waits('load')",
}
# What the verdict needs in the median to find one that fails more (docs/benchmarks.md); a tenth is the canary's.
EXPOSED_MAX = 250
CANARY = {"strategy": "canary", "steps": [10, 50], "dwell": "1s", "requests_min": 100}
HALF = {"strategy": "canary", "steps": [50], "dwell": "1s", "requests_min": 20}
HOOKED = HALF | {"hooks": [{"webhook": "http://127.0.0.1:9/", "holds": True}]}
GATED = {"gates": {"profile": {"requests": 20, "latency_worse_max": 100}}}
# An endpoint for each phase that one is held in: the version before and after, the way, what is asked for besides.
HELD: dict[str, tuple[int, int, dict[str, Any], dict[str, Any]]] = {
    "gating": (1, 9, HOOKED, GATED),  # its model waits while it loads
    "awaiting": (1, 2, HOOKED, {}),
    "scaling": (1, 8, HALF, {}),  # its model too
    "paused": (1, 2, HALF | {"pause_at": [50]}, {}),
    "stepping": (1, 2, HALF | {"requests_min": 100}, {}),  # one asks a second: it would take minutes
    "keeping": (1, 2, {"strategy": "blue-green", "keep": "5m"}, {}),
    "reported": (1, 2, {"strategy": "a-b", "dwell": "1s", "requests_min": 20}, {}),
    "clearing": (7, 5, {"strategy": "recreate"}, {}),  # what has to go finishes what it was asked, which waits
}
ORDERS: dict[str, Said] = {"awaiting": "approve", "paused": "resume", "keeping": "abort", "reported": "promote"}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("rollouts")
    platform = Platform(folder / "home", gateways=2)
    platform.environment["STOKER_DRAIN"] = f"{WAIT_S:g}"  # nothing is cut that waits behind a gate
    (folder / "gates").mkdir()
    try:
        platform.up()
        for number, work in WORK.items():
            source = folder / f"adder{number}"
            source.mkdir()
            start = LOAD.get(number, "self.ready = True")
            text = ADDER.format(number=number, work=work, load=start, gates=folder / "gates")
            (source / "model.py").write_text(text)
            push(platform.client, "adder", source, Registration(files=()), lambda *_: None)
        other = folder / "other"
        other.mkdir()
        (other / "model.py").write_text(OTHER)
        push(platform.client, "adder", other, Registration(files=()), lambda *_: None)
        yield platform
    finally:
        platform.kill_everything()


def ask(
    platform: Platform, version: int, rollout: dict[str, Any], name: str = "adder", replicas: int = 2, **more: Any
) -> None:
    """Apply the endpoint with this version and this way to get there; its rollout is the newest when this returns."""
    before = numbers(platform, name)
    spec = {
        "model": f"adder@{version}",
        "replicas": {"min": replicas, "max": replicas},
        "resources": {"cpu": 0.05, "memory": "160Mi"},
        "rollout": rollout,
        **more,
    }
    manifest = {"apiVersion": "stoker/v1", "kind": "Endpoint", "metadata": {"name": name}, "spec": spec}
    platform.client.apply(json.dumps(manifest).encode())
    if rollout["strategy"] != "direct":
        until(lambda: numbers(platform, name) != before, "its rollout begins")


@pytest.fixture
def adder(one: Platform) -> Platform:
    """Version 1 serves, whatever the test before left."""
    ask(one, 1, {"strategy": "direct"})
    until(lambda: is_settled(one, "adder@1"), "version 1 serves")
    return one


def is_settled(platform: Platform, ref: str, name: str = "adder") -> bool:
    found = platform.client.endpoint("default", name)
    served = [each.model for each in found.revisions if each.revision == found.status.serving]
    progress = [each.reason for each in found.status.conditions if each.type == "Progressing"]
    return served == [ref] and progress == ["Complete"]


@contextmanager
def closed(platform: Platform, gate: str) -> Iterator[None]:
    """Have models wait at a gate within the block."""
    path = platform.home.parent / "gates" / gate
    path.touch()
    try:
        yield
    finally:
        path.unlink()


def rollouts(platform: Platform) -> RolloutClient:
    return RolloutClient(Connection(f"unix:{Home(platform.home).run / 'control-api.sock'}", platform.key))


def numbers(platform: Platform, name: str = "adder") -> list[int]:
    """Return the endpoint's rollouts, newest first."""
    return [each.number for each in rollouts(platform).everything("default", name)]


def newest(platform: Platform, name: str = "adder") -> RolloutDetail:
    """Return the newest rollout, whole."""
    return rollouts(platform).newest("default", name)


def load(platform: Platform, name: str = "adder", **settings: int) -> Load:
    return Load(f"{platform.url}/v2/models/{name}/infer", platform.key, ONE, **settings)


def ended(platform: Platform, phase: str) -> RolloutDetail:
    until(lambda: newest(platform).is_ended, lambda: f"the rollout ends: {newest(platform)}")
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
        traffic.pause_s = 0.02  # what comes between two looks of control is little, however seldom it looks
        ask(adder, 3, CANARY | {"requests_min": 1_000_000})
        found = ended(adder, "rolled-back")
        traffic.wait_for(200)
    assert exposed(found) <= EXPOSED_MAX, found.lines[:3]
    assert found.lines[0].metric == "error"
    assert traffic.outcome.failed() == {}, traffic.outcome  # tried again in the version before
    assert traffic.outcome.broken == 0
    until(lambda: adder.client.endpoint("default", "adder").status.replicas_ready == 2, "the old ones stay")


def test_a_version_that_does_not_load_is_rolled_back_with_its_own_words(adder: Platform) -> None:
    with load(adder) as traffic:
        ask(adder, 4, CANARY)
        found = ended(adder, "rolled-back")
    assert "the weights are on another disk" in found.because
    assert traffic.outcome.failed() == {}


def test_control_that_is_killed_in_any_phase_goes_on_with_it(one: Platform) -> None:
    """One kill for all phases, each of another endpoint: what is killed again and again is not started at once."""
    for phase, (before, _, _, _) in HELD.items():
        ask(one, before, {"strategy": "direct"}, phase, 1)
    for phase, (before, _, _, _) in HELD.items():
        until(lambda phase=phase, before=before: is_settled(one, f"adder@{before}", phase), f"{phase} serves")
    one.follows()
    with ExitStack() as stack:
        traffic = {phase: stack.enter_context(load(one, phase, connections=2)) for phase in HELD}
        for each in traffic.values():
            each.pause_s = 0.02
            each.wait_for(10)
        traffic["stepping"].pause_s = 2.0
        with closed(one, "load"):
            for phase in HELD:
                if phase != "clearing":
                    begins(one, phase)
            for phase in HELD:
                if phase != "clearing":
                    until(lambda phase=phase: newest(one, phase).phase == phase, f"{phase} of {phase}")
            with closed(one, "answer"):
                begins(one, "clearing")
                until(lambda: newest(one, "clearing").phase == "clearing", "the one before has something to finish")
                one.kill("control")
                until(one.client.is_ready, "control is back")
                assert {phase: newest(one, phase).phase for phase in HELD} == {phase: phase for phase in HELD}
        traffic["stepping"].pause_s = 0.02
        for phase in HELD:
            until(lambda phase=phase: goes_on(one, phase), lambda phase=phase: f"{phase}: {newest(one, phase)}")
    for phase, each in traffic.items():
        assert newest(one, phase).phase == ("rolled-back" if phase == "keeping" else "promoted"), newest(one, phase)
        assert each.outcome.failed() == {}, each.outcome
        assert each.outcome.broken == 0
        one.client.delete_endpoint("default", phase)


def begins(platform: Platform, phase: str) -> None:
    """Have the rollout begin that is held in that phase."""
    _, after, way, more = HELD[phase]
    ask(platform, after, way, phase, 1, **more)


def goes_on(platform: Platform, name: str) -> bool:
    """Say what the endpoint's rollout waits for; return whether it has ended."""
    found = newest(platform, name)
    if found.phase in ORDERS:
        with suppress(Conflict):  # it has heard it
            rollouts(platform).say("default", name, ORDERS[found.phase])
    return found.is_ended


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
        until(lambda: newest(adder).phase == "paused", "the canary has its share")
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
            until(lambda: is_settled(adder, f"adder@{other}"), "it serves")
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
            until(lambda: is_settled(adder, "adder@1"), lambda: f"version 1 serves again: {newest(adder)}")
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
