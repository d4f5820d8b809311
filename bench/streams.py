"""The load generator for streamed answers: opens streams, times first tokens, counts events; parses next to nothing.

python -m bench.streams '{"url": …, "headers": …, "bodies": FILE, "connections": N, "timeout_s": S, "spread_s": S}'

FILE holds one request body a line; `connections` streams are open at a time until all were sent. With `spread_s` the
first of each begins within those seconds, one after another, not all at once. Prints one JSON line on standard error:
a list of streams. The first token counts from the moment before the connection is made; a gap is the time between two
reads of events.
"""

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

from bench.client import request_bytes
from bench.figures import percentile

CONTENT = re.compile(rb'"(?:content|text)"\s*:\s*"[^"]')
TOKENS = re.compile(rb'"completion_tokens"\s*:\s*(\d+)')
TAIL = 4096  # bytes kept of what came before, for what a read cut in two


class Stream(asyncio.Protocol):
    """One request on a connection of its own."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._started = time.perf_counter()
        self._first_at = 0.0
        self._tail = b""
        self._head = b""
        self._ended_at = 0.0
        self.events = 0
        self.gaps: list[float] = []
        self.size = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)  # uvloop's are no subclass

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if len(self._head) < 12:
            self._head += data[:12]
        joined = self._tail[-5:] + data
        self.events += joined.count(b"data: ")
        self.size += len(data)
        if self._first_at:
            self.gaps.append(now - self._ended_at)
        elif CONTENT.search(self._tail + data):
            self._first_at = now
        self._tail = (self._tail + data)[-TAIL:]
        self._ended_at = now

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def outcome(self) -> dict[str, Any]:
        """Return what was seen: `ok` means status 200, a first token, and a proper end."""
        found = TOKENS.search(self._tail)
        is_ok = self._head[9:12] == b"200" and b"data: [DONE]" in self._tail and self._first_at > 0
        return {
            "ok": is_ok,
            "ttft_s": self._first_at - self._started if self._first_at else 0.0,
            "seconds": self._ended_at - self._started if self._ended_at else 0.0,
            "tokens": int(found[1]) if found else 0,
            "events": self.events,
            "bytes": self.size,
            "said": "" if is_ok else (self._head + b" ... " + self._tail[-300:]).decode(errors="replace"),
        }


async def generate(plan: dict[str, Any]) -> dict[str, Any]:
    """Run `plan` and return `seconds` from the first request to the last end, the streams, and the gaps' p99."""
    bodies = (await asyncio.to_thread(Path(plan["bodies"]).read_bytes)).splitlines()
    headers = [*plan["headers"], ["Connection", "close"]]
    requests = [request_bytes(plan["url"], headers, body) for body in bodies]
    requests.reverse()
    parts = urlsplit(plan["url"])
    loop = asyncio.get_running_loop()
    streams: list[dict[str, Any]] = []

    gaps: list[float] = []

    async def one_after_another(number: int) -> None:
        await asyncio.sleep(plan.get("spread_s", 0.0) * number / plan["connections"])
        while requests:
            stream = Stream(requests.pop())
            transport, _ = await loop.create_connection(lambda: stream, parts.hostname, parts.port)  # noqa: B023
            try:
                await asyncio.wait_for(stream.ended, plan["timeout_s"])
            except TimeoutError:
                transport.abort()
            streams.append(stream.outcome())
            gaps.extend(stream.gaps)

    started = time.perf_counter()
    await asyncio.gather(*(one_after_another(number) for number in range(plan["connections"])))
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "streams": streams, "gap_p99_s": percentile(gaps, 0.99)}


if __name__ == "__main__":
    sys.stderr.write(json.dumps(uvloop.run(generate(json.loads(sys.argv[1])))) + "\n")
