"""A real gateway before real replica processes that run a small deterministic language model, for tests and the bench.

A prompt says how long it waits after each token (`every:0.01`), and where it waits for a file (`hold:20:PATH`: before
token 20, counted from 0). Each of its tokens depends on the whole text before it, as a greedy model's do: one token
lost, doubled or out of place changes all that follow.
"""

import asyncio
import contextlib
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from stoker.app.home import Home
from tests.gateway.rig import Rig, client, until
from tests.runtime.models import python_spec

WORDS = ["a", " b", "\n", " data: ", '"', "é", "日本", "🎉", "\\n", " the", "}", " stone", "\t", " river", ":", " 17"]
TALKER = """
import asyncio, hashlib, os, re

WORDS = THE_WORDS


def word_after(prompt, text):
    return WORDS[hashlib.sha256(f"{prompt}|{text}".encode()).digest()[0] % len(WORDS)]


def count(prompt, text):
    said, words = "", 0
    while said != text:
        said += word_after(prompt, said)
        words += 1
    return words


class Model:
    async def generate(self, request):
        async for word in self.talk(request, ""):
            yield word

    async def talk(self, request, text):
        prompt = request.messages[-1].content if hasattr(request, "messages") else request.prompt
        every = float(re.search(r"every:([0-9.]+)", prompt)[1])
        holds = {int(at): path for at, path in re.findall(r"hold:([0-9]+):(\\S+)", prompt)}
        said = count(prompt, text)
        for _ in range(request.max_tokens):
            while said in holds and not os.path.exists(holds[said]):
                await asyncio.sleep(0.005)
            word = word_after(prompt, text)
            text += word
            said += 1
            yield word
            await asyncio.sleep(every)
""".replace("THE_WORDS", repr(WORDS))
RESUMING = """
    async def resume(self, request, text):
        async for word in self.talk(request, text):
            yield word
"""


def expected(prompt: str, tokens: int) -> str:
    """Return what the model says when nothing disturbs it."""
    text = ""
    for _ in range(tokens):
        text += WORDS[hashlib.sha256(f"{prompt}|{text}".encode()).digest()[0] % len(WORDS)]
    return text


class TalkerRig(Rig):
    """`smol` runs the talker."""

    code = TALKER + RESUMING

    def spawn_replica(self, name: str, *arguments: str) -> None:
        """Start one replica."""
        folder = self.home.replicas / name
        address = self.home.address(name)
        options = {"slots": 256}
        spec = python_spec(folder / "model", self.code, "chat", address=address, replica=name, options=options)
        (folder / "spec.json").write_bytes(msgspec.json.encode(spec))
        self.socket(name).unlink(missing_ok=True)
        with self.log(name).open("ab") as log:
            argv = [sys.executable, "-m", "stoker.app.replica_main", str(folder / "spec.json")]
            self.processes[name] = subprocess.Popen(argv, stdout=log, stderr=log)


@contextlib.contextmanager
def talkers(folder: Path, replicas: int = 2, *, resuming: bool = True, **limits: Any) -> Iterator[TalkerRig]:
    """Start a gateway and `replicas` talkers; kill all of them at the end."""
    home = Home(folder / "home")
    home.make()
    made = TalkerRig(home)
    made.code = TALKER + (RESUMING if resuming else "")
    try:
        names = [f"r{number}" for number in range(replicas)]
        made.write_table(names, **limits)
        for name in names:
            made.spawn_replica(name)
        made.start_gateway()
        until(lambda: asyncio.run(made_ready(made)) == replicas, "every talker is ready")
        yield made
    finally:
        made.close()


async def made_ready(rig: Rig) -> int:
    """Return how many replicas of smol the gateway may send to."""
    return int(metric(await metrics(rig), "stoker_replicas_ready", endpoint="smol"))


async def metrics(rig: Rig) -> str:
    """Return what `/metrics` says."""
    async with client(rig) as one:
        return (await one.request("GET", "/metrics")).body.decode()


def metric(text: str, name: str, **labels: str) -> float:
    """Return the sum over the series of `name` that have `labels`."""
    total = 0.0
    for line in text.splitlines():
        if line.startswith(name + "{") and all(f'{label}="{value}"' in line for label, value in labels.items()):
            total += float(line.rpartition(" ")[2])
    return total


def ask_body(prompt: str, tokens: int, **fields: Any) -> bytes:
    """Return a streamed chat request with usage; greedy unless `fields` say otherwise."""
    return json.dumps(
        {
            "model": "smol",
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0,
        }
        | fields
    ).encode()


class Stream:
    """One streamed answer, checked for everything that comes once."""

    def __init__(self, body: bytes) -> None:
        self.events = [
            event.removeprefix("data: ") for event in body.decode().split("\n\n") if event.startswith("data: ")
        ]
        self.has_ended = self.events[-1:] == ["[DONE]"]
        self.chunks: list[Any] = [json.loads(event) for event in self.events if event != "[DONE]"]
        self.error = self.chunks[-1].get("error") if self.chunks else None
        self.choices = [choice for chunk in self.chunks for choice in chunk.get("choices", ())]
        self.text = "".join(choice["delta"].get("content") or "" for choice in self.choices)

    def faults(self) -> list[str]:
        """Return what a client could see of the seam."""
        good = [chunk for chunk in self.chunks if "error" not in chunk]
        usages = [chunk["usage"] for chunk in good if chunk.get("usage")]
        claims = {
            "one id": len({chunk["id"] for chunk in good}) == 1,
            "one created": len({chunk["created"] for chunk in good}) == 1,
            "one model": len({chunk["model"] for chunk in good}) == 1,
            "one role": [at for at, one in enumerate(self.choices) if "role" in one["delta"]] == [0],
            "one finish reason, last": [at for at, one in enumerate(self.choices) if one["finish_reason"]]
            == [len(self.choices) - 1],
            "one usage": len(usages) == 1,
            "one end": self.events.count("[DONE]") == 1 and self.has_ended,
        }
        return [name for name, holds in claims.items() if not holds]


def words_in(piece: bytes) -> int:
    """Return how many tokens a piece of a stream brings; on a busy machine several come in one."""
    return piece.count(b'"content":"') - piece.count(b'"content":""')


async def stream(rig: Rig, body: bytes, on_piece: Callable[[bytes], None] | None = None) -> Stream:
    """Send `body` and read its answer to the end; `on_piece` sees each piece as it comes."""
    async with client(rig) as one:
        one.send("POST", "/v1/chat/completions", body)
        status, headers = await one.head()
        if status != 200:
            raise AssertionError(f"{status}: {(await one.reader.read(2000)).decode()}")
        assert headers.get("transfer-encoding") == "chunked"
        pieces = []
        async for piece in one.chunks():
            pieces.append(piece)
            if on_piece is not None:
                on_piece(piece)
        return Stream(b"".join(pieces))
