"""Chats that the gateway sends to a server itself: real gateways, a real replica as the server's door-keeper.

What servers send and how they fail is in test_remote_pool.py; this is what the rest of the gateway makes of it.
"""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stoker.app.home import Home
from tests.engines_llm.support import spec
from tests.engines_llm.upstream import Upstream
from tests.gateway.rig import WAIT_S, Answer, Client, Rig, client, run, until
from tests.gateway.talkers import made_ready, metric, metrics

CHAT = "/v1/chat/completions"
KEY = "sk-upstream-secret"


class DoorRig(Rig):
    """`smol` is the upstream's model that the rig's replicas were started with."""

    secrets: tuple[str, ...] = ()  # of the endpoint smol; the first is its server's key

    def table(self, replicas: list[str], **limits: Any) -> dict[str, Any]:
        made = super().table(replicas, **limits)
        if self.secrets:
            (revision,) = made["endpoints"][1]["revisions"]
            revision |= {"secrets": self.secrets, "key": self.secrets[0]}
        return made

    def start_door(self, name: str, **options: Any) -> None:
        folder = self.home.replicas / name
        folder.mkdir(parents=True, exist_ok=True)
        made = msgspec.structs.replace(spec("openai", **options), address=self.home.address(name), replica=name)
        if self.secrets:
            made = msgspec.structs.replace(made, secrets={"options.api_key": self.secrets[0]})
        (folder / "spec.json").write_bytes(msgspec.json.encode(made))
        with self.log(name).open("ab") as log:
            argv = [sys.executable, "-m", "stoker.app.replica_main", str(folder / "spec.json")]
            self.processes[name] = subprocess.Popen(argv, stdout=log, stderr=log)

    def ready(self, count: int) -> None:
        until(lambda: asyncio.run(made_ready(self)) == count, f"{count} replicas are ready", 60)


@contextlib.contextmanager
def doors(
    folder: Path, gateways: int = 1, secret: str = "", environ: dict[str, str] | None = None, **options: Any
) -> Iterator[DoorRig]:
    """Start gateways and one door-keeper. secret: a reference, what its key is."""
    home = Home(folder / "home")
    home.make()
    made = DoorRig(home)
    made.secrets = (secret,) if secret else ()
    made.environ = environ or {}
    try:
        made.write_table(["r0"], resume="best_effort")
        made.start_door("r0", **options)
        for index in range(gateways):
            made.start_gateway(index, gateways)
        made.ready(1)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


@pytest.fixture
def key(tmp_path: Path) -> str:
    (tmp_path / "key").write_text(KEY)
    return str(tmp_path / "key")


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "smol", "messages": [{"role": "user", "content": "Hi"}], **fields}).encode()


async def begun(one: Client) -> AsyncIterator[bytes]:
    """Ask for a stream, read its first events, and return what follows."""
    one.send("POST", CHAT, body(stream=True))
    status, _ = await one.head()
    assert status == 200
    chunks = one.chunks()
    while (piece := await anext(chunks)).startswith(b": "):  # its door-keeper starts
        pass
    assert b"more" in piece
    return chunks


def events(answer: Answer) -> list[Any]:
    *lines, rest = answer.body.split(b"\n\n")
    assert rest == b""
    return [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]


def test_chats_pass_the_replica_by_and_what_it_must_see_does_not(upstream: Upstream, tmp_path: Path, key: str) -> None:
    """Whole, streamed and in an order of its own; the key is in no file and no log."""

    async def work() -> None:
        async with client(rig) as one:
            told = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "vendor=abc"}
            whole = await one.request("POST", CHAT, body(), **told)
            assert whole.status == 200
            assert whole.json["model"] == "smol"
            assert upstream.seen[-1].get("stream") is None  # the replica always asks for a stream
            assert upstream.headers[-1]["Authorization"] == f"Bearer {KEY}"
            assert upstream.headers[-1]["User-Agent"] == "stoker"
            assert upstream.headers[-1]["traceparent"].startswith(f"00-{'a' * 32}-")
            assert upstream.headers[-1]["tracestate"] == "vendor=abc"
            streamed = await one.request("POST", CHAT, body(stream=True))
            assert streamed.body.endswith(b"data: [DONE]\n\n")
            assert [event["choices"][0]["delta"].get("content") for event in events(streamed)] == ["Hel", "lo", None]
            form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
            refused = await one.request("POST", CHAT, body(response_format=form), **told)
            assert refused.status == 500
            assert "does not keep to the schema" in refused.json["error"]["message"]
            assert upstream.headers[-1]["User-Agent"] != "stoker"
            assert upstream.headers[-1]["traceparent"].startswith(f"00-{'a' * 32}-")
        counted = await metrics(rig)
        assert metric(counted, "stoker_tokens_total", endpoint="smol", kind="output") == 4
        assert metric(counted, "stoker_tokens_total", endpoint="smol", kind="input") == 10

    with doors(tmp_path, url=upstream.url, model="plain", api_key_file=key) as rig:
        run(work)
        written = [path for path in rig.home.root.rglob("*") if path.is_file()]
        assert not [path for path in written if KEY.encode() in path.read_bytes()]


def test_a_stream_does_not_need_its_door_keeper(upstream: Upstream, tmp_path: Path) -> None:
    """Paused, told to end and killed: what runs goes on, and an orderly end waits for it."""

    async def goes_on(chunks: AsyncIterator[bytes]) -> None:
        for _ in range(200):
            assert b"more" in await anext(chunks)

    async def leave(one: Client) -> None:
        one.close()
        async with asyncio.timeout(WAIT_S):
            while upstream.open_streams:
                await asyncio.sleep(0.01)

    async def work() -> None:
        async with client(rig) as one:
            chunks = await begun(one)
            rig.kill("r0", signal.SIGSTOP)
            await goes_on(chunks)
            rig.kill("r0", signal.SIGCONT)
            rig.kill("r0", signal.SIGTERM)
            await goes_on(chunks)
            assert rig.processes["r0"].poll() is None  # it waits for what gateways do with its server
            await leave(one)
        assert await asyncio.to_thread(rig.processes["r0"].wait, WAIT_S) == 0
        rig.start_door("r0", url=upstream.url, model="endless")
        async with client(rig) as one:
            chunks = await begun(one)  # once it is ready
            rig.kill("r0")
            await goes_on(chunks)
            await leave(one)

    with doors(tmp_path, url=upstream.url, model="endless") as rig:
        run(work)


def test_a_gateway_that_dies_takes_its_own_streams_with_it_and_no_others(upstream: Upstream, tmp_path: Path) -> None:
    """The kernel chooses the gateway of each connection; each has some."""

    async def work() -> None:
        async with contextlib.AsyncExitStack() as stack:
            clients, owners = list[Client](), set[str]()
            while len(clients) < 12 or len(owners) < 2:
                clients.append(await stack.enter_async_context(client(rig)))
                answer = await clients[-1].request("GET", "/healthz")
                owners.add(answer.headers["x-request-id"].split("-")[1])
            streams = [await begun(one) for one in clients]
            assert upstream.open_streams == len(clients)
            rig.kill("gateway-0")
            alive = 0
            for chunks in streams:
                try:
                    for _ in range(100):
                        await anext(chunks)
                    alive += 1
                except (asyncio.IncompleteReadError, ConnectionError, ValueError):
                    pass  # it was the other's
            assert 0 < alive < len(clients)
            async with asyncio.timeout(WAIT_S):
                while upstream.open_streams != alive:
                    await asyncio.sleep(0.01)

    with doors(tmp_path, 2, url=upstream.url, model="endless", slots=64) as rig:
        run(work)
