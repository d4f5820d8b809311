"""More than there is: three times the capacity with mixed deadlines, and a neighbour at twenty times its share.

The neighbour twice: with a limit on its key that is its share, as one sets it up, and without, where only the fair
turns of the queue hold it.

The model is one that takes 8 ms and 1 ms a row, in batches of 16 at the most, without using a processor, as one on an
accelerator does: what is measured is the platform's order, not this machine's cores.
"""

import json
from pathlib import Path
from typing import Any

import msgspec

from bench.figures import Figure
from bench.load import own
from bench.report import Section
from bench.rounds import say
from bench.storm import Caller, Plan
from bench.up import Platform

MODEL = '''
"""Takes as long as a batch on an accelerator would."""

import time


class Model:
    inputs = {"x": ("FP32", [-1, 2])}
    outputs = {"y": ("FP32", [-1, 2])}

    def predict(self, inputs):
        time.sleep(0.008 + 0.001 * len(inputs["x"]))
        return {"y": inputs["x"]}
'''
MANIFEST = """
apiVersion: stoker/v1
kind: Endpoint
metadata: {name: steps}
spec:
  model: steps@1
  batching: {max_rows: 16}
"""
PATH = "/v2/models/steps/infer"
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]})
CAPACITY = 16 / 0.024  # rows a second at the most
DEADLINES_MS = [60, 100, 150, 250, 400]
Seen = dict[str, dict[str, Any]]


def measure(folder: Path, *, seconds: float) -> Section:
    """Return what held."""
    figures: list[Figure] = []
    rows = [["", "sent/s", "good/s", "p50 ms", "p99 ms", "late", "refused", "refusal p50 ms", "refusal p99 ms"]]
    with Platform() as platform:
        platform.up()
        _deploy(platform, folder)
        key = platform.key

        one = _storm(platform, [Caller("all", key, CAPACITY * 1.0)], seconds)
        capacity = one["all"]["good_per_s"]
        say(f"  capacity: {capacity:.0f} requests a second of {CAPACITY:.0f} that the model allows")
        over = _storm(platform, [Caller("all", key, CAPACITY * 3, DEADLINES_MS)], seconds)
        _row(rows, "3 × capacity, deadlines", over["all"], CAPACITY * 3)
        figures += [
            Figure("goodput at 3 × capacity, of capacity", over["all"]["good_per_s"] / CAPACITY, "×", 0.85, "at least"),
            Figure(
                "answers after their deadline", over["all"]["late"] / _answered(over["all"]), "of all", 0.01, "at most"
            ),
            Figure("refusal, p50", over["all"]["refused_p50_s"] * 1e3, "ms", 5, "at most"),
        ]

        share = CAPACITY / 4
        tenant, limited, free = (
            _key(platform, "quiet"),
            _key(platform, "limited", "--rps", f"{share:.0f}", "--burst", "10"),
            _key(platform, "free"),
        )
        quiet = Caller("quiet", tenant, share)
        alone = _storm(platform, [quiet], seconds)["quiet"]
        within = _storm(platform, [quiet, Caller("noisy", limited, share * 0.9)], seconds)["quiet"]
        beside = _storm(platform, [quiet, Caller("noisy", limited, share * 20)], seconds)
        fair = _storm(platform, [quiet, Caller("noisy", free, share * 20)], seconds)
        for name, seen in (
            ("quiet tenant alone", alone),
            ("quiet, neighbour within its share", within),
            ("quiet, neighbour at 20 × its limit", beside["quiet"]),
            ("quiet, neighbour at 20 ×, no limit", fair["quiet"]),
        ):
            _row(rows, name, seen, share)
        _row(rows, "that neighbour, limited", beside["noisy"], share * 20)
        _row(rows, "that neighbour, no limit", fair["noisy"], share * 20)
        figures += [
            Figure(
                "quiet tenant's p99, neighbour at 20 × its limit, of within it",
                beside["quiet"]["p99_s"] / within["p99_s"],
                "×",
                1.2,
                "at most",
            ),
            Figure("the same, of the tenant alone", beside["quiet"]["p99_s"] / alone["p99_s"], "×", 1.2, "at most"),
            Figure("the same without a limit, of the tenant alone", fair["quiet"]["p99_s"] / alone["p99_s"], "×"),
            Figure(
                "quiet tenant's requests refused", _refused(beside["quiet"]) + _refused(fair["quiet"]), "", 0, "at most"
            ),
        ]
    return Section("overload", figures, {"open loop, Poisson arrivals": rows})


def _deploy(platform: Platform, folder: Path) -> None:
    model = folder / "steps"
    model.mkdir(parents=True)
    (model / "model.py").write_text(MODEL)
    platform.cli("push", "steps", str(model))
    platform.cli("apply", "-f", "-", stdin=MANIFEST)
    platform.wait_for(PATH, BODY.encode())


def _key(platform: Platform, name: str, *limits: str) -> str:
    return str(json.loads(platform.cli("keys", "create", name, *limits, "-o", "json"))["key"])


def _storm(platform: Platform, callers: list[Caller], seconds: float) -> Seen:
    plan = Plan(platform.port, PATH, BODY, seconds, callers)
    found: Seen = own("bench.storm", msgspec.to_builtins(plan), seconds=seconds)
    return found


def _answered(seen: dict[str, Any]) -> int:
    return sum(seen["statuses"].values())


def _refused(seen: dict[str, Any]) -> int:
    return sum(count for status, count in seen["statuses"].items() if status != "200")


def _row(rows: list[list[str]], name: str, seen: dict[str, Any], rate: float) -> None:
    rows.append(
        [
            name,
            f"{rate:,.0f}",
            f"{seen['good_per_s']:,.0f}",
            f"{seen['p50_s'] * 1e3:.1f}",
            f"{seen['p99_s'] * 1e3:.1f}",
            str(seen["late"]),
            str(_refused(seen)),
            f"{seen['refused_p50_s'] * 1e3:.2f}",
            f"{seen['refused_p99_s'] * 1e3:.2f}",
        ]
    )
