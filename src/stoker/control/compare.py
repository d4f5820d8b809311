"""How alike two versions of a language model answer: both read the same texts, in turns, each in a process of its own.

In turns, so that what else the machine does meanwhile slows both alike. `Comparer.compare` says how far it is, for the
API; `Comparer.likeness` is for whoever judges a release and only wants the outcome.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from importlib import resources
from pathlib import Path
from time import monotonic
from typing import Final

from stoker.blob.port import BlobStore
from stoker.control.worker import Worker, started
from stoker.core import likeness
from stoker.registry import layout
from stoker.telemetry.machine import memory
from stoker.types.errors import Busy, Conflict, InvalidInput, Unavailable, Unsupported
from stoker.types.likeness import Likeness, Loaded, Scored, ScoreJob, Side, Text
from stoker.types.models import ModelVersion
from stoker.types.units import format_bytes
from stoker.types.work import Step

AT_ONCE: Final = 1
WAITING_MAX: Final = 4
TEXTS_MAX: Final = 1_000
TEXT_CHARACTERS_MAX: Final = 20_000
LOAD_MAX_S: Final = 600.0
TEXT_MAX_S: Final = 300.0  # of a thousand tokens; a busy machine with a small model took 20 s
WHOLE_MAX_S: Final = 4 * 3600.0
ADDRESSES_BYTES: Final = 8 * 2**30  # that an engine maps besides its model
WORK_BYTES: Final = 1 * 2**30  # of memory, besides the model's file: its context, and the probabilities of all tokens
CORES: Final = 64.0  # as many as there are; the engine leaves one to the others
SPIN_COUNT: Final = "10000"  # threads that spin while they wait eat the cores of the others


class Comparer:
    """Compares versions, one pair at a time."""

    def __init__(self, blobs: BlobStore, models_dir: Path, scratch: Path) -> None:
        self._blobs = blobs
        self._models_dir = models_dir
        self._scratch = scratch
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def compare(
        self, base: ModelVersion, other: ModelVersion, texts: Sequence[str] = (), *, seconds: float = WHOLE_MAX_S
    ) -> AsyncGenerator[Step | Likeness, None]:
        """Yield how far it is, and at last how alike they are. Closing the iterator ends the work.

        Args:
            base: what the other is held to.
            other: as a rule made from it.
            texts: that both read; without any, those of `everyday_texts`.
            seconds: of reading; after it what was read is compared, once that are as many texts as it takes.

        Raises:
            InvalidInput: too few texts, too many, or one that is too long.
            Unsupported: a version that is no GGUF, or its engine is not installed.
            Conflict: they cut texts into different tokens.
            RefusedArtifact: the stored bytes are damaged, or the engine cannot load them.
            Unavailable, DeadlineExceeded: no memory for both, or a process died or took too long.
            Busy: too many wait.
        """
        texts = texts or everyday_texts()
        check(base, other, texts)
        if self._waiting >= WAITING_MAX:
            raise Busy(f"{self._waiting} comparisons go on or wait", retry_after_s=60.0)
        self._waiting += 1
        try:
            if self._turn.locked():
                yield Step("waiting for another to be done")
            async with self._turn, aclosing(self._compared((base, other), texts, seconds)) as steps:
                async for said in steps:
                    yield said
        finally:
            self._waiting -= 1

    async def likeness(
        self, base: ModelVersion, other: ModelVersion, texts: Sequence[str] = (), *, seconds: float = WHOLE_MAX_S
    ) -> Likeness:
        """Return how alike they are; as `compare`, without the steps. Cancelling it ends the work."""
        async with aclosing(self.compare(base, other, texts, seconds=seconds)) as steps:
            async for said in steps:
                if isinstance(said, Likeness):
                    return said
        raise AssertionError("unreachable: the last thing that is said is the outcome")

    async def _compared(
        self, versions: tuple[ModelVersion, ModelVersion], texts: Sequence[str], seconds: float
    ) -> AsyncGenerator[Step | Likeness, None]:
        base, other = versions
        _check_memory(base, other)
        folder = self._scratch / f"{layout.PARTIAL_PREFIX}{secrets.token_hex(8)}"
        try:
            folder.mkdir(mode=0o700)
            async with AsyncExitStack() as both:
                workers: list[Worker] = []
                loaded: list[Loaded] = []
                for name, version in (("base", base), ("other", other)):
                    yield Step(f"loading {version.ref}")
                    worker = await both.enter_async_context(self._started(name, version, folder))
                    await worker.tell(await self._job(version))
                    loaded.append(await worker.hear(Loaded, LOAD_MAX_S))
                    workers.append(worker)
                pairs: list[likeness.Pair] = []
                end_s = monotonic() + seconds
                for at, text in enumerate(texts):
                    if monotonic() > end_s and len(pairs) >= likeness.TEXTS_MIN:
                        break
                    yield Step("reading texts", at, len(texts))
                    pairs.append(await _pair(workers, text, is_swapped=at % 2 == 1))
            yield _judged(versions, loaded, pairs)
        finally:
            layout.remove(folder)

    def _started(self, name: str, version: ModelVersion, folder: Path) -> AbstractAsyncContextManager[Worker]:
        # numpy's threads would be there before the process confines itself, and it can only with one.
        env = {"GOMP_SPINCOUNT": SPIN_COUNT, "OPENBLAS_NUM_THREADS": "1", "HOME": str(folder), "TMPDIR": str(folder)}
        return started("stoker.runtime.score_main", f"reading with {version.ref}", folder / f"{name}.stderr", env)

    async def _job(self, version: ModelVersion) -> ScoreJob:
        laid = await asyncio.to_thread(layout.lay_out, version.manifest, self._blobs, self._models_dir)
        room = ADDRESSES_BYTES + 2 * version.size_bytes
        return ScoreJob(str(laid), version.manifest, CORES, WHOLE_MAX_S, room)


def everyday_texts() -> tuple[str, ...]:
    """Return the texts that are read when none are given: written for this, of many kinds, in four languages."""
    whole = resources.files("stoker.control").joinpath("everyday.txt").read_text("utf-8")
    return tuple(text.strip("\n") for text in whole.split("\n%%\n"))


def check(base: ModelVersion, other: ModelVersion, texts: Sequence[str]) -> None:
    """Refuse what cannot be compared. Raises InvalidInput, Unsupported."""
    for version in (base, other):
        if version.manifest.format != "gguf" or "chat" not in version.manifest.tasks:
            raise Unsupported(
                f"{version.ref} is no language model in the format gguf ({version.manifest.format}, "
                f"{', '.join(version.manifest.tasks)}); what others say of texts cannot be asked"
            )
    if not likeness.TEXTS_MIN <= len(texts) <= TEXTS_MAX:
        raise InvalidInput(f"{len(texts)} texts; give {likeness.TEXTS_MIN} to {TEXTS_MAX}", field="texts")
    for at, text in enumerate(texts):
        if len(text) > TEXT_CHARACTERS_MAX:
            raise InvalidInput(
                f"text {at + 1} has {len(text)} characters; at most {TEXT_CHARACTERS_MAX} are read", field="texts"
            )


def _check_memory(base: ModelVersion, other: ModelVersion) -> None:
    _, free = memory()
    needed = base.size_bytes + other.size_bytes + 2 * WORK_BYTES
    if free < needed:
        raise Unavailable(
            f"both at once take about {format_bytes(needed)} of memory, and {format_bytes(free)} are free; "
            "try again when less runs here"
        )


async def _pair(workers: Sequence[Worker], text: str, *, is_swapped: bool) -> likeness.Pair:
    """Return what both say of a text. One reads after the other, and not always the same one first."""
    said: dict[int, Scored] = {}
    for which in (1, 0) if is_swapped else (0, 1):
        await workers[which].tell(Text(text))
        said[which] = await workers[which].hear(Scored, TEXT_MAX_S)
    try:
        return likeness.pair(said[0], said[1])
    except likeness.DifferentTokens as different:
        raise Conflict(f"{different}; only versions with the same vocabulary can be compared") from different


def _judged(
    versions: tuple[ModelVersion, ModelVersion], loaded: Sequence[Loaded], pairs: Sequence[likeness.Pair]
) -> Likeness:
    try:
        found = likeness.compared(pairs)
    except ValueError as few:
        raise InvalidInput(str(few), field="texts") from few
    base, other = versions
    seconds = (
        (sum(one.base_read_s for one in pairs), sum(one.base_write_s for one in pairs)),
        (sum(one.other_read_s for one in pairs), sum(one.other_write_s for one in pairs)),
    )
    written = sum(one.written for one in pairs)
    sides = [
        Side(
            version.ref,
            version.size_bytes,
            there.engine,
            there.load_s,
            perplexity,
            round(found.tokens / read_s, 2),
            round(written / write_s, 2),
        )
        for version, there, perplexity, (read_s, write_s) in zip(
            versions, loaded, (found.base_perplexity, found.other_perplexity), seconds, strict=True
        )
    ]
    return Likeness(
        base=sides[0],
        other=sides[1],
        texts=found.texts,
        tokens=found.tokens,
        perplexity_ratio=found.perplexity_ratio,
        agreement_ratio=found.agreement_ratio,
        read_speed_ratio=found.read_speed_ratio,
        write_speed_ratio=found.write_speed_ratio,
        size_ratio=other.size_bytes / base.size_bytes,
    )
