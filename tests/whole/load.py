"""Requests in a loop from many connections, each outcome kept: the witness of the kill tests."""

import asyncio
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp

SAID_MAX = 100
DIGIT = {"inputs": [{"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": [0.0] * 64}]}


@dataclass
class Outcome:
    """What the loop saw: answers by status, connections that broke, the slowest answer, the bodies of refusals.

    said: different bodies, the first SAID_MAX.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    broken: int = 0
    slowest_s: float = 0.0
    refusals: list[str] = field(default_factory=list)
    said: set[str] = field(default_factory=set)

    @property
    def answered(self) -> int:
        return sum(self.statuses.values())

    def failed(self) -> dict[int, int]:
        return {status: count for status, count in self.statuses.items() if status != 200}


class Load:
    """Closed loop of `connections` clients against one URL, in a thread of its own, until the block ends."""

    def __init__(self, url: str, key: str, body: dict[str, Any] | None = None, *, connections: int = 8) -> None:
        self.url, self.key = url, key
        self.body = json.dumps(body or DIGIT).encode()
        self.connections = connections
        self.pause_s = 0.0  # of each connection, after each answer
        self.outcome = Outcome()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(150)
        assert not self._thread.is_alive(), "a request hangs"

    def wait_for(self, more: int, timeout_s: float = 120) -> None:
        """Block until `more` further answers have come."""
        goal, deadline = self.outcome.answered + more, time.monotonic() + timeout_s
        while self.outcome.answered < goal:
            assert time.monotonic() < deadline, f"the answers stopped: {self.outcome}"
            time.sleep(0.01)

    async def _main(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(self.connections)))

    async def _client(self) -> None:
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=120)
        while not self._stop.is_set():
            connector = aiohttp.TCPConnector(limit=1)
            try:
                async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
                    while not self._stop.is_set():
                        await self._once(session)
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
                self.outcome.broken += 1
                await asyncio.sleep(0.02)

    async def _once(self, session: aiohttp.ClientSession) -> None:
        started = time.monotonic()
        async with session.post(self.url, data=self.body) as answer:
            text = await answer.text()
        self.outcome.slowest_s = max(self.outcome.slowest_s, time.monotonic() - started)
        self.outcome.statuses[answer.status] += 1
        if len(self.outcome.said) < SAID_MAX:
            self.outcome.said.add(text)
        if answer.status != 200:
            self.outcome.refusals = [*self.outcome.refusals[-9:], f"{answer.status} {text}"]
            await asyncio.sleep(0.02)
        elif self.pause_s:
            await asyncio.sleep(self.pause_s)
