"""Everything killed at once, at random moments, again and again: the next start repairs what it finds."""

import json
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stoker.client.registration import Registration
from stoker.client.upload import push
from stoker.types.errors import StokerError
from tests.whole.load import Load
from tests.whole.rig import Platform, until

# A few in the suite; `STOKER_KILL_ROUNDS=30` for the long run (make chaos).
ROUNDS = int(os.environ.get("STOKER_KILL_ROUNDS", "5"))
SEED = int(os.environ.get("STOKER_KILL_SEED", "0")) or random.SystemRandom().randrange(1 << 30)

pytestmark = pytest.mark.timeout(300 + 200 * ROUNDS)


class Writer:
    """Pushes versions and applies endpoints in a loop; remembers what the platform acknowledged."""

    def __init__(self, platform: Platform, folder: Path, first: int) -> None:
        self.platform = platform
        self.folder = folder
        self.number = first
        self.acknowledged_versions: set[str] = set()
        self.acknowledged_endpoints: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(300)
        assert not self._thread.is_alive()

    def _loop(self) -> None:
        while not self._stop.is_set():
            self.number += 1
            name, folder = f"echo-{self.number}", self.folder / f"v{self.number}"
            folder.mkdir()
            (folder / "model.py").write_text(PYTHON_MODEL.format(number=self.number))
            try:
                push(self.platform.client, name, folder, Registration(files=()), lambda *_: None)
                self.acknowledged_versions.add(name)
                self.platform.client.apply(json.dumps(endpoint(name)).encode())
                self.acknowledged_endpoints.add(name)
            except StokerError:
                time.sleep(0.05)  # it is down; what was not acknowledged may or may not be there


def endpoint(name: str) -> dict[str, object]:
    """Return the manifest of an endpoint that has no replica."""
    spec = {"model": f"{name}@1", "task": "predict", "replicas": {"min": 0}}
    return {"apiVersion": "stoker/v1", "kind": "Endpoint", "metadata": {"name": name}, "spec": spec}


PYTHON_MODEL = """
class Model:
    inputs = {{"x": ("FP32", [-1, 1])}}
    outputs = {{"y": ("FP32", [-1, 1])}}

    def load(self, folder):
        self.number = {number}

    def predict(self, inputs):
        return {{"y": inputs["x"] + self.number}}
"""


def test_everything_killed_at_random_moments_leaves_a_state_that_the_next_start_repairs(
    fresh: Callable[..., Platform], digits_model: str, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    platform = fresh(gateways=2)
    platform.up()
    platform.cli("push", "digits", digits_model)
    platform.cli("deploy", "digits", "--model", "digits@1", "--cpu", "0.5", "--wait")
    versions, endpoints, number = {"digits"}, {"digits"}, 0
    for turn in range(ROUNDS):
        where = f"seed {SEED}, round {turn}"
        pause_s = chance.uniform(0.0, 1.0)
        url = f"{platform.url}/v2/models/digits/infer"
        with Load(url, platform.key, connections=4), Writer(platform, tmp_path, number) as writer:
            time.sleep(pause_s)
            platform.kill_everything()
        number = writer.number
        versions |= writer.acknowledged_versions
        endpoints |= writer.acknowledged_endpoints
        assert platform.processes() == [], where
        platform.up()
        with Load(url, platform.key, connections=2) as traffic:
            until(lambda traffic=traffic: traffic.outcome.statuses[200] > 20, f"{where}: digits answers again")
        there = {version.name for version in platform.client.models()}
        assert versions <= there, f"{where}: lost versions {versions - there}"
        there = {view.name for view in platform.client.endpoints()}
        assert endpoints <= there, f"{where}: lost endpoints {endpoints - there}"
        platform.database_is_sound()
    platform.down()
    assert platform.processes() == [], f"seed {SEED}"
    assert list((platform.home / "tmp").iterdir()) == [], f"seed {SEED}"
