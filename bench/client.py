"""The own load generator, where wrk is missing or the loop is open: raw sockets, prebuilt bytes, hardly any parsing.

python -m bench.client '{"url": …, "headers": …, "body": FILE, "connections": N, "seconds": S, "rate": R}'

Prints one JSON line on standard error. In open loop a request waits for a free connection; its latency counts from the
moment it should have been sent, so a server that stalls cannot hide it (no coordinated omission).
"""

import asyncio
import json
import random
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from bench.figures import percentile

WAITING_MAX = 100_000  # requests due and not sent in open loop; more count as errors
DRAIN_S = 5.0


def request_bytes(url: str, headers: list[list[str]], body: bytes) -> bytes:
    """Return the whole request as it goes over the wire."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path or '/'} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
    lines.extend(f"{name}: {value}" for name, value in headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Run:
    """What is shared by the connections of one run."""

    def __init__(self, request: bytes, seconds: float) -> None:
        self.request = request
        self.stop_at = time.perf_counter() + seconds
        self.latencies: list[float] = []
        self.errors = 0
        self.due: deque[float] = deque()
        self.idle: list[Connection] = []
        self.is_open_loop = False

    def next_for(self, connection: "Connection") -> None:
        """Give `connection` its next request, or keep it idle."""
        now = time.perf_counter()
        if not self.is_open_loop:
            if now < self.stop_at:
                connection.send(now)
            else:
                connection.finish()
        elif self.due:
            connection.send(self.due.popleft())
        else:
            self.idle.append(connection)

    def arrive(self, due_at: float) -> None:
        """A request of the open loop is due."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.is_done:
                connection.send(due_at)
                return
        if len(self.due) >= WAITING_MAX:
            self.errors += 1
        else:
            self.due.append(due_at)


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._sent_at = 0.0
        self._held = b""
        self._transport: Any = None
        self.is_done = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._run.next_for(self)

    def send(self, due_at: float) -> None:
        self._sent_at = due_at
        self._transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        held = self._held + data if self._held else data
        size = answer_size(held)
        if size is None or len(held) < size:
            self._held = held
            return
        self._held = held[size:]
        self._run.latencies.append(time.perf_counter() - self._sent_at)
        if held[9:10] != b"2":
            self._run.errors += 1
        self._sent_at = 0.0
        self._run.next_for(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._sent_at:
            self._run.latencies.append(time.perf_counter() - self._sent_at)
            self._run.errors += 1
        self.finish()

    def finish(self) -> None:
        self.is_done = True
        if not self.done.done():
            self.done.set_result(None)
        self._transport.close()


def answer_size(data: bytes) -> int | None:
    """Return how many bytes the answer at the start of `data` takes; None while its head is not there whole."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    at = data[:end].lower().find(b"\r\ncontent-length:")  # not the inference header's length
    if at < 0:
        raise ValueError("an answer without Content-Length")
    return end + 4 + int(data[at + 17 : end].split(b"\r\n", 1)[0])


async def generate(plan: dict[str, Any]) -> dict[str, float]:
    """Run `plan` and return what was measured."""
    body = await asyncio.to_thread(Path(plan["body"]).read_bytes)
    run = Run(request_bytes(plan["url"], plan["headers"], body), plan["seconds"])
    run.is_open_loop = bool(plan["rate"])
    parts = urlsplit(plan["url"])
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    connections: list[Connection] = []
    for _ in range(plan["connections"]):
        _, connection = await loop.create_connection(lambda: Connection(run), parts.hostname, parts.port)
        connections.append(connection)
    if run.is_open_loop:
        await _arrivals(run, plan["rate"])
        await _drain(run, connections)
    await asyncio.wait([connection.done for connection in connections], timeout=plan["seconds"] + DRAIN_S)
    return {
        "requests": len(run.latencies),
        "errors": run.errors + len(run.due),
        "seconds": time.perf_counter() - started,
        "p50_s": percentile(run.latencies, 0.5),
        "p99_s": percentile(run.latencies, 0.99),
    }


async def _arrivals(run: Run, rate: float) -> None:
    draw = random.Random(1)  # the same arrivals for every contender
    due_at = time.perf_counter()
    behind = 0
    while (due_at := due_at + draw.expovariate(rate)) < run.stop_at:
        pause = due_at - time.perf_counter()
        if pause > 0.0005:
            await asyncio.sleep(pause)
            behind = 0
        elif (behind := behind + 1) % 16 == 0:
            await asyncio.sleep(0)  # behind schedule, and answers must come in meanwhile
        run.arrive(due_at)


async def _drain(run: Run, connections: list[Connection]) -> None:
    deadline = time.perf_counter() + DRAIN_S
    while len(run.idle) < sum(not connection.is_done for connection in connections):
        if time.perf_counter() > deadline:
            break
        await asyncio.sleep(0.01)
    for connection in connections:
        if not connection.is_done:
            connection.finish()


if __name__ == "__main__":
    sys.stderr.write(json.dumps(uvloop.run(generate(json.loads(sys.argv[1])))) + "\n")
