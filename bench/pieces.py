"""What a chunk, and both ends of a request, cost in the gateway's own code: its objects without sockets.

python -m bench.pieces [FOLDER [ROUNDS]]

Prints processor microseconds: of a chunk from one socket's bytes to the other's, out of a replica's frames and from a
server of OpenAI's API that names its model as the client does, and otherwise; of a request's head and body, read; of a
request to a replica and its answer, as frames. With FOLDER, another tree of sources, both are measured in turn, in
processes of their own. What uvloop and the kernel take is not in it, so that it stands still on a busy machine.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, cast

import uvloop
from msgspec import Raw

from bench.build import need_sources
from bench.fake_engine import EVENT
from bench.peers.upstream import EVENT_CHUNK, STREAM_HEAD, chunk
from bench.relay import body
from bench.servers import ROOT
from stoker.gateway.exchange import Exchange
from stoker.gateway.http.connection import Connection as Client
from stoker.gateway.http.incoming import HttpRequest, Incoming
from stoker.gateway.relay import Relay
from stoker.gateway.remote.call import Call
from stoker.gateway.remote.connection import Connection as Server
from stoker.gateway.remote.request import rewrite
from stoker.protocol import frames
from stoker.protocol.frames import EndHead, Kind, RequestHead
from stoker.protocol.link import Link
from stoker.telemetry.histogram import Histogram

ROUNDS, TURNS, TIMES = 5, 12, 5_000
BODY = body(2 * TURNS * TIMES, 1)
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nAuthorization: Bearer k\r\n\r\n" % len(
    BODY
)
ANSWER = b"x" * 300
Repeated = Callable[[], object]


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

    def push(self, event: tuple[EndHead, bytes]) -> None:
        self.written += len(event[1])

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class Owner:
    """Takes requests, as a connection does."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def take(self, request: HttpRequest) -> None:
        self._sink.written += len(request.body)

    def now_s(self) -> float:
        return 1.0


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


def from_replica(sink: Sink) -> Repeated:
    """Return what passes on a replica's chunk."""
    link = Link(asyncio.get_running_loop())
    transport: Any = Sink()
    link.connection_made(transport)
    replica: Any = SimpleNamespace(progress=0, link=None, others=0, revision="")
    Relay(exchange(sink), replica, link, RequestHead(method="chat", body_bytes=len(BODY)), BODY)
    return partial(link.data_received, frames.frame(Kind.DATA, 1, EVENT))


def from_server(name: bytes, sink: Sink) -> Repeated:
    """Return what passes on a chunk of a server that calls its model `name`."""
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
    return partial(server.data_received, sent)


def read(sink: Sink) -> Repeated:
    """Return what reads a request."""
    owner: Any = Owner(sink)
    return partial(Incoming(owner).feed, HEAD + BODY)


def asked(sink: Sink) -> Repeated:
    """Return what asks a replica and takes its answer."""
    link = Link(asyncio.get_running_loop())
    transport: Any = Sink()
    link.connection_made(transport)
    head, end, receiver = RequestHead(method="chat", body_bytes=len(BODY)), EndHead("application/json"), cast(Any, sink)

    def ask() -> None:
        stream = link.send(receiver, head, BODY)
        link.data_received(frames.with_head(Kind.END, stream, end, ANSWER))

    return ask


WAYS: dict[str, Callable[[Sink], Repeated]] = {
    "a chunk of a replica": from_replica,
    "of a server, same name": partial(from_server, b'"fake"'),
    "of a server, another": partial(from_server, b'"served"'),
    "a request is read": read,
    "a replica is asked": asked,
}


async def measure() -> dict[str, float]:
    """Return processor microseconds of each way."""
    found = {}
    for way, begin in WAYS.items():
        sink = Sink()
        once = begin(sink)
        turns = []
        for _ in range(TURNS):
            began_s = time.process_time()
            for _ in range(TIMES):
                once()
            turns.append((time.process_time() - began_s) / TIMES * 1e6)
        assert sink.written > TURNS * TIMES * len(BODY) * 0.9, "it went nowhere"
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
            print(f"{way:24} {us:.3f}")
        return
    tree, rounds = Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    taken: list[tuple[Mapping[str, float], Mapping[str, float]]] = []
    for number in range(rounds):
        both = {each: other(each) for each in ((tree, ROOT) if number % 2 else (ROOT, tree))}
        taken.append((both[tree], both[ROOT]))
    for way in taken[0][0]:
        theirs, ours = (median(pair[at][way] for pair in taken) for at in (0, 1))
        print(f"{way:24} {theirs:.2f} -> {ours:.2f} us   x {median(b[way] / a[way] for a, b in taken):.3f}")


if __name__ == "__main__":
    main()
