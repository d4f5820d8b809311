"""`smol` on each engine that can run it: speed, first token, and how long streams stand still for a long prompt.

OpenVINO and llama.cpp as stoker runs them, through the platform, and llama.cpp's own server at its own defaults; in
alternating rounds. The platform's two get one core each on paper; OpenVINO is given all as threads, as llama.cpp's own
defaults take them.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

import aiohttp

from bench import chat, llm_engine
from bench.figures import Figure, ratio_over_rounds, turn
from bench.report import Section
from bench.rounds import say
from bench.servers import Contender, Server
from bench.up import Platform
from stoker.app.demo import DemoModel
from stoker.runtime.engines.cores import usable_cores

CONNECTIONS = (1, 4)
OURS, TUNED, DEFAULTS = "openvino", "llamacpp", "llama.cpp's defaults"
INTRUDER_WORDS = 1450  # a token each, and the template's own
STREAM_TOKENS = 160
BEFORE_S = 1.0  # streams run this long before the long prompt comes
START_TIMEOUT_S = 240.0
TEXT, NO_TEXT = b'"content":"', b'"content":""'
_WORDS = ("river", "stone", "cloud", "tree", "bridge", "window", "letter", "winter", "garden", "engine", "silver")


def manifest(name: str, engine: str, options: dict[str, int]) -> str:
    return json.dumps(
        {
            "apiVersion": "stoker/v1",
            "kind": "Endpoint",
            "metadata": {"name": name},
            "spec": {
                "model": "smol",
                "task": "chat",
                "engine": engine,
                "options": {"context": 4096, "slots": 5, **options},
                "resources": {"cpu": 1, "memory": "2Gi"},
            },
        }
    )


def request(model: str, text: str, tokens: int) -> bytes:
    return json.dumps(
        {
            "model": model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "messages": [{"role": "user", "content": text}],
        }
    ).encode()


def renamed(bodies: Sequence[bytes], model: str) -> list[bytes]:
    return [body.replace(b'"model": "smol"', f'"model": "{model}"'.encode()) for body in bodies]


def measure(smol: DemoModel, *, rounds: int, streams_each: int) -> Section:
    """Start all three, run them in turn, and return what was seen."""
    threads = max(1, int(usable_cores()))
    with (
        Server(DEFAULTS, llm_engine.MODULE, str(smol.paths[0]), "--own-defaults", "--slots", "5") as bare,
        Platform() as platform,
    ):
        platform.up()
        platform.cli("push", "smol", str(smol.folder))
        for name, options in ((OURS, {"threads": threads}), (TUNED, {})):
            platform.cli("apply", "-f", "-", stdin=manifest(name, name, options))
        for name in (OURS, TUNED):
            platform.wait_for(chat.PATH, request(name, "Hello.", 1), START_TIMEOUT_S)
        contenders = [
            platform.contender(chat.PATH, OURS),
            platform.contender(chat.PATH, TUNED),
            bare.contender(chat.PATH),
        ]
        return _section(contenders, rounds=rounds, streams_each=streams_each)


def _section(contenders: Sequence[Contender], *, rounds: int, streams_each: int) -> Section:
    by_name = {contender.name: contender for contender in contenders}
    figures: list[Figure] = []
    tables: dict[str, list[list[str]]] = {}
    for contender in contenders:
        chat.run(contender, renamed(chat.bodies(0, 0, 2), contender.name), 1)
    for connections in CONNECTIONS:
        samples: dict[str, list[chat.Sample]] = {name: [] for name in by_name}
        for number in range(rounds):
            for name in turn(list(by_name), number):
                bodies = chat.bodies(connections, number, max(connections, streams_each))
                samples[name].append(chat.run(by_name[name], renamed(bodies, name), connections))
        tables[f"c = {connections}"] = chat.table(samples)
        for row in tables[f"c = {connections}"][1:]:
            say(f"  c={connections:<3} " + "   ".join(row))
        figures += _compare(connections, samples)
    gaps: dict[str, list[tuple[float, float]]] = {name: [] for name in by_name}
    for number in range(rounds):
        for name in turn(list(by_name), number):
            gaps[name].append(asyncio.run(intrude(by_name[name], number)))
    rows = [["", "worst gap of a stream ms", "first token of the long prompt ms"]]
    for name, seen in gaps.items():
        rows.append([name, *(f"{median(values) * 1e3:.0f}" for values in zip(*seen, strict=True))])
        say("  " + "   ".join(rows[-1]))
    tables["a prompt of 1,500 tokens among 4 streams"] = rows
    worst = max(gap for gap, _ in gaps[OURS])
    figures.append(Figure("worst gap of 4 streams while a long prompt comes in (openvino)", worst, "s", 1.5, "at most"))
    worst = max(gap for gap, _ in gaps[TUNED])
    figures.append(Figure("worst gap of 4 streams while a long prompt comes in (llamacpp)", worst, "s"))
    return Section("engines for smol", figures, tables)


def _compare(connections: int, samples: dict[str, list[chat.Sample]]) -> list[Figure]:
    figures = []
    for other in (DEFAULTS, TUNED):
        rate = ratio_over_rounds([one.rate for one in samples[OURS]], [one.rate for one in samples[other]])
        first = ratio_over_rounds([one.ttft_p50_s for one in samples[OURS]], [one.ttft_p50_s for one in samples[other]])
        what = f"openvino against {other}, c = {connections}"
        is_held = connections == 4 and other == DEFAULTS
        figures += [
            Figure(f"tokens/s, {what}", rate, "×", *((2.0, "at least") if is_held else (None, ""))),
            Figure(f"first token (p50), {what}", first, "×", *((0.5, "at most") if is_held else (None, ""))),
        ]
    return figures


async def intrude(contender: Contender, number: int) -> tuple[float, float]:
    """Return the worst gap in any of 4 streams once a long prompt came, and the time to that one's first token."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True, limit=0), timeout=aiohttp.ClientTimeout(total=chat.TIMEOUT_S)
    ) as session:

        async def stamps(text: str, tokens: int) -> list[float]:
            """Return when pieces of text came, from when the request was sent on (the first entry)."""
            seen = [time.perf_counter()]
            headers = {"Content-Type": "application/json", **dict(contender.headers)}
            body = request(contender.name, text, tokens)
            async with session.post(contender.url, data=body, headers=headers) as response:
                response.raise_for_status()
                seen += [time.perf_counter() async for line in response.content if TEXT in line and NO_TEXT not in line]
            return seen

        texts = [f"Tale {number}-{at}. Tell a long story." for at in range(4)]
        streams = [asyncio.create_task(stamps(text, STREAM_TOKENS)) for text in texts]
        await asyncio.sleep(BEFORE_S)
        words = " ".join(_WORDS[(at * 7 + number + at // 11) % len(_WORDS)] for at in range(INTRUDER_WORDS))
        sent, first, *_ = await stamps(f"{number} {words}", 2)
        pieces = [(await stream)[1:] for stream in streams]
        gaps = (later - earlier for seen in pieces for earlier, later in pairwise(seen) if later > sent)
        worst = max(gaps, default=0.0)
    return worst, first - sent
