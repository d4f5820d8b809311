"""Ten language models where three fit, live: failed requests, loads within a start of the one before, and waits.

`python -m bench --only pooling`. Ten endpoints of `smol`, each a process that loads the file for itself, of which the
node's memory lets three in. Requests come by chance and by Zipf's law (the first is asked for ten times as often as the
tenth), a third of them streams; in the second half also a sweep, one request to each in turn, which is what recency is
worst at. Beside it plain LRU on the same arrivals with the starts that were measured, on virtual time, and the live
rule there too, so that it shows how far virtual time can be believed.
"""

import asyncio
import json
import random
import threading
import time
from collections.abc import Sequence
from statistics import median
from typing import Any, Final

import aiohttp
import msgspec

from bench.figures import Figure, percentile
from bench.pooled import Arrival, Found, Pool, Rule, Start, again, by_value, lru, thrash
from bench.report import Section
from bench.rounds import say
from bench.up import Platform
from stoker.app.demo import DemoModel
from stoker.client.connection import Connection
from stoker.client.control import ControlClient

MODELS: Final = 10
FIT: Final = 3
MEMORY_RATIO: Final = 0.3  # of the node, each: three fit, four do not
RATE: Final = 0.5  # requests/s of all
SWEEP_EVERY_S: Final = 6.0
STREAM_RATIO: Final = 1 / 3
TOKENS, STREAM_TOKENS = 8, 48
TIMEOUT_S: Final = 240.0
LOOK_S: Final = 0.2
DRAWS: Final = 20
SEED: Final = 11


class Answer(msgspec.Struct, frozen=True):
    """What a caller saw: seconds to the first byte of the answer, and what was wrong, "" if nothing."""

    model: int
    wait_s: float
    took_s: float
    problem: str


def drawn(seconds: float, seed: int) -> list[Arrival]:
    """Return what arrives, in order."""
    draw = random.Random(seed)
    weights = [1.0 / (at + 1) for at in range(MODELS)]
    found, at_s = [], draw.expovariate(RATE)
    while at_s < seconds:
        model = draw.choices(range(MODELS), weights)[0]
        found.append(Arrival(at_s, model, draw.random() < STREAM_RATIO))
        at_s += draw.expovariate(RATE)
    swept = [Arrival(seconds / 2 + at * SWEEP_EVERY_S, at % MODELS) for at in range(int(seconds / 2 / SWEEP_EVERY_S))]
    return sorted([*found, *swept], key=lambda each: each.at_s)


class Starts:
    """Looks at the node's replicas while the block runs, and keeps every start."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client
        self._found: dict[tuple[str, float], float] = {}  # when it was ready, by name and start
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.most = 0  # replicas at one time

    def __enter__(self) -> "Starts":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def found(self, from_s: float) -> list[Start]:
        """Return the starts since `from_s` (unix seconds)."""
        return [
            Start(int(name.split("-")[1]), at_s, ready_s)
            for (name, at_s), ready_s in self._found.items()
            if at_s >= from_s
        ]

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            replicas = [each for node in self._client.nodes() for each in node.processes if each.kind == "replica"]
            replicas = [each for each in replicas if each.started_at_s and each.phase != "stopped"]
            self.most = max(self.most, len(replicas))
            for each in replicas:
                key = (each.name, each.started_at_s)
                self._found[key] = each.ready_at_s or self._found.get(key, float("inf"))


def manifest(at: int, memory_bytes: int, smol: DemoModel) -> str:
    """Return the endpoint of the `at`-th model."""
    spec = {
        "model": "smol@1",
        "task": "chat",
        "options": smol.endpoint.spec.options,
        "replicas": {"min": 0, "max": 1},
        "resources": {"cpu": 0.3, "memory": f"{memory_bytes >> 20}Mi"},
        "limits": {"timeout": f"{TIMEOUT_S:.0f}s"},
    }
    return json.dumps({"apiVersion": "stoker/v1", "kind": "Endpoint", "metadata": {"name": f"smol-{at}"}, "spec": spec})


async def _ask(session: aiohttp.ClientSession, platform: Platform, arrival: Arrival, began_s: float) -> Answer:
    await asyncio.sleep(max(began_s + arrival.at_s - time.perf_counter(), 0.0))
    body: dict[str, Any] = {
        "model": f"smol-{arrival.model}",
        "stream": arrival.is_stream,
        "max_tokens": STREAM_TOKENS if arrival.is_stream else TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "messages": [{"role": "user", "content": f"Tell a story that begins at {arrival.at_s:.2f} o'clock."}],
    }
    asked_s = time.perf_counter()
    first_s, text, status = 0.0, b"", 0
    try:
        async with session.post(f"{platform.url}/v1/chat/completions", json=body) as answer:
            status = answer.status
            async for piece in answer.content.iter_any():
                first_s = first_s or time.perf_counter() - asked_s
                text += piece
    except (aiohttp.ClientError, TimeoutError, OSError) as broken:
        text += f" {type(broken).__name__}: {broken}".encode()
        status = 0
    is_whole = b"data: [DONE]" in text and b'"error"' not in text if arrival.is_stream else b'"choices"' in text
    problem = "" if status == 200 and is_whole else f"{status} {text[-300:].decode(errors='replace')}"
    return Answer(arrival.model, first_s, time.perf_counter() - asked_s, problem)


async def _send(platform: Platform, arrivals: Sequence[Arrival]) -> list[Answer]:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S + 30.0)
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=platform.headers) as session:
        began_s = time.perf_counter()
        return await asyncio.gather(*(_ask(session, platform, each, began_s) for each in arrivals))


def measure(smol: DemoModel, *, seconds: float) -> Section:
    """Send what arrives in `seconds` to a platform of its own, then run the same on virtual time."""
    arrivals = drawn(seconds, SEED)
    with Platform(gateways=1) as platform:
        platform.up()
        client = ControlClient(Connection(f"unix:{platform.home.run / 'control-api.sock'}", platform.key))
        memory_bytes = int(client.nodes()[0].memory_bytes * MEMORY_RATIO)
        platform.cli("push", "smol", str(smol.folder))
        for at in range(MODELS):
            platform.cli("apply", "-f", "-", stdin=manifest(at, memory_bytes, smol))
        platform.wait_for("/v1/chat/completions", json.dumps(_hello()).encode())
        say(f"  {len(arrivals)} requests in {seconds:.0f} s")
        with Starts(client) as watched:
            from_s = time.time()
            answers = asyncio.run(_send(platform, arrivals))
        starts, most = watched.found(from_s), watched.most
        turns = sum("asleep after a turn of" in each.because for each in client.journal(limit=1000))
    for problem in sorted({each.problem for each in answers if each.problem}):
        say(f"  failed: {problem}")
    live = Found([each.wait_s for each in answers], starts)
    return Section("More models than fit, live", _figures(answers, live, most, turns), {"": _table(live, seconds)})


def _hello() -> dict[str, Any]:
    return {"model": "smol-0", "max_tokens": 1, "messages": [{"role": "user", "content": "Hello."}]}


def _figures(answers: Sequence[Answer], live: Found, most: int, turns: int) -> list[Figure]:
    failed = sum(bool(each.problem) for each in answers)
    nearest = min(again(live.starts), default=float("inf"))
    note = f"of {len(live.starts)} loads; the nearest two of one model {nearest:.1f} of its starts apart"
    asked = {each.model for each in answers}
    return [
        Figure("failed requests", float(failed), "", 0.0, "at most", f"of {len(answers)}, to {len(asked)} models"),
        Figure("models loaded twice within a start (thrash)", float(thrash(live.starts)), "", 0.0, "at most", note),
        Figure("replicas at one time", float(most), "", float(FIT), "at most"),
        Figure("busy ones that went after their turn", float(turns)),
        Figure("of a start, as measured", _cold_s(live.starts), "s"),
    ]


def _cold_s(starts: Sequence[Start]) -> float:
    took = [each.ready_s - each.began_s for each in starts if each.ready_s != float("inf")]
    return median(took) if took else 0.0


def _table(live: Found, seconds: float) -> list[list[str]]:
    """Return live beside virtual time: the same arrivals, then the means of DRAWS others."""
    cold_s = _cold_s(live.starts)
    rows = [["", "requests", "loads", "thrash", "wait p50, s", "p95, s", "mean, s"], _row("stoker, live", [live])]
    rules: dict[str, Rule] = {"stoker": by_value, "plain LRU": lru}
    for name, rule in rules.items():
        rows.append(_row(f"{name}, virtual time", [_virtual(drawn(seconds, SEED), cold_s, rule)]))
    for name, rule in rules.items():
        found = [_virtual(drawn(seconds, seed), cold_s, rule) for seed in range(100, 100 + DRAWS)]
        rows.append(_row(f"{name}, virtual time, mean of {DRAWS} draws", found))
    return rows


def _virtual(arrivals: Sequence[Arrival], cold_s: float, rule: Rule) -> Found:
    return Pool([cold_s] * MODELS, FIT, 0.4).run(arrivals, rule)


def _row(name: str, found: Sequence[Found]) -> list[str]:
    waits = [each.waits_s for each in found]
    numbers = [
        [float(len(each)) for each in waits],
        [float(len(each.starts)) for each in found],
        [float(thrash(each.starts)) for each in found],
        [percentile(each, 0.5) for each in waits],
        [percentile(each, 0.95) for each in waits],
        [sum(each) / len(each) for each in waits],
    ]
    return [
        name,
        *(f"{sum(each) / len(each):.{1 if at > 2 or len(found) > 1 else 0}f}" for at, each in enumerate(numbers)),
    ]
