"""How near the simulator is to live on the same arrivals: P50, P95 and replica-hours of `digits`, `minilm` and `smol`.

`python -m bench --only validation`. A platform of its own, and `stoker plan NAME --validate` as a user says it: loads
of a steady rate, then traces under which `smol` grows to two replicas and back, and `digits` sleeps and wakes. Times
are those that gateways measured; each half of a load's stretches is judged by what the other says of the engine.
`--loads smol,digits-scaled` sends those alone. What is held is how far off a number was as measured; beside it stands
whether so many requests can tell (core/ranks.py).
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from bench.figures import Figure
from bench.report import Section
from bench.rounds import say
from bench.up import Platform
from stoker.app.demo import DemoModel
from stoker.client.prompts import USUAL
from stoker.sim.sizing.validation import Checked, Validation

RATES: Final = {"digits": 35.0, "minilm": 20.0, "smol": 0.45}
SECONDS: Final = {"digits": 12.0, "minilm": 12.0, "smol": 48.0}  # times the seconds of an effort's load
# What comes, in stretches of so many seconds at so many requests a second.
COURSES: Final = {
    # One in ten waits for a start, so that P95 is one of those: with one in twenty it would be a start or none.
    "digits": ((5, 15.0), (27, 0.0)) * 7 + ((5, 15.0),),
    "smol": ((60, 0.25), (90, 1.0), (120, 0.2)),
}
SCALED: Final[dict[str, dict[str, Any]]] = {
    "digits": {"replicas": {"min": 0, "max": 1}, "scaling": {"idle_timeout": "15s"}},
    "smol": {"replicas": {"min": 1, "max": 2}},
}
PATHS: Final = {"digits": "/v2/models/digits/infer", "minilm": "/v1/embeddings", "smol": "/v1/chat/completions"}
LOADS: Final = (*RATES, *(f"{name}-scaled" for name in SCALED))
TIMEOUT_S: Final = 900.0
ROUNDS_MAX: Final = 3  # of some seven minutes; of the traces one less, of nine


class Run(NamedTuple):
    """One load, and how busy the machine was at its end."""

    found: Validation
    load_average: float


def measure(
    models: dict[str, DemoModel], folder: Path, *, rounds: int, seconds: float, loads: Sequence[str] = LOADS
) -> Section:
    """Send and simulate each of these loads so many times, each time drawn anew."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Run]] = {}
    steady = [name for name in RATES if name in loads]
    scaled = [name for name in SCALED if f"{name}-scaled" in loads]
    names = [name for name in models if name in steady or name in scaled]
    with Platform() as platform:
        platform.up()
        for name in names:
            platform.deploy(models[name])
        for name in names:
            platform.wait_for(PATHS[name], _hello(name))
        for number in range(min(rounds, ROUNDS_MAX)):
            for name in steady:
                lasts_s = SECONDS[name] * seconds
                found.setdefault(name, []).append(
                    _validated(platform, name, number, "--rate", f"{RATES[name]}", "--for", f"{lasts_s}s")
                )
        for name in scaled:
            platform.cli("apply", "-f", "-", stdin=_scaled(models[name]))
        for number in range(min(rounds, ROUNDS_MAX - 1)):
            for name in scaled:
                trace = folder / f"{name}-{number}.csv"
                _write(trace, name, number)
                platform.wait_for(PATHS[name], _hello(name))
                found.setdefault(f"{name}, scaled", []).append(
                    _validated(platform, name, number, "--trace", str(trace), "--for", "10m")
                )
    table = [["", "requests", "number", "measured", "simulated", "off", "truth, 19 of 20", "so",
              "engine of the day before", "load average"]]  # fmt: skip
    figures: list[Figure] = []
    for name, runs in found.items():
        table += [row for one in runs for row in _rows(name, one)]
        figures += _figures(name, runs)
    return Section("The simulator beside live", figures, {"every run": table})


def _validated(platform: Platform, name: str, seed: int, *options: str) -> Run:
    said = platform.cli(
        "plan", name, "--validate", "--yes", "--seed", f"{seed}", *options, "-o", "json", timeout_s=TIMEOUT_S
    )
    tree = json.loads(said[said.index("{") :])
    for line in (*tree["lines"], *tree["by_day"]):  # JSON has no infinite number: null
        line.update({key: math.inf for key, value in line.items() if value is None})
    found = msgspec.convert(tree, Validation)
    offs = ", ".join(f"{each.name} {each.off * 100:+.0f} % {each.verdict}".strip() for each in found.lines)
    load_average = os.getloadavg()[0]
    say(f"  {name}: {offs} (load average {load_average:.1f})")
    return Run(found, load_average)


def _figures(name: str, runs: list[Run]) -> list[Figure]:
    """Return the median of how far off each number was, whatever the direction, and what each round can say of it."""
    found = []
    for at, line in enumerate(runs[0].found.lines):
        offs = [abs(one.found.lines[at].off) * 100 for one in runs]
        lines = [one.found.lines[at] for one in runs]
        note = ", ".join(f"{each.off * 100:+.0f} {each.verdict}".strip() for each in lines)
        found.append(Figure(f"{name}: {line.name} off by", median(offs), "%", line.bound * 100, "at most", note))
    return found


def _rows(name: str, run: Run) -> list[list[str]]:
    one = run.found
    by_day = {each.name: each for each in one.by_day}
    return [
        [name, f"{one.requests}", line.name, _shown(line.measured), _shown(line.simulated), _off(line),
         f"{_shown(line.low)} to {_shown(line.high)}" if line.verdict else "", line.verdict,
         _off(by_day[line.name]) if line.name in by_day else "", f"{run.load_average:.1f}"]
        for line in one.lines
    ]  # fmt: skip


def _shown(value: float) -> str:
    return f"{value:.4g}"


def _off(line: Checked) -> str:
    return f"{line.off * 100:+.0f} %"


def _scaled(model: DemoModel) -> str:
    tree = {"apiVersion": "stoker/v1", "kind": "Endpoint", "metadata": {"name": model.name}}
    spec = {**msgspec.to_builtins(model.endpoint.spec, builtin_types=()), **SCALED[model.name]}
    return json.dumps({**tree, "spec": spec})


def _write(file: Path, name: str, seed: int) -> None:
    """Write a trace of the course of `name`: Poisson arrivals, and chats of usual sizes and twice as large."""
    draws = np.random.default_rng((seed, 17))
    lines, begins_s = ["TIMESTAMP,ContextTokens,GeneratedTokens"], 0.0
    for lasts_s, per_s in COURSES[name]:
        for at_s in np.sort(draws.uniform(begins_s, begins_s + lasts_s, draws.poisson(per_s * lasts_s))):
            read, written = draws.integers(USUAL.words, 3 * USUAL.words), draws.integers(8, 2 * USUAL.tokens_max)
            lines.append(f"{at_s:.4f},{read},{written}" if name == "smol" else f"{at_s:.4f},0,0")
        begins_s += lasts_s
    file.write_text("\n".join(lines) + "\n")


def _hello(name: str) -> bytes:
    bodies: dict[str, Any] = {
        "digits": {"inputs": [{"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": [0.0] * 64}]},
        "minilm": {"model": "minilm", "input": ["a cat"]},
        "smol": {"model": "smol", "max_tokens": 1, "messages": [{"role": "user", "content": "Hello."}]},
    }
    return json.dumps(bodies[name]).encode()
