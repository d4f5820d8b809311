"""An open loop of many callers at once, each with a key, a rate and deadlines of its own: JSON in, JSON out.

python -m bench.storm PLAN

Arrivals are Poisson, whatever the answers do, over as many kept connections as that takes (CONNECTIONS_MAX). What
arrives when all are taken is counted as `unsent`: a generator that falls behind must say so.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter

import msgspec
import uvloop

from bench.figures import percentile

CONNECTIONS_MAX = 1500


class Caller(msgspec.Struct, frozen=True):
    """Who calls: `timeouts_ms` are drawn from evenly; empty: no deadline is sent."""

    name: str
    key: str
    rate: float
    timeouts_ms: list[int] = []


class Plan(msgspec.Struct, frozen=True):
    """What is sent where, for how long."""

    port: int
    path: str
    body: str
    seconds: float
    callers: list[Caller]
    seed: int = 1


class Seen:
    """What came of one caller's requests."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.good_s: list[float] = []
        self.late = 0  # answered well, after the deadline
        self.late_by_s: list[float] = []
        self.refused_s: list[float] = []
        self.unsent = 0

    def summary(self, seconds: float) -> dict[str, object]:
        """Return the numbers."""
        return {
            "statuses": {str(status): count for status, count in self.statuses.items()},
            "good_per_s": len(self.good_s) / seconds,
            "p50_s": percentile(self.good_s, 0.5),
            "p99_s": percentile(self.good_s, 0.99),
            "late": self.late,
            "late_by_p99_s": percentile(self.late_by_s, 0.99),
            "refused_p50_s": percentile(self.refused_s, 0.5),
            "refused_p99_s": percentile(self.refused_s, 0.99),
            "unsent": self.unsent,
        }


class Pool:
    """Kept connections."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.made = 0

    async def take(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        if self._idle:
            return self._idle.pop()
        if self.made >= CONNECTIONS_MAX:
            return None
        self.made += 1
        return await asyncio.open_connection("127.0.0.1", self._port)

    def give(self, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self._idle.append(connection)


async def one(plan: Plan, caller: Caller, pool: Pool, seen: Seen, timeout_ms: int) -> None:
    """Send one request and note what came."""
    connection = await pool.take()
    if connection is None:
        seen.unsent += 1
        return
    reader, writer = connection
    deadline = f"x-request-timeout-ms: {timeout_ms}\r\n" if timeout_ms else ""
    head = (
        f"POST {plan.path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {caller.key}\r\n{deadline}"
        f"content-length: {len(plan.body)}\r\n\r\n"
    )
    began_s = time.perf_counter()
    writer.write((head + plan.body).encode())
    text = await reader.readuntil(b"\r\n\r\n")
    at = text.index(b"content-length: ") + 16
    await reader.readexactly(int(text[at : text.index(b"\r", at)]))
    took_s = time.perf_counter() - began_s
    pool.give(connection)
    status = int(text[9:12])
    seen.statuses[status] += 1
    if status != 200:
        seen.refused_s.append(took_s)
    elif timeout_ms and took_s > timeout_ms / 1000:
        seen.late += 1
        seen.late_by_s.append(took_s - timeout_ms / 1000)
    else:
        seen.good_s.append(took_s)


async def call(plan: Plan, caller: Caller, pool: Pool, seen: Seen, draw: random.Random) -> None:
    """Send a caller's requests as they arrive, and wait for the last."""
    tasks = set()
    began_s = due_s = time.perf_counter()
    while due_s - began_s < plan.seconds:
        due_s += draw.expovariate(caller.rate)
        wait_s = due_s - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        timeout_ms = draw.choice(caller.timeouts_ms) if caller.timeouts_ms else 0
        task = asyncio.create_task(one(plan, caller, pool, seen, timeout_ms))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)


async def storm(plan: Plan) -> dict[str, object]:
    """Run the plan."""
    pool = Pool(plan.port)
    seen = {caller.name: Seen() for caller in plan.callers}
    await asyncio.gather(
        *(
            call(plan, caller, pool, seen[caller.name], random.Random(plan.seed + number))
            for number, caller in enumerate(plan.callers)
        )
    )
    return {name: each.summary(plan.seconds) for name, each in seen.items()}


if __name__ == "__main__":
    found = uvloop.run(storm(msgspec.json.decode(sys.argv[1], type=Plan)))
    sys.stderr.write(json.dumps(found) + "\n")
