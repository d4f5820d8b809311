"""A replica process as the agent starts it, and the gateway's end of its socket."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from stoker.protocol import frames
from stoker.protocol.frames import EndHead, Hello, RequestHead
from stoker.protocol.link import Exchange, Link, connect, serve
from stoker.runtime.engines.port import PredictEngine
from stoker.runtime.predict import PredictWork
from stoker.types.errors import ReplicaLost
from stoker.types.replica import ReplicaSpec, ReplicaStats

PATIENCE_S = 90.0  # to give up, not to be quick: an engine that compiles its model shares the machine


class Process:
    """One running replica."""

    def __init__(self, spec: ReplicaSpec, folder: Path) -> None:
        self.spec = msgspec.structs.replace(
            spec, address=f"unix:{folder / 'r.sock'}", error_file=str(folder / "error.json")
        )
        self.folder = folder
        self.links: list[Link] = []
        path = folder / "spec.json"
        path.write_bytes(msgspec.json.encode(self.spec))
        self._log = (folder / "log").open("wb")
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "stoker.app.replica_main", str(path)], stdout=self._log, stderr=self._log
        )

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def error(self) -> Any:
        return json.loads((self.folder / "error.json").read_bytes())

    def exit_code(self) -> int:
        return self.popen.wait(PATIENCE_S)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.popen.pid, number)

    def end(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(PATIENCE_S)
        self._log.close()

    async def connect(self) -> Link:
        """Connect as soon as it listens, in whatever state."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                link = await connect(self.spec.address)
            except ReplicaLost:
                assert self.popen.poll() is None, self.log
                assert time.monotonic() < until, self.log
                await asyncio.sleep(0.01)
            else:
                self.links.append(link)
                return link

    async def ready(self) -> Link:
        link = await self.connect()
        await until(link, lambda stats: stats.state == "ready", self)
        return link


@contextlib.contextmanager
def running(spec: ReplicaSpec, folder: Path) -> Iterator[Process]:
    folder.mkdir(parents=True, exist_ok=True)
    process = Process(spec, folder)
    try:
        yield process
    finally:
        process.end()


async def stats_of(link: Link) -> ReplicaStats:
    _, body = await link.call(RequestHead("stats"), kind=11).answer()  # type: ignore[arg-type]
    return msgspec.json.decode(body, type=ReplicaStats)


async def until(link: Link, holds: Callable[[ReplicaStats], bool], process: Process | None = None) -> ReplicaStats:
    """Ask for statistics until they are as wanted."""
    limit = time.monotonic() + PATIENCE_S
    while True:
        stats = await stats_of(link)
        if holds(stats):
            return stats
        assert time.monotonic() < limit, (stats, process.log if process else "")
        await asyncio.sleep(0.01)


def infer_body(rows: Any, *, name: str = "input", datatype: str = "FP64") -> bytes:
    array = np.atleast_2d(np.asarray(rows, np.float64))
    tensor = {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.reshape(-1).tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


async def ask(link: Link, method: str, body: bytes, **head: Any) -> tuple[EndHead, bytes]:
    return await link.call(RequestHead(method, request="r1", body_bytes=len(body), **head), body).answer()


async def infer(link: Link, rows: Any, *, name: str = "input", **head: Any) -> dict[str, Any]:
    """Return the outputs of one infer request, as lists by name."""
    _, body = await ask(link, "infer", infer_body(rows, name=name), **head)
    return {output["name"]: np.array(output["data"]).reshape(output["shape"]) for output in json.loads(body)["outputs"]}


def drive(process: Process, body: Callable[[Process], Awaitable[None]], others: Sequence[Process] = ()) -> None:
    """Run an async test body with a limit, and close what it connected."""

    async def main() -> None:
        try:
            async with asyncio.timeout(PATIENCE_S * 2):
                await body(process)
        finally:
            for link in (link for each in (process, *others) for link in each.links):
                link.close()
            await asyncio.sleep(0)  # a transport closes in the next turn of the loop

    asyncio.run(main())


class Host:
    """A link.Handler around one work."""

    body_max_bytes = 1 << 20

    def __init__(self, work: PredictWork) -> None:
        self.work = work

    def hello(self) -> Hello:
        return Hello(wire=frames.WIRE_VERSION, name="host", kind="replica", pid=os.getpid(), boot="b", state="ready")

    def stats(self) -> ReplicaStats:
        return ReplicaStats()

    def drain(self) -> None:
        pass

    def call(self, exchange: Exchange) -> None:
        if exchange.head.method == "predictions":
            self.work.hand_over(exchange)
        elif exchange.head.method == "shapes":
            self.work.tell_shapes(exchange)
        else:
            self.work.watch(exchange)

    def request(self, exchange: Exchange) -> None:
        self.work.take(exchange)


@contextlib.asynccontextmanager
async def hosted(folder: Path, engine: PredictEngine, spec: ReplicaSpec) -> AsyncIterator[tuple[PredictWork, Link]]:
    """Serve `engine` in this process, on a real socket."""
    work = PredictWork(spec, engine, asyncio.get_running_loop())
    address = f"unix:{folder / 'h.sock'}"
    server = await serve(address, Host(work))
    link = await connect(address, timeout_s=PATIENCE_S)
    try:
        yield work, link
    finally:
        link.close()
        await server.close()
        work.close()
