"""Changing what runs, under load: new versions, broken versions, rollback, scaling, deletion."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.types.statuses import Condition
from tests.whole.load import Load
from tests.whole.rig import Platform, until

ADDER = """
class Model:
    inputs = {{"x": ("FP32", [-1, 1])}}
    outputs = {{"y": ("FP32", [-1, 1])}}

    def load(self, folder):
        {load}

    def predict(self, inputs):
        if inputs["x"].max() > 1000:
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
        return {{"y": inputs["x"] + {number}}}
"""
DIRECT = ("--strategy", "direct", "--wait")  # what rollouts with steps do: test_rollouts.py
ONE = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
KILLER = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1001.0]}]}


def push(platform: Platform, folder: Path, number: int, load: str = "self.ready = True") -> None:
    source = folder / f"adder{number}"
    source.mkdir()
    (source / "model.py").write_text(ADDER.format(number=number, load=load))
    platform.cli("push", "adder", str(source))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with two versions of a model that adds registered."""
    folder = tmp_path_factory.mktemp("changes")
    platform = Platform(folder / "home", gateways=2)
    try:
        platform.up()
        push(platform, folder, 1)
        push(platform, folder, 2)
        yield platform
    finally:
        platform.kill_everything()


@pytest.fixture
def adder(one: Platform) -> Platform:
    """The platform with version 1, which adds 1, on two replicas, whatever the test before left."""
    one.cli("deploy", "adder", "--model", "adder@1", "--replicas", "2", "--cpu", "0.25", *DIRECT)
    return one


def load(platform: Platform, body: dict[str, Any] = ONE, **settings: int) -> Load:
    return Load(f"{platform.url}/v2/models/adder/infer", platform.key, body, **settings)


def conditions(platform: Platform) -> dict[str, Condition]:
    return {each.type: each for each in platform.client.endpoint("default", "adder").status.conditions}


def test_a_new_version_a_rollback_and_scaling_lose_no_request(adder: Platform) -> None:
    with load(adder) as traffic:
        traffic.wait_for(100)
        for command in (
            ["deploy", "adder", "--model", "adder@2", "--wait"],
            ["rollback", "adder"],
            ["deploy", "adder", "--replicas", "1", "--wait"],
            ["deploy", "adder", "--replicas", "3", "--wait"],
        ):
            adder.cli(*command)
            traffic.wait_for(100)
    assert traffic.outcome.failed() == {}, traffic.outcome
    assert traffic.outcome.broken == 0


def test_a_version_that_does_not_load_never_takes_traffic_and_says_why(adder: Platform, tmp_path: Path) -> None:
    push(adder, tmp_path, 3, load="raise OSError('the weights are on another disk')")
    with load(adder) as traffic:
        traffic.wait_for(50)
        adder.cli("deploy", "adder", "--model", "adder@3")
        until(
            lambda: "the weights are on another disk" in conditions(adder)["Progressing"].message,
            "the model's own words in the conditions",
        )
        traffic.wait_for(100)
        assert conditions(adder)["Ready"].status is True
        adder.cli("deploy", "adder", "--model", "adder@2", "--wait")  # the way out is to deploy something that works
        traffic.wait_for(50)
    assert traffic.outcome.failed() == {}, traffic.outcome


def test_a_request_that_kills_the_engine_is_refused_and_the_others_never_notice(adder: Platform) -> None:
    with load(adder) as innocent:
        innocent.wait_for(100)
        with load(adder, KILLER, connections=1) as killer:
            until(lambda: killer.outcome.statuses[422] >= 3, f"422 for the killer: {killer.outcome}")
        innocent.wait_for(200)
    assert innocent.outcome.failed() == {}, innocent.outcome
    assert innocent.outcome.broken == 0
    assert set(killer.outcome.statuses) == {422}, killer.outcome


def test_an_endpoint_that_cannot_fit_says_so_with_the_arithmetic(adder: Platform) -> None:
    with pytest.raises(AssertionError, match="no node can ever take a replica: needs 64"):
        adder.cli("deploy", "adder", "--model", "adder@2", "--cpu", "64")
    most = adder.json("get", "nodes")["items"][0]["cores"]
    adder.cli("deploy", "adder", "--model", "adder@2", "--cpu", str(most))
    until(lambda: f"needs {most:.1f} cores" in conditions(adder)["Progressing"].message, "the arithmetic")
    assert conditions(adder)["Ready"].status is True


def test_a_deleted_endpoint_drains_then_is_gone_everywhere(adder: Platform) -> None:
    with load(adder) as traffic:
        traffic.wait_for(100)
        adder.cli("delete", "endpoint", "adder")
        until(lambda: not [p for p in adder.processes() if p.name.startswith("default.adder")], "no replica")
    assert set(traffic.outcome.statuses) <= {200, 404}, traffic.outcome
    assert adder.json("get", "endpoints")["items"] == []
