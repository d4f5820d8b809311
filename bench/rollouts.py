"""Shipping versions on a live platform under load: bad ones taken back by themselves, and nothing lost on the way.

Bad ones fail three in ten, take five times as long, or crash: how many requests the bad revision had before it lost its
traffic, and how many answers a client saw that the platform owes. Then ROUNDS rollouts and as many rollbacks.
"""

import json
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from bench.figures import Figure
from bench.report import Section
from bench.rounds import say
from bench.up import Platform
from stoker.client.connection import Connection
from stoker.client.control import ControlClient
from stoker.client.rollouts import RolloutClient, RolloutDetail
from stoker.types.errors import NotFound
from tests.whole.load import Load

SHARE: Final = 0.1
# Requests in the median until each kind is found (bench/verdict.py), of which SHARE come to the canary.
DETECTED: Final = {"fails 3 in 10": 2_500, "takes 5 times as long": 2_000, "crashes": 2_500}
MODELS: Final = {
    "good": "time.sleep(0.004)",
    "good too": "time.sleep(0.004 + 0)",
    "fails 3 in 10": "assert random.random() > 0.3, 'a bad model'",
    "takes 5 times as long": "time.sleep(0.02)",
    "crashes": "random.random() > 0.05 or os.kill(os.getpid(), signal.SIGKILL)",
}
MODEL: Final = """
import os, random, signal, time

class Model:
    inputs = {{"x": ("FP32", [-1, 1])}}
    outputs = {{"y": ("FP32", [-1, 1])}}

    def load(self, folder):
        self.ready = True

    def predict(self, inputs):
        {work}
        return {{"y": inputs["x"]}}
"""
ONE: Final = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
CONNECTIONS: Final = 8
ENDS_S: Final = 180.0


def measure(*, rounds: int) -> Section:
    """Return the figures."""
    figures: list[Figure] = []
    rows = [["canary", "ended", "its requests", "seconds", "answers that were not 200", "why"]]
    with tempfile.TemporaryDirectory() as folder, Platform(gateways=2) as platform:
        platform.up()
        for name, work in MODELS.items():
            source = Path(folder) / name
            source.mkdir()
            (source / "model.py").write_text(MODEL.format(work=work))
            platform.cli("push", "adder", str(source))
        client = RolloutClient(Connection(f"unix:{platform.home.run / 'control-api.sock'}", platform.key))
        _ask(platform, 1, {"strategy": "direct"})
        path = "/v2/models/adder/infer"
        platform.wait_for(path, json.dumps(ONE).encode())
        _serves(client)
        for number, name in enumerate(MODELS, 1):
            if name in DETECTED:
                with Load(platform.url + path, platform.key, ONE, connections=CONNECTIONS) as load:
                    load.wait_for(1_000)
                    found = _ship(platform, client, number)
                    load.wait_for(200)
                figures += _bad(name, found, load, rows)
        lost, count = _back_and_forth(platform, client, rounds)
        figures.append(
            Figure(f"answers lost in {rounds} rollouts and {rounds} rollbacks", lost, "", 0, "at most", count)
        )
    return Section("Rollouts, live", figures, {"": rows})


def _ask(platform: Platform, version: int, rollout: dict[str, object]) -> None:
    spec = {
        "model": f"adder@{version}",
        "replicas": {"min": 2, "max": 2},
        "resources": {"cpu": 0.25, "memory": "300Mi"},
        "rollout": rollout,
    }
    manifest = {"apiVersion": "stoker/v1", "kind": "Endpoint", "metadata": {"name": "adder"}, "spec": spec}
    platform.cli("apply", "-f", "-", stdin=json.dumps(manifest))


def _serves(client: RolloutClient) -> None:
    """Wait until control has written down what serves: a change before would replace it, without a rollout."""
    ends_s = time.monotonic() + ENDS_S
    while not ControlClient(client.connection).endpoint("default", "adder").status.serving:
        if time.monotonic() > ends_s:
            raise RuntimeError(f"nothing serves within {ENDS_S:.0f} s")
        time.sleep(0.05)


def _ship(platform: Platform, client: RolloutClient, version: int) -> RolloutDetail:
    """Ship a version as a canary that only its verdict can end, and return how it ended."""
    before = max((each.number for each in client.everything("default", "adder")), default=0)
    _ask(platform, version, {"strategy": "canary", "steps": [round(SHARE * 100)], "requests_min": 1_000_000})
    return _ended(client, before)


def _ended(client: RolloutClient, after: int) -> RolloutDetail:
    ends_s = time.monotonic() + ENDS_S
    while time.monotonic() < ends_s:
        with suppress(NotFound):  # the first begins with control's next turn
            found = client.newest("default", "adder")
            if found.number > after and found.is_ended:
                return found
        time.sleep(0.05)
    raise RuntimeError(f"the rollout has not ended within {ENDS_S:.0f} s")


def _bad(name: str, found: RolloutDetail, load: Load, rows: list[list[str]]) -> list[Figure]:
    had = max((each.canary.total for each in found.lines if each.canary is not None), default=0)
    # A failed answer of a bad model is the model's; any other is the platform's.
    owed = sum(count for status, count in load.outcome.failed().items() if status != 500) + load.outcome.broken
    took_s = found.ended_s - found.began_s
    rows.append([name, found.phase, str(had), f"{took_s:.1f}", str(load.outcome.failed() or "none"), found.because])
    say("  " + "   ".join(rows[-1]))
    return [
        Figure(f"rolled back by itself: {name}", int(found.phase == "rolled-back"), "", 1, "at least"),
        Figure(f"requests that it had: {name}", had, "", DETECTED[name] * SHARE, "at most", found.because),
        Figure(f"answers that the platform owed: {name}", owed, "", 0, "at most"),
    ]


def _back_and_forth(platform: Platform, client: RolloutClient, rounds: int) -> tuple[int, str]:
    """Ship a good version and go back, `rounds` times, under load; return what was lost, and of how much."""
    newest = client.newest("default", "adder").number
    url = f"{platform.url}/v2/models/adder/infer"
    with Load(url, platform.key, ONE, connections=CONNECTIONS) as load:
        load.wait_for(500)
        for at in range(rounds):
            strategy = ("canary", "blue-green", "direct")[at % 3]
            _ask(platform, 2, {"strategy": strategy, "steps": [50], "dwell": "1s", "requests_min": 50, "keep": "0s"})
            newest = _ended(client, newest).number
            platform.cli("rollback", "adder")
            newest = _ended(client, newest).number
            say(f"  {at + 1} of {rounds}: {load.outcome.answered:,} answers, lost {load.outcome.failed() or 'none'}")
    return sum(load.outcome.failed().values()) + load.outcome.broken, f"of {load.outcome.answered:,}"
