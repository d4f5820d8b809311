"""Streams whose replica is killed in the middle: how many go on, whether their texts are those of an undisturbed run,
and how long their clients wait at the seam.

Twice: 200 streams over three replicas of a small deterministic model whose every token depends on the whole text before
it, so that one lost or doubled token shows; and a few over two replicas of llama.cpp, greedy.
"""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import uvloop

from bench.figures import Figure, percentile
from bench.report import Section
from bench.rounds import say
from stoker.app.home import Home
from tests.engines_llm.support import packaged_model
from tests.engines_llm.support import spec as engine_spec
from tests.gateway.rig import Rig, keep_alive, until
from tests.gateway.talkers import Stream, ask_body, expected, made_ready, metric, metrics, stream, talkers

STREAMS, TOKENS, EVERY_S = 200, 120, 0.05
LLAMA_STREAMS, LLAMA_TOKENS = 16, 64


class LlamaRig(Rig):
    """`smol` is SmolLM2-135M in llama.cpp."""

    def start_replica(self, name: str, *arguments: str) -> None:
        """Start one replica, and wait until it listens."""
        address = self.home.address(name)
        path = Path(address.removeprefix("unix:"))
        path.unlink(missing_ok=True)
        spec = engine_spec("llamacpp", gguf=packaged_model(), context=512, slots=8)
        file = self.home.replicas / f"{name}.json"
        file.write_bytes(msgspec.json.encode(msgspec.structs.replace(spec, address=address, cores=2.0)))
        with self.log(name).open("ab") as log:
            argv = [sys.executable, "-m", "stoker.app.replica_main", str(file)]
            self.processes[name] = subprocess.Popen(argv, stdout=log, stderr=log)
        until(path.exists, f"{name} listens")


@contextlib.contextmanager
def llamas(folder: Path, replicas: int) -> Iterator[LlamaRig]:
    """Start a gateway before `replicas` engines; kill all of them at the end."""
    home = Home(folder / "home")
    home.make()
    made = LlamaRig(home)
    try:
        names = [f"r{number}" for number in range(replicas)]
        made.write_table(names, concurrency=64, timeout_s=300.0)
        for name in names:
            made.start_replica(name)
        made.start_gateway()
        until(lambda: asyncio.run(made_ready(made)) == replicas, "every engine is ready", 60)
        yield made
    finally:
        made.close()


class Watched:
    """One stream with the longest wait between two of its pieces."""

    def __init__(self, answer: Stream, gap_s: float) -> None:
        self.answer = answer
        self.gap_s = gap_s


async def watched(rig: Rig, body: bytes, on_piece: "Killer | None") -> Watched:
    """Read one stream to its end."""
    seen = [time.monotonic()]

    def take(_piece: bytes) -> None:
        seen.append(time.monotonic())
        if on_piece is not None:
            on_piece.take()

    answer = await stream(rig, body, take)
    return Watched(answer, max(later - earlier for earlier, later in pairwise(seen[1:])))


class Killer:
    """Kills r0 when `count` pieces came, of all streams together."""

    def __init__(self, rig: Rig, count: int) -> None:
        self._rig = rig
        self._count = count

    def take(self) -> None:
        """Count one piece."""
        self._count -= 1
        if self._count == 0:
            self._rig.processes["r0"].kill()


async def disturbed(rig: Rig, bodies: list[bytes], tokens: int) -> tuple[list[Watched], float]:
    """Run all `bodies` at once with r0 killed in the middle; return the streams and how many moved."""
    stop = asyncio.Event()
    killer = Killer(rig, len(bodies) * tokens // 2)
    keeper = keep_alive(rig, "r0", stop)
    answers = await asyncio.gather(*(watched(rig, body, killer) for body in bodies))
    moved = metric(await metrics(rig), "stoker_migrations_total", outcome="done")
    stop.set()
    await keeper
    return answers, moved


def talker_figures(folder: Path) -> list[Figure]:
    """Return the figures of the deterministic model."""
    prompts = [f"every:{EVERY_S} story {number}" for number in range(STREAMS)]
    with talkers(folder, 3) as rig:
        answers, moved = uvloop.run(disturbed(rig, [ask_body(prompt, TOKENS) for prompt in prompts], TOKENS))
    whole = sum(not one.answer.error and not one.answer.faults() for one in answers)
    pairs = zip(prompts, answers, strict=True)
    equal = sum(one.answer.text == expected(prompt, TOKENS) for prompt, one in pairs)
    gaps = sorted(one.gap_s for one in answers)[-int(moved) :] if moved else [0.0]
    counted = sum(one.answer.chunks[-1]["usage"]["completion_tokens"] for one in answers if not one.answer.error)
    say(f"  {STREAMS} streams, {moved:.0f} moved")
    return [
        Figure("streams that ended well", whole, "", STREAMS, "at least", f"of {STREAMS}, one of 3 replicas killed"),
        Figure("texts as in an undisturbed run", equal, "", STREAMS, "at least"),
        Figure("tokens told to the clients", counted, "", STREAMS * TOKENS, "at least", f"{STREAMS} × {TOKENS} sent"),
        Figure("streams that moved", moved, "", 1, "at least"),
        Figure("wait at the seam, p50", percentile(gaps, 0.5) * 1e3, "ms", note=f"a token takes {EVERY_S * 1e3:g} ms"),
        Figure("wait at the seam, p99", percentile(gaps, 0.99) * 1e3, "ms"),
    ]


def llama_figures(folder: Path) -> list[Figure]:
    """Return the figures of llama.cpp."""
    bodies = [
        ask_body(f"Story {number}. Tell a long story about a lighthouse.", LLAMA_TOKENS, ignore_eos=True)
        for number in range(LLAMA_STREAMS)
    ]
    with llamas(folder, 2) as rig:

        async def undisturbed() -> list[str]:
            return [one.text for one in await asyncio.gather(*(stream(rig, body) for body in bodies))]

        first, second = uvloop.run(undisturbed()), uvloop.run(undisturbed())
        answers, moved = uvloop.run(disturbed(rig, bodies, LLAMA_TOKENS))
    whole = sum(not one.answer.error and not one.answer.faults() for one in answers)
    equal = sum(one.answer.text == text for one, text in zip(answers, first, strict=True))
    again = sum(one == other for one, other in zip(first, second, strict=True))
    say(f"  llama.cpp: {LLAMA_STREAMS} streams, {moved:.0f} moved")
    return [
        Figure("llama.cpp: streams that ended well", whole, "", LLAMA_STREAMS, "at least", f"{moved:.0f} moved"),
        Figure(
            "llama.cpp: texts as undisturbed",
            equal,
            note=f"two undisturbed runs agree in {again}: sums depend on what is computed beside",
        ),
    ]


def measure(folder: Path) -> Section:
    """Return the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    return Section("Streams that move", talker_figures(folder / "talkers") + llama_figures(folder / "llamas"))
