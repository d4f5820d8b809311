"""What an incident does by itself on a whole platform, provoked by a game day or by load: it begins, is shown, helps,
and ends.

By name, `pytest bench/test_acts.py`: it takes half a minute to two, by how fast the machine is, and one more replica
stays for five minutes (core/enforce.py). `STOKER_ACTS=all` sees those acts too for which an endpoint must have served
well for some minutes, or its deploy is what is suspected first. All load follows what the replica was measured to do.
"""

import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from stoker.client.connection import Connection
from stoker.client.load import Ask, Load, Tally
from stoker.client.registration import Registration
from stoker.client.upload import push
from stoker.core.diagnose.incident import Incident
from stoker.types.remedies import ActKind
from tests.whole import conftest
from tests.whole.rig import STOKER, Platform, until

demo, fresh = conftest.demo, conftest.fresh  # fixtures
MODEL = """
import time
class Model:
    inputs = {"x": ("FP32", [-1, 1])}
    outputs = {"y": ("FP32", [-1, 1])}
    def predict(self, inputs):
        time.sleep(0.02 * len(inputs["x"]))
        return {"y": inputs["x"]}
"""
MEASURED = """
apiVersion: stoker/v1
kind: Endpoint
metadata: {{name: {name}}}
spec:
  model: {name}
  resources: {{cpu: 0.05, memory: 256Mi}}
"""
MANIFEST = (
    MEASURED
    + """\
  gameday: allowed
  replicas: {{min: {replicas}, max: 3}}
  slos: [{{name: fast, sli: latency, under: 250ms, target: 0.99}}]
  remedies: [{{do: {act}}}]
"""
)
ASKING_AT_ONCE = 16
PRESSED_S = 4.0
USUAL_S = 60.0  # of usual load, for an incident to be compared with
QUICK_S = 0.25
BODY = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
ALL = os.environ.get("STOKER_ACTS") == "all"


class Case(msgspec.Struct, frozen=True):
    """An act, and the game day that provokes it. share: of its probes, of what one replica does at most."""

    act: ActKind
    scenario: str
    share: float
    baseline_s: float
    replicas: int = 1

    @property
    def name(self) -> str:
        return f"act-{self.act}"


CASES = (
    # The noisy tenant asks twenty times as much as the probes: thrice what the replica does.
    Case("shed-sheddable", "noisy-tenant", 0.15, 6),
    *(
        (
            Case("restart", "replica-slow", 1.3, 270, replicas=2),
            Case("eject", "replica-slow", 1.3, 270, replicas=2),
        )
        if ALL
        else ()
    ),
)


def load(platform: Platform, name: str, rate: float, key: str = "") -> Load:
    """Return load of the endpoint, `rate` requests a second."""
    headers = {"Content-Type": "application/json"}
    ask = Ask(f"/v2/models/{name}/infer", json.dumps(BODY).encode(), headers)
    return Load(Connection(platform.url, key=key or platform.key), ask, rate)


@contextmanager
def everybody(platform: Platform, name: str, rate: float, keys: Sequence[str]) -> Iterator[list[Load]]:
    """Have several callers ask for `rate` requests a second together: what one asks more is a noisy tenant's."""
    loads = [load(platform, name, rate / len(keys), key) for key in keys]
    for each in loads:
        each.start(time.monotonic())
    try:
        yield loads
    finally:
        for each in loads:
            each.stop()


def capacity(platform: Platform, folder: Path) -> float:
    """Return how many requests a second a replica answers while ASKING_AT_ONCE wait for it all the time.

    Measured at an endpoint that promises nothing: it would be the incident, or what an incident is compared with.
    """
    name = "act-measured"
    with endpoint(platform, name, MEASURED.format(name=name), folder):
        return pressed(platform, name)


def pressed(platform: Platform, name: str) -> float:
    ask = load(platform, name, 1.0)
    end_s = time.monotonic() + PRESSED_S
    counts = [0] * ASKING_AT_ONCE

    def work(which: int) -> None:
        while time.monotonic() < end_s:
            ask.once()
            counts[which] += 1

    workers = [threading.Thread(target=work, args=(which,)) for which in range(ASKING_AT_ONCE)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.monotonic() - end_s + PRESSED_S)


@contextmanager
def gameday(platform: Platform, case: Case, rate: float) -> Iterator[None]:
    """Have the game day go on while the block runs, and be interrupted as by Ctrl-C."""
    lengths = ("--baseline", f"{case.baseline_s:g}s", "--duration", "300s", "--rps", f"{rate:g}")
    argv = [str(STOKER), "gameday", "run", case.scenario, "-e", case.name, *lengths, "--data", json.dumps(BODY), "-y"]
    run = subprocess.Popen(argv, env=platform.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        run.send_signal(signal.SIGINT)
        run.wait(60)


@contextmanager
def endpoint(platform: Platform, name: str, manifest: str, folder: Path, replicas: int = 1) -> Iterator[None]:
    folder.mkdir()
    (folder / "model.py").write_text(MODEL)
    push(platform.client, name, folder, Registration(files=()), lambda *_: None)
    platform.client.apply(manifest.encode())
    until(lambda: ready(platform, name) == replicas, 60, "it is ready")
    try:
        yield
    finally:
        platform.client.delete_endpoint("default", name)


def ready(platform: Platform, name: str) -> int:
    return platform.client.endpoint("default", name).status.replicas_ready


def incident(platform: Platform, name: str) -> Incident | None:
    mine = [each for each in platform.client.incidents() if each.endpoint == name]
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


@pytest.mark.timeout(900 if ALL else 240)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.act)
def test_an_incident_acts_by_itself_and_its_act_is_shown_and_ends(demo: Platform, tmp_path: Path, case: Case) -> None:
    rate = case.share * capacity(demo, tmp_path / "measured")
    manifest = MANIFEST.format(name=case.name, act=case.act, replicas=case.replicas)
    with endpoint(demo, case.name, manifest, tmp_path / "model", case.replicas):
        with gameday(demo, case, rate):
            found = until(lambda: incident(demo, case.name), case.baseline_s + 120, "the incident acts")
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


@pytest.mark.timeout(900)
def test_an_incident_scales_up_by_itself_and_back(fresh: Callable[[], Platform], tmp_path: Path) -> None:
    platform, name = fresh(), "act-scale-up"
    platform.up()
    most = capacity(platform, tmp_path / "measured")
    with endpoint(platform, name, MANIFEST.format(name=name, act="scale-up", replicas=1), tmp_path / "model"):
        new = lambda at: platform.client.create_key("default", f"k{at}", admin=False, expires_in_s=3600).key  # noqa: E731
        keys = [new(at) for at in range(4)]
        with everybody(platform, name, 0.3 * most, keys):
            time.sleep(USUAL_S)
            with everybody(platform, name, 1.1 * most, keys) as more:
                found = until(lambda: incident(platform, name), 180, "the incident acts")
                (act,) = found.acts
                assert (act.kind, act.is_in_force) == ("scale-up", True)
                assert act.because.startswith("overload")
                until(lambda: ready(platform, name) == 2, 90, "there is one replica more")
                since = max(more[0].tallies())
                until(lambda: is_quick(more[0].tallies(), since), 90, "callers are answered in time again")
        platform.cli("incidents", "close", str(found.number), "--because", "seen enough")
        until(lambda: ready(platform, name) == 1, 600, "it is one replica again")
        ended = platform.client.incident(found.number).acts[0]
        assert (ended.is_in_force, ended.outcome) == (False, "the incident is over")
        done = [entry.action for entry in platform.client.journal(endpoint=name)]
        assert [done.count(action) for action in ("Remedy", "RemedyEnded")] == [1, 1]
        print(platform.cli("incidents", "show", str(found.number)))
    platform.down()


def is_quick(seen: Mapping[int, Tally], since: int) -> bool:
    """Return whether in one of the seconds after `since` nearly everybody was answered, and quickly."""
    after = [tally for at, tally in seen.items() if at > since and tally.is_settled and tally.requests]
    return any(not tally.failed and tally.slow_s < QUICK_S for tally in after)
