"""`python -m stoker.runtime.measure_main FD`: measures one engine with one model in a process of its own, then ends.

The spec comes on standard input, an EngineMeasurement goes to the file descriptor FD, as JSON both. All the memory the
engine took goes back with the process.
"""

import asyncio
import ctypes
import os
import signal
import sys
import time
from typing import NoReturn

import msgspec

from stoker.protocol.openai import CompletionRequest
from stoker.runtime.engines import registry
from stoker.runtime.engines.port import Delta, Final, GenerateEngine
from stoker.types.engines import EngineMeasurement
from stoker.types.errors import EngineFailed, StokerError
from stoker.types.replica import ReplicaSpec, Usage

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PROMPT_WORDS = 230  # about 256 tokens
ANSWER_TOKENS = 32
_WORDS = ("river", "stone", "cloud", "tree", "bridge", "window", "letter", "winter", "garden", "engine", "silver")


def main() -> NoReturn:
    """Measure, write, end."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=ReplicaSpec)
    try:
        row = measure(spec)
    except StokerError as problem:
        row = EngineMeasurement(spec.engine, error=problem.message)
    except Exception as bug:  # the boundary to engines: any candidate may fail, and that is a row
        row = EngineMeasurement(spec.engine, error=f"{type(bug).__name__}: {bug}")
    with os.fdopen(int(sys.argv[1]), "wb") as out:
        out.write(msgspec.json.encode(row))
    sys.stderr.flush()
    os._exit(0)  # engines keep native threads that a shutdown would tear down under their feet


def measure(spec: ReplicaSpec) -> EngineMeasurement:
    """Load the engine of `spec`, and run the workload. Raises what the engine raises."""
    start_s = time.perf_counter()
    engine = registry.load(spec, lambda _stage, _fraction: None)
    load_s = time.perf_counter() - start_s
    if not isinstance(getattr(engine, "slots", None), int):
        raise EngineFailed(f"the engine {spec.engine!r} does not generate text")
    return asyncio.run(_workload(spec.engine, engine, load_s))  # type: ignore[arg-type]  # it has slots, so it generates


async def _workload(name: str, engine: GenerateEngine, load_s: float) -> EngineMeasurement:
    """One request alone, twice (the better counts: the first pays for what is made once), then all slots at once."""
    words = min(PROMPT_WORDS, engine.context_tokens // 3)
    tokens = min(ANSWER_TOKENS, engine.context_tokens // 4)
    alone = [await _ask(engine, number, words, tokens) for number in range(2)]
    first_s, answer_s, usage = min(alone, key=lambda seen: seen[1])
    slots = engine.slots
    start_s = time.perf_counter()
    together = await asyncio.gather(*(_ask(engine, 10 + number, words, tokens) for number in range(slots)))
    spent_s = time.perf_counter() - start_s
    return EngineMeasurement(
        engine=name,
        load_s=round(load_s, 3),
        first_token_s=round(first_s, 4),
        answer_s=round(answer_s, 4),
        tokens_per_s=round(sum(seen[2].output_tokens for seen in together) / spent_s, 2),
        slots=slots,
        prompt_tokens=usage.input_tokens,
        answer_tokens=usage.output_tokens,
    )


async def _ask(engine: GenerateEngine, number: int, words: int, tokens: int) -> tuple[float, float, Usage]:
    """Return seconds to the first token and to the last, and the usage. Each number is a prompt of its own."""
    text = f"{number}: " + " ".join(_WORDS[(at * (number + 3) + at // 7) % len(_WORDS)] for at in range(words))
    request = CompletionRequest(model="m", prompt=text, max_tokens=tokens, temperature=0.0, ignore_eos=True)
    start_s, first_s, usage = time.perf_counter(), 0.0, Usage()
    async for item in engine.generate(request):
        if isinstance(item, Delta) and not first_s:
            first_s = time.perf_counter() - start_s
        elif isinstance(item, Final):
            usage = item.usage
    spent_s = time.perf_counter() - start_s
    return first_s or spent_s, spent_s, usage


if __name__ == "__main__":
    main()
