"""What a chunk costs in the gateway's own code: its objects from one socket's bytes to the other's, without sockets.

python -m bench.pieces [FOLDER [ROUNDS]]

Prints processor microseconds a chunk, from a replica's frames and from a server of OpenAI's API that names its model as
the client does, and otherwise. With FOLDER, another tree of sources, both are measured in turn, in processes of their
own. What uvloop and the kernel take is not in it, so that it stands still on a busy machine.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import uvloop
from msgspec import Raw

from bench.build import need_sources
from bench.fake_engine import EVENT
from bench.peers.upstream import EVENT_CHUNK, STREAM_HEAD, chunk
from bench.relay import body
from bench.servers import ROOT
from stoker.gateway.exchange import Exchange
from stoker.gateway.http.connection import Connection as Client
from stoker.gateway.http.incoming import HttpRequest
from stoker.gateway.relay import Relay
from stoker.gateway.remote.call import Call
from stoker.gateway.remote.connection import Connection as Server
from stoker.gateway.remote.request import rewrite
from stoker.protocol import frames
from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import Link
from stoker.telemetry.histogram import Histogram

ROUNDS, TURNS, CHUNKS = 5, 12, 10_000
BODY = body(CHUNKS, 1)


class Sink:
    """A transport, and whatever else is only told something: takes all, and counts what is written."""

    now_s = 1.0
    date_line = b""
    is_draining = False
    wanted: frozenset[bytes] = frozenset()

    def __init__(self) -> None:
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += len(data)

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, _name: str) -> None:
        return None

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def exchange(sink: Sink) -> Exchange:
    """Return one whose client's bytes go to `sink`."""
    site: Any = sink
    client = Client(site)
    transport: Any = sink
    client.connection_made(transport)
    client.active = HttpRequest(b"POST", b"/v1/chat/completions", {}, 0.0)
    client.active.body = BODY
    route: Any = SimpleNamespace(method="chat")
    made = Exchange(client, client.active, route, "fake", "")
    made.stream = True
    text = SimpleNamespace(between=Histogram())
    meters = SimpleNamespace(revision=lambda *_: SimpleNamespace(text=text))
    lane: Any = SimpleNamespace(meters=meters, arms=None)
    bill: Any = SimpleNamespace(pieces=0, bytes_out=0)
    made.lane, made.bill = lane, bill
    return made


def from_replica(sink: Sink) -> tuple[Callable[[bytes], None], bytes]:
    """Return what takes a replica's bytes, and those of a chunk."""
    link = Link(asyncio.get_running_loop())
    transport: Any = Sink()
    link.connection_made(transport)
    replica: Any = SimpleNamespace(progress=0, link=None, others=0, revision="")
    Relay(exchange(sink), replica, link, RequestHead(method="chat", body_bytes=len(BODY)), BODY)
    return link.data_received, frames.frame(Kind.DATA, 1, EVENT)


def from_server(sink: Sink, name: bytes) -> tuple[Callable[[bytes], None], bytes]:
    """Return what takes the bytes of a server that calls its model `name`, and those of a chunk."""
    calls: list[Call] = []

    def send(receiver: Any, _head: RequestHead, asked: bytes) -> int:
        calls.append(Call(1, receiver, rewrite("chat", asked, Raw(name)), "r", lambda _: None))
        return 1

    sender: Any = SimpleNamespace(loop=asyncio.get_running_loop(), send=send, credit=lambda _, n: calls[0].credit(n))
    replica: Any = SimpleNamespace(progress=0, link=None, others=0, revision="")
    Relay(exchange(sink), replica, sender, RequestHead(method="chat"), BODY)
    owner: Any = Sink()
    server = Server(owner)
    server.connection_made(owner)
    server.start(calls[0], b"")
    sent = EVENT_CHUNK if name == b'"fake"' else chunk(EVENT.replace(b'"fake"', name))
    server.data_received(STREAM_HEAD + sent)
    return server.data_received, sent


async def measure() -> dict[str, float]:
    """Return processor microseconds a chunk."""
    ways = {
        "replica": from_replica,
        "server, same name": lambda sink: from_server(sink, b'"fake"'),
        "server, other name": lambda sink: from_server(sink, b'"served"'),
    }
    found = {}
    for way, begin in ways.items():
        sink = Sink()
        feed, sent = begin(sink)
        turns = []
        for _ in range(TURNS):
            began_s = time.process_time()
            for _ in range(CHUNKS):
                feed(sent)
            turns.append((time.process_time() - began_s) / CHUNKS * 1e6)
        assert sink.written > TURNS * CHUNKS * len(EVENT) * 0.9, "the chunks went nowhere"
        found[way] = median(turns)
    return found


def other(tree: Path) -> dict[str, float]:
    """Measure in a process of its own that runs the sources of `tree`."""
    environ = {**os.environ, "PYTHONPATH": str(tree / "src")}
    command = [sys.executable, "-m", "bench.pieces"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    pairs = (line.rsplit(None, 1) for line in done.stdout.splitlines())
    return {way.strip(): float(us) for way, us in pairs}


def main() -> None:
    """Measure, and print a line a way."""
    need_sources("a gateway without sockets")
    if len(sys.argv) == 1:
        for way, us in uvloop.run(measure()).items():
            print(f"{way:20} {us:.3f}")
        return
    tree, rounds = Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    taken: list[tuple[Mapping[str, float], Mapping[str, float]]] = []
    for number in range(rounds):
        both = {each: other(each) for each in ((tree, ROOT) if number % 2 else (ROOT, tree))}
        taken.append((both[tree], both[ROOT]))
    for way in taken[0][0]:
        theirs, ours = (median(pair[at][way] for pair in taken) for at in (0, 1))
        print(f"{way:20} {theirs:.2f} -> {ours:.2f} us   x {median(b[way] / a[way] for a, b in taken):.3f}")


if __name__ == "__main__":
    main()
