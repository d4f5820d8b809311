"""What the gateway costs a streamed chunk, and what 500 open streams cost: a real gateway before a fake engine.

The gateway runs without control, from the route table on its disk, as it would after control died.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from bench import load, machine
from bench.figures import Figure, percentile
from bench.report import Section
from bench.rounds import say
from bench.servers import ROOT, Contender, Server
from bench.up import free_port
from stoker.app.home import Home
from stoker.types.ids import EndpointName, KeyId, ProjectName, ReplicaId, RevisionId
from stoker.types.keys import UNLIMITED, KeyLimits
from stoker.types.routes import EndpointRoute, KeyRoute, ReplicaRoute, RevisionRoute, RouteTable

KEY = "stk_benchkey_" + "k" * 43
PATH = "/v1/chat/completions"
HEADERS = (("Authorization", f"Bearer {KEY}"), ("Content-Type", "application/json"))
STREAMS, EVENTS, EVERY_MS = 64, 500, 5  # the load of chunks: 12,800 a second
MANY, MANY_EVENTS, MANY_EVERY_MS = 500, 50, 100
TIMEOUT_S = 60.0
SLOTS = (
    "1000"  # as a language model says how many streams it works on; else a gateway learns it, with a queue meanwhile
)


def table(address: str, limits: KeyLimits = UNLIMITED) -> RouteTable:
    """Return the route table: one chat endpoint, one replica, one key."""
    replica = ReplicaRoute(ReplicaId("default.fake-1-bench"), address)
    revision = RevisionRoute(RevisionId("default.fake-1"), "1", 1, (replica,))
    project = ProjectName("default")
    endpoint = EndpointRoute(project, EndpointName("fake"), "chat", 0.0, (revision,), concurrency=10_000)
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    key = KeyRoute(digest, KeyId("benchkey"), project, limits=limits)
    return RouteTable(1, (endpoint,), (key,))


class Gateway:
    """One gateway process in a folder of its own. Used as a context manager.

    limits: of its one key. command: what runs it, before gateway_main's arguments. environ: what it has besides ours.
    """

    def __init__(
        self,
        folder: Path,
        address: str,
        *,
        limits: KeyLimits = UNLIMITED,
        command: Sequence[str] = (sys.executable, "-m", "stoker.app.gateway_main"),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        home = Home(folder)
        home.make()
        (home.gateway / "routes.json").write_bytes(msgspec.json.encode(table(address, limits)))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}{PATH}"
        self._log = (folder / "gateway.log").open("wb")
        self._process = subprocess.Popen(
            [*command, "--home", str(folder), "--port", str(self.port)],
            stderr=self._log,
            cwd=ROOT,
            env={**os.environ, **(environ or {})},
        )
        self.pid = self._process.pid

    def __enter__(self) -> "Gateway":
        deadline = time.monotonic() + 30
        while True:
            try:
                request = urllib.request.Request(self.url, data=body(1, 1), headers=dict(HEADERS))
                urllib.request.urlopen(request, timeout=5).close()
                return self
            except (OSError, urllib.error.HTTPError) as problem:
                if time.monotonic() > deadline:
                    self.__exit__()
                    raise RuntimeError(f"the gateway did not answer: {problem}") from problem
                time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def contender(self) -> Contender:
        return Contender("gateway", self.url, (self.pid,), HEADERS)


def body(events: int, every_ms: int) -> bytes:
    """Return a request for `events` events, one every `every_ms`."""
    message = {"role": "user", "content": f"every {every_ms} ms"}
    return json.dumps({"model": "fake", "stream": True, "max_tokens": events, "messages": [message]}).encode()


def run(gateway: Gateway, streams: int, request: bytes) -> dict[str, Any]:
    """Open `streams` streams at once, each with `request`; return what the generator saw."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bodies"
        path.write_bytes(b"\n".join([request] * streams))
        return load.own(
            "bench.streams",
            {
                "url": gateway.url,
                "headers": HEADERS,
                "bodies": str(path),
                "connections": streams,
                "timeout_s": TIMEOUT_S,
            },
            seconds=TIMEOUT_S,
        )


def measure(folder: Path, *, rounds: int) -> Section:
    """Return the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    socket = folder / "engine.sock"
    with (
        Server("fake engine", "bench.fake_engine", str(socket), SLOTS),
        Gateway(folder / "home", f"unix:{socket}") as gateway,
    ):
        run(gateway, STREAMS, body(EVENTS // 5, EVERY_MS))
        by_chunk = [chunks(gateway) for _ in range(rounds)]
        many = open_streams(gateway)
    cost = median(cpu_us for cpu_us, _ in by_chunk)
    rate = median(a_second for _, a_second in by_chunk)
    return Section(
        "Streaming relay",
        [
            Figure(
                "gateway CPU a chunk",
                cost,
                "µs",
                6,
                "at most",
                f"{STREAMS} streams, an event of 200 bytes each every {EVERY_MS} ms: {rate:,.0f} chunks/s",
            ),
            *many,
        ],
    )


def chunks(gateway: Gateway) -> tuple[float, float]:
    """Return processor microseconds a chunk and chunks a second; raises RuntimeError when a stream failed."""
    before = machine.cpu_s([gateway.pid])
    outcome = run(gateway, STREAMS, body(EVENTS, EVERY_MS))
    cpu_s = machine.cpu_s([gateway.pid]) - before
    bad = [stream for stream in outcome["streams"] if not stream["ok"]]
    if bad:
        raise RuntimeError(f"{len(bad)} of {STREAMS} streams failed, the first: {bad[0]['said']}")
    events = sum(stream["events"] for stream in outcome["streams"])
    say(f"  {events:,} chunks in {outcome['seconds']:.1f} s, {cpu_s / events * 1e6:.2f} µs of gateway CPU a chunk")
    return cpu_s / events * 1e6, events / outcome["seconds"]


def open_streams(gateway: Gateway) -> list[Figure]:
    """Return what many open streams cost in memory, and that none failed."""
    idle = machine.rss_bytes(gateway.pid)
    peak = [idle]
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.1):
            peak[0] = max(peak[0], machine.rss_bytes(gateway.pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        outcome = run(gateway, MANY, body(MANY_EVENTS, MANY_EVERY_MS))
        first_peak = peak[0]
        again = run(gateway, MANY, body(MANY_EVENTS, MANY_EVERY_MS))
    finally:
        is_over.set()
        watching.join()
    streams = [*outcome["streams"], *again["streams"]]
    first = percentile([stream["ttft_s"] for stream in streams], 0.99) * 1e3
    failed = sum(not stream["ok"] for stream in streams)
    note = f"{idle / 1e6:.0f} MB before, {peak[0] / 1e6:.0f} MB at the peak; TTFT p99 {first:.0f} ms of {MANY_EVERY_MS}"
    return [
        Figure(f"failed of twice {MANY} streams at once", failed, "", 0, "at most"),
        Figure(f"memory for {MANY} open streams", (first_peak - idle) / 1e6, "MB", None, "", note),
        Figure("memory more the second time", (peak[0] - first_peak) / 1e6, "MB", 5, "at most"),
    ]
