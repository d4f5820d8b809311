"""What an incident does by itself on a whole platform, provoked by a game day: it begins, is shown, helps, and ends.

By name, `pytest bench/test_acts.py`: it takes half a minute to two, by how fast the machine is. `STOKER_ACTS=all` sees
those acts too for which an endpoint must have served well for some minutes, or its deploy is what is suspected first.
"""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from stoker.client.registration import Registration
from stoker.client.upload import push
from stoker.core.diagnose.incident import Incident
from stoker.types.remedies import ActKind
from tests.whole import conftest
from tests.whole.rig import STOKER, Platform, until

demo = conftest.demo  # a fixture
MODEL = """
import time
class Model:
    inputs = {"x": ("FP32", [-1, 1])}
    outputs = {"y": ("FP32", [-1, 1])}
    def predict(self, inputs):
        time.sleep(0.02 * len(inputs["x"]))
        return {"y": inputs["x"]}
"""
MANIFEST = """
apiVersion: stoker/v1
kind: Endpoint
metadata: {{name: {name}}}
spec:
  model: {name}
  gameday: allowed
  replicas: {{min: {replicas}, max: 3}}
  resources: {{cpu: 0.05, memory: 256Mi}}
  slos: [{{name: fast, sli: latency, under: 250ms, target: 0.99}}]
  remedies: [{{do: {act}}}]
"""
BODY = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
ALL = os.environ.get("STOKER_ACTS") == "all"


class Case(msgspec.Struct, frozen=True):
    """An act, and the game day that provokes it. rate: of its probes."""

    act: ActKind
    scenario: str
    rate: float
    baseline_s: float
    replicas: int = 1

    @property
    def name(self) -> str:
        return f"act-{self.act}"


CASES = (
    Case("shed-sheddable", "noisy-tenant", 6, 6),
    *(
        (
            Case("restart", "replica-slow", 65, 270, replicas=2),
            Case("eject", "replica-slow", 65, 270, replicas=2),
        )
        if ALL
        else ()
    ),
)


@contextmanager
def gameday(platform: Platform, case: Case) -> Iterator[None]:
    """Have the game day go on while the block runs, and be interrupted as by Ctrl-C."""
    lengths = ("--baseline", f"{case.baseline_s:g}s", "--duration", "300s", "--rps", f"{case.rate:g}")
    argv = [str(STOKER), "gameday", "run", case.scenario, "-e", case.name, *lengths, "--data", json.dumps(BODY), "-y"]
    run = subprocess.Popen(argv, env=platform.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        run.send_signal(signal.SIGINT)
        run.wait(60)


@contextmanager
def endpoint(platform: Platform, case: Case, folder: Path) -> Iterator[None]:
    folder.mkdir()
    (folder / "model.py").write_text(MODEL)
    push(platform.client, case.name, folder, Registration(files=()), lambda *_: None)
    manifest = MANIFEST.format(name=case.name, act=case.act, replicas=case.replicas)
    platform.client.apply(manifest.encode())
    ready = lambda: platform.client.endpoint("default", case.name).status.replicas_ready == case.replicas  # noqa: E731
    until(ready, 60, "it is ready")
    try:
        yield
    finally:
        platform.client.delete_endpoint("default", case.name)


def incident(platform: Platform, case: Case) -> Incident | None:
    mine = [each for each in platform.client.incidents() if each.endpoint == case.name]
    return mine[0] if mine and mine[0].acts else None


def asked(platform: Platform, case: Case, **headers: str) -> int:
    """Send a request of the endpoint and return the status."""
    headers |= {"Authorization": f"Bearer {platform.key}", "Content-Type": "application/json"}
    url = f"{platform.url}/v2/models/{case.name}/infer"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(BODY).encode(), headers), timeout=60) as it:
            return int(it.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def is_in_force(platform: Platform, case: Case) -> bool:
    """Return whether something of an act that is over is left."""
    seen = platform.client.endpoint("default", case.name)
    if case.act == "shed-sheddable":
        return asked(platform, case, **{"x-stoker-priority": "sheddable"}) != 200
    return bool(seen.status.out)


def is_made_true(platform: Platform, case: Case, found: Incident) -> bool:
    """Return whether what the act says is so."""
    seen = platform.client.endpoint("default", case.name)
    match case.act:
        case "restart":
            return found.acts[0].subject not in {each.replica for each in seen.replicas}
        case "eject":
            return seen.status.out == (found.acts[0].subject,)
        case _:
            return asked(platform, case, **{"x-stoker-priority": "sheddable"}) in (429, 503)


@pytest.mark.timeout(900 if ALL else 150)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.act)
def test_an_incident_acts_by_itself_and_its_act_is_shown_and_ends(demo: Platform, tmp_path: Path, case: Case) -> None:
    with endpoint(demo, case, tmp_path / "model"):
        with gameday(demo, case):
            found = until(lambda: incident(demo, case), case.baseline_s + 120, "the incident acts")
            (act,) = found.acts
            assert act.kind == case.act
            until(lambda: is_made_true(demo, case, found), 60, "what it does is so")
            said = " ".join(demo.cli("why", case.name).split())
            assert "What it did by itself" in said
            assert act.what in said
            described = " ".join(demo.cli("describe", case.name).split())
            assert f"Remedy incident {found.number}, act 1: {act.what}" in described
        demo.cli("incidents", "close", str(found.number), "--because", "seen enough")

        def over() -> bool:
            return not any(each.is_in_force for each in demo.client.incident(found.number).acts)

        until(over, 60, "it ends")
        until(lambda: not is_in_force(demo, case), 60, "nothing of it is left")
    done = [entry.action for entry in demo.client.journal(endpoint=case.name)]
    assert [done.count(action) for action in ("Remedy", "RemedyEnded")] == [1, 1]
    shown = demo.cli("incidents", "show", str(found.number))
    assert "act 1 is over after" in " ".join(shown.split())
    print(shown)
