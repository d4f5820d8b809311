"""What it costs control to hear replicas: the processor of a tick, and the memory of what 100 of them have said.

The replicas are the ends of 100 sockets in a process of their own, each with the numbers of a real one.
"""

import argparse
import asyncio
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from statistics import median

from bench.figures import Figure
from stoker.control.around import ASKED_MAX, Around
from stoker.control.observe import Observer
from stoker.observe.history.accounts import Answer
from stoker.observe.history.history import History
from stoker.observe.port import TICK_S
from stoker.placement.local import LocalDriver
from stoker.protocol import frames
from stoker.protocol.frames import EndHead, Hello
from stoker.protocol.link import Exchange, refuse, serve
from stoker.runtime.numbers import Numbers
from stoker.telemetry.metrics import Registry, encode_snapshot
from stoker.types.ids import ReplicaId, RevisionId
from stoker.types.models import VersionManifest
from stoker.types.process import NodeStatus, ProcessStatus
from stoker.types.replica import ReplicaSpec, ReplicaStats

REPLICAS = 100
TICKS = 20
END_S = 1_900_000_000


def name(number: int) -> str:
    return f"default.chat-1-{number:05}"


class End:
    """A replica's end of its socket."""

    body_max_bytes = 1 << 16

    def __init__(self, number: int) -> None:
        self._name = name(number)
        spec = ReplicaSpec(
            replica=ReplicaId(self._name), revision=RevisionId("default.chat-1"), project="default",
            endpoint="chat", task="chat", model="m", version="1", engine="llamacpp", model_dir="",
            manifest=VersionManifest(format="gguf", files=(), entry="."), address="",
        )  # fmt: skip
        self._numbers = Numbers(spec)
        self._finished = 0

    def hello(self) -> Hello:
        return Hello(wire=frames.WIRE_VERSION, name=self._name, kind="replica", pid=1, boot="b", state="ready")

    def stats(self) -> ReplicaStats:
        return ReplicaStats(state="ready")

    def request(self, exchange: Exchange) -> None:
        raise refuse(exchange.head.method)

    def call(self, exchange: Exchange) -> None:
        self._finished += 7
        stats = ReplicaStats(
            state="ready", queued=3, running=4, slots=8, finished=self._finished, tokens=self._finished * 90,
            kv_used_ratio=0.4,
        )  # fmt: skip
        exchange.end(EndHead("application/msgpack"), encode_snapshot(self._numbers.snapshot(stats)))

    def drain(self) -> None:
        """Holds nothing."""


async def figures(folder: Path) -> list[Figure]:
    """Return what a tick costs control and what 70 minutes take."""
    argv = [sys.executable, "-m", "bench.around", str(folder)]
    ends = subprocess.Popen(argv, stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert ends.stdout is not None
    await asyncio.to_thread(ends.stdout.readline)
    clock_s = float(END_S)
    history = History(folder / "around.db", clock=lambda: clock_s)
    await history.start()
    processes = tuple(
        ProcessStatus(
            name=name(number), kind="replica", phase="ready", address=f"unix:{folder}/{number}",
            labels={"project": "default", "endpoint": "chat", "revision": "default.chat-1"},
        )
        for number in range(REPLICAS)
    )  # fmt: skip
    observer = Observer(LocalDriver(str(folder / "agent")))
    observer._take([NodeStatus("n1", 1, 2.0, 8 << 30, 1 << 30, processes)])
    around = Around(LocalDriver(str(folder / "agent")), observer, Registry("control"))
    used_s, answered = [], 0
    last: list[Answer] = []
    for _ in range(TICKS):
        clock_s += TICK_S
        began_s = time.process_time()
        found = await asyncio.gather(*(source.ask() for source in around.due()))
        last = [each for each in found if each is not None]
        await history.observe(last)
        used_s.append(time.process_time() - began_s)
        answered += len(last)
    assert answered == TICKS * ASKED_MAX, answered
    ends.kill()
    ends.wait()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(70 * 60 // TICK_S):
        clock_s += TICK_S
        await history.observe(last)
    grown = (tracemalloc.get_traced_memory()[0] - before) * REPLICAS / ASKED_MAX
    tracemalloc.stop()
    await history.close()
    return [
        Figure(f"{ASKED_MAX} replicas asked and taken in", median(used_s) * 1e3, "ms", note="CPU of control, a tick"),
        Figure(f"memory of the ring with {REPLICAS} replicas, 70 minutes", grown / 1e6, "MB"),
    ]


async def _ends(folder: Path) -> None:
    servers = [await serve(f"unix:{folder}/{number}", End(number)) for number in range(REPLICAS)]
    print("they listen", flush=True)
    await asyncio.Event().wait()
    for server in servers:
        await server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    asyncio.run(_ends(parser.parse_args().folder))
