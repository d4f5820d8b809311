"""`smol`: tokens a second and time to the first token through the platform, against the same engine without it."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from bench import load
from bench.figures import Figure, percentile, ratio_over_rounds, turn
from bench.report import Section
from bench.rounds import say
from bench.servers import Contender
from stoker.runtime.engines.llamacpp_load import thread_count, usable_cores
from stoker.types.resources import Endpoint

CONNECTIONS = (1, 4, 16)
PATH = "/v1/chat/completions"
PLATFORM, BARE = "stoker", "bare engine"
TOKENS = 48
TIMEOUT_S = 300.0
SUBJECTS = ("a lighthouse", "the first winter", "two neighbours", "a lost letter", "the night train", "an old clock")


class Sample(msgspec.Struct, frozen=True):
    """What one round of streams on one contender gave."""

    tokens: int
    seconds: float
    ttft_p50_s: float
    ttft_p99_s: float
    errors: int
    cpu_s: float

    @property
    def rate(self) -> float:
        """Tokens a second over all streams."""
        return self.tokens / self.seconds if self.seconds else 0.0


def same_settings(endpoint: Endpoint) -> list[str]:
    """Return the arguments that give the bare engine what the platform gives its own."""
    spec = endpoint.spec
    threads = thread_count(None, spec.resources.cpu, usable_cores())
    arguments = ["--threads", str(threads)]
    for option in ("context", "slots"):
        if option in spec.options:
            arguments += [f"--{option}", str(spec.options[option])]
    return arguments


def bodies(connections: int, round_number: int, count: int) -> list[bytes]:
    """Return `count` requests that no contender has seen before, so that no prompt is in a cache."""
    return [
        json.dumps(
            {
                "model": "smol",
                "stream": True,
                "stream_options": {"include_usage": True},
                "max_tokens": TOKENS,
                "temperature": 0,
                "ignore_eos": True,
                "messages": [
                    {
                        "role": "user",
                        "content": f"Story {connections}-{round_number}-{number}. Tell a long story about "
                        f"{SUBJECTS[number % len(SUBJECTS)]}, in as many words as you can.",
                    }
                ],
            }
        ).encode()
        for number in range(count)
    ]


def run(contender: Contender, requests: Sequence[bytes], connections: int) -> Sample:
    """Send `requests` on `connections` streams at a time. Raises RuntimeError when the generator failed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bodies"
        path.write_bytes(b"\n".join(requests))
        before = contender.cpu_s()
        outcome = load.own(
            "bench.streams",
            {
                "url": contender.url,
                "headers": (("Content-Type", "application/json"), *contender.headers),
                "bodies": str(path),
                "connections": connections,
                "timeout_s": TIMEOUT_S,
            },
            seconds=TIMEOUT_S,
        )
        cpu_s = contender.cpu_s() - before
    streams: list[dict[str, Any]] = outcome["streams"]
    bad = [stream for stream in streams if not stream["ok"]]
    if bad:
        say(f"  {contender.name}: {len(bad)} of {len(streams)} streams failed, the first: {bad[0]['said']}")
    first = [stream["ttft_s"] for stream in streams if stream["ok"]]
    return Sample(
        sum(stream["tokens"] for stream in streams),
        outcome["seconds"],
        percentile(first, 0.5),
        percentile(first, 0.99),
        len(bad),
        cpu_s,
    )


def measure(contenders: Sequence[Contender], *, rounds: int, streams_each: int) -> Section:
    """Return tables and figures; the first contender is compared with the second when there are two."""
    figures: list[Figure] = []
    tables: dict[str, list[list[str]]] = {}
    by_name = {contender.name: contender for contender in contenders}
    for contender in contenders:
        run(contender, bodies(0, 0, 2), 1)
    for connections in CONNECTIONS:
        count = max(connections, streams_each)
        samples: dict[str, list[Sample]] = {name: [] for name in by_name}
        for number in range(rounds):
            for name in turn(list(by_name), number):
                samples[name].append(run(by_name[name], bodies(connections, number, count), connections))
        tables[f"c = {connections}"] = table(samples)
        for row in tables[f"c = {connections}"][1:]:
            say(f"  c={connections:<3} " + "   ".join(row))
        if len(contenders) > 1:
            figures += compare(connections, samples)
    return Section("smol, streamed chat", figures, tables)


def compare(connections: int, samples: dict[str, list[Sample]]) -> list[Figure]:
    """Return the rate against the bare engine, and the time added to the first token."""
    ours, theirs = samples[PLATFORM], samples[BARE]
    rate = ratio_over_rounds([one.rate for one in ours], [one.rate for one in theirs])
    added = median(one.ttft_p50_s - other.ttft_p50_s for one, other in zip(ours, theirs, strict=True))
    errors = sum(one.errors for one in ours)
    return [
        Figure(f"tokens/s against the bare engine, c = {connections}", rate, "×", 0.97, "at least"),
        Figure(f"first token later by (p50), c = {connections}", added * 1e3, "ms", 2.0, "at most"),
        Figure(f"failed streams, c = {connections}", errors, "", 0, "at most"),
    ]


def table(samples: dict[str, list[Sample]]) -> list[list[str]]:
    """Return rows of text: medians over the rounds."""
    rows = [["", "tokens/s", "TTFT p50 ms", "TTFT p99 ms", "CPU ms/token", "errors"]]
    for name, taken in samples.items():
        rows.append(
            [
                name,
                f"{median(one.rate for one in taken):.1f}",
                f"{median(one.ttft_p50_s for one in taken) * 1e3:.1f}",
                f"{median(one.ttft_p99_s for one in taken) * 1e3:.1f}",
                f"{median(one.cpu_s / max(1, one.tokens) for one in taken) * 1e3:.2f}",
                str(sum(one.errors for one in taken)),
            ]
        )
    return rows
