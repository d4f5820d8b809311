"""Shared prompts over three replicas of `smol`: time to the first token with affinity by prefix against choice by cost.

Conversations of several turns, each with a document of its own behind one of a few system prompts. One replica keeps
four prompts (its slots), the three of them all nine: where a conversation goes decides whether its document is read
again. Both ways are measured in turns on the same replicas, with documents that neither has seen.
"""

import json
import random
import re
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from bench import load
from bench.figures import Figure, percentile, ratio_over_rounds, turn
from bench.report import Section
from bench.rounds import say
from bench.up import Platform
from stoker.app.demo import DemoModel

PATH: Final = "/v1/chat/completions"
MODES: Final = ("prefix", "none")
REPLICAS, CONVERSATIONS, TURNS, SYSTEMS = 3, 9, 4, 3
CONNECTIONS, TOKENS = 2, 4
TIMEOUT_S: Final = 300.0
MANIFEST: Final = """
apiVersion: stoker/v1
kind: Endpoint
metadata: {{name: smol}}
spec:
  model: smol
  task: chat
  options: {{context: 2048, slots: 4}}
  replicas: {{min: {replicas}, max: {replicas}}}
  resources: {{cpu: 0.5, memory: 1Gi}}
  routing: {{affinity: {affinity}}}
"""
WORDS: Final = ("harbour", "ledger", "winter", "signal", "copper", "orchard", "engine", "letter", "bridge", "market",
    "lantern", "river", "station", "archive", "meadow", "captain", "winding", "granite", "pepper", "violet", "thunder",
    "barrel", "window", "corner", "forest", "island", "journey", "kettle", "mirror", "needle")  # fmt: skip


class Round(msgspec.Struct, frozen=True):
    """One trace through the platform. `first` are first turns, which nothing can help; `later` all others."""

    first: list[float]
    later: list[float]
    seconds: float
    cached_ratio: float  # of prompt tokens
    errors: int


def trace(number: int) -> list[bytes]:
    """Return the bodies of round `number`: the first turn of each conversation, then the second of each, and so on.

    What the assistant said is written here, so that both ways send the same.
    """
    rng = random.Random(number)
    talks: list[list[dict[str, str]]] = []
    for each in range(CONVERSATIONS):
        system = f"You are clerk {each % SYSTEMS} of the archive. " + "Answer briefly and only from the document. " * 4
        document = " ".join(rng.choice(WORDS) for _ in range(130))
        talks.append([{"role": "system", "content": system}, {"role": "user", "content": f"Document: {document}."}])
    bodies = []
    for step in range(TURNS):
        for talk in talks:
            if step:
                talk.append({"role": "assistant", "content": f"The {rng.choice(WORDS)} and the {rng.choice(WORDS)}."})
                talk.append({"role": "user", "content": f"What follows the {rng.choice(WORDS)}, and how often?"})
            bodies.append(
                json.dumps(
                    {
                        "model": "smol",
                        "stream": True,
                        "stream_options": {"include_usage": True},
                        "max_tokens": TOKENS,
                        "temperature": 0,
                        "ignore_eos": True,
                        "messages": talk,
                    }
                ).encode()
            )
    return bodies


def measure(platform: Platform, smol: DemoModel, *, rounds: int) -> Section:
    """Return the figures; `platform` is up and has no endpoints."""
    platform.cli("push", smol.name, str(smol.folder))
    serve(platform, "prefix")
    platform.wait_for(PATH, trace(-1)[0])
    until_ready(platform)
    taken: dict[str, list[Round]] = {mode: [] for mode in MODES}
    number = 0
    for each in range(rounds):
        for mode in turn(list(MODES), each):
            serve(platform, mode)
            number += 1
            taken[mode].append(run(platform, number))
            one = taken[mode][-1]
            say(
                f"  affinity {mode:<7} TTFT p50 {percentile([*one.first, *one.later], 0.5) * 1e3:7.0f} ms   "
                f"later turns {percentile(one.later, 0.5) * 1e3:7.0f} ms   cached {one.cached_ratio:4.0%}   "
                f"{one.seconds:5.1f} s   {one.errors} errors"
            )
    return section(taken, ejections=int(metric(platform, "stoker_ejections_total")))


def section(taken: Mapping[str, list[Round]], *, ejections: int) -> Section:
    """Return what `taken` says."""
    ours, theirs = taken["prefix"], taken["none"]

    def ratio(share: float, *, is_later: bool = False) -> float:
        values = [
            [percentile(one.later if is_later else [*one.first, *one.later], share) for one in rounds]
            for rounds in (ours, theirs)
        ]
        return ratio_over_rounds(*values)

    rows = [["affinity", "TTFT p50 ms", "p95 ms", "later turns p50 ms", "prompt tokens cached", "trace s"]]
    for mode, rounds in taken.items():
        every = [[*one.first, *one.later] for one in rounds]
        rows.append(
            [
                mode,
                f"{median(percentile(one, 0.5) for one in every) * 1e3:.0f}",
                f"{median(percentile(one, 0.95) for one in every) * 1e3:.0f}",
                f"{median(percentile(one.later, 0.5) for one in rounds) * 1e3:.0f}",
                f"{median(one.cached_ratio for one in rounds):.0%}",
                f"{median(one.seconds for one in rounds):.1f}",
            ]
        )
    errors = sum(one.errors for one in (*ours, *theirs))
    note = f"{CONVERSATIONS} conversations of {TURNS} turns, {SYSTEMS} system prompts, {REPLICAS} replicas"
    return Section(
        "Shared prompts, smol",
        [
            Figure("time to the first token (p50) against choice by cost", ratio(0.5), "×", 0.6, "at most", note),
            Figure("the same, second turn and later", ratio(0.5, is_later=True), "×"),
            Figure("failed streams", errors, "", 0, "at most"),
            Figure("healthy replicas taken out meanwhile", ejections, "", 0, "at most"),
        ],
        {"": rows},
    )


def serve(platform: Platform, affinity: str) -> None:
    """Serve `smol` with `affinity`; a change of it restarts no replica."""
    platform.cli("apply", "-f", "-", stdin=MANIFEST.format(replicas=REPLICAS, affinity=affinity))
    before, deadline = metric(platform, "stoker_route_table_version"), time.monotonic() + 5
    while metric(platform, "stoker_route_table_version") == before and time.monotonic() < deadline:
        time.sleep(0.02)  # the table may have come before we looked: then five seconds are all that is lost


def until_ready(platform: Platform) -> None:
    """Wait until all replicas take requests. Raises RuntimeError."""
    deadline = time.monotonic() + 180
    while metric(platform, "stoker_replicas_ready") < REPLICAS:
        if time.monotonic() > deadline:
            raise RuntimeError(f"not {REPLICAS} replicas of smol in 180 s")
        time.sleep(0.1)


def metric(platform: Platform, name: str, *labels: str) -> float:
    """Return the sum of a metric's series that have all of `labels`."""
    with urllib.request.urlopen(f"{platform.url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(rf"^{name}(\{{[^}}]*\}})? ([0-9.e+-]+)$", text, re.MULTILINE)
    return sum(float(value) for given, value in found if all(label in given for label in labels))


def run(platform: Platform, number: int) -> Round:
    """Send one trace."""
    before = [metric(platform, "stoker_tokens_total", f'kind="{kind}"') for kind in ("cached", "input")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bodies"
        path.write_bytes(b"\n".join(trace(number)))
        outcome: dict[str, Any] = load.own(
            "bench.streams",
            {
                "url": platform.url + PATH,
                "headers": (("Content-Type", "application/json"), *platform.headers),
                "bodies": str(path),
                "connections": CONNECTIONS,
                "timeout_s": TIMEOUT_S,
            },
            seconds=TIMEOUT_S,
        )
    after = [metric(platform, "stoker_tokens_total", f'kind="{kind}"') for kind in ("cached", "input")]
    cached, read = (late - early for late, early in zip(after, before, strict=True))
    streams = outcome["streams"]
    took_s = [stream["ttft_s"] for stream in streams]
    return Round(
        took_s[:CONVERSATIONS],
        took_s[CONVERSATIONS:],
        outcome["seconds"],
        cached / read if read else 0.0,
        sum(not stream["ok"] for stream in streams),
    )
