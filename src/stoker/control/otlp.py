"""Sends every process' numbers, and the traces that gateways keep, to an OTLP receiver (OTLP/HTTP, JSON).

Control sends, and not each process: it is the one place that sees all of them, so there is one connection, one secret
and one retry, no gateway spends a microsecond on it, and the numbers of a replica that cannot reach the network arrive
too. While control is down nothing is sent. Of numbers nothing is lost: counts are cumulative, only the points between
are missing. Of traces what the gateways' rings hold is sent later, and what they lost meanwhile is counted.
"""

import asyncio
import gzip
import http.client
import logging
import random
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from stoker.telemetry import otlp, otlp_traces
from stoker.telemetry.metrics import Registry, Snapshot
from stoker.telemetry.views import GEN_AI
from stoker.types.traces import Trace

PATHS: Final = {"metrics": "/v1/metrics", "traces": "/v1/traces"}  # what OTLP/HTTP adds to an endpoint
QUEUE_MAX: Final = 8  # batches that wait for a receiver that is away; the oldest says least and goes first
TIMEOUT_S: Final = 10.0
RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 60.0
HEADERS_MAX_BYTES: Final = 16 << 10
ANSWER_MAX_BYTES: Final = 4 << 10
RETRYABLE: Final = frozenset((429, 502, 503, 504))  # by the specification; everything else is not sent again

Signal = Literal["metrics", "traces"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where numbers go. `headers` is a file of `name: value` lines, read for each batch, so that secrets can change."""

    endpoint: str
    interval_s: float
    headers: Path | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What is sent: `signal` names it, `collect` returns the next batches, encoded; none when there is nothing new."""

    signal: Signal
    collect: Callable[[], Awaitable[list[bytes]]]


def numbers(collect: Callable[[], Awaitable[list[Snapshot]]], version: str, host: str) -> Source:
    """Return every process' numbers as a source."""

    async def batches() -> list[bytes]:
        snapshots = await collect()
        return [await asyncio.to_thread(lambda: gzip.compress(otlp.encode(snapshots, version, host, GEN_AI), 1))]

    return Source("metrics", batches)


def traces(collect: Callable[[], Awaitable[list[Trace]]], version: str, host: str) -> Source:
    """Return the kept traces as a source: all that came, in batches as `collect` gives them."""

    async def batches() -> list[bytes]:
        made: list[bytes] = []
        while len(made) < QUEUE_MAX:
            found = await collect()
            if not found:
                break
            made.append(
                await asyncio.to_thread(lambda some: gzip.compress(otlp_traces.encode(some, version, host), 1), found)
            )
        return made

    return Source("traces", batches)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one try. status 0: nobody answered. `again_s`: what the receiver asks to wait, 0 if nothing."""

    status: int
    again_s: float
    words: str


class Sender:
    """Collects and sends. `run` returns only by cancellation."""

    def __init__(self, receiver: Receiver, source: Source, registry: Registry) -> None:
        self._receiver = receiver
        self._source = source
        self._registry = registry
        self._waiting: deque[bytes] = deque()
        self._came = asyncio.Event()
        self._was_well = True

    async def run(self) -> None:
        """Collect every interval, and send beside it."""
        sending = asyncio.create_task(self._send_all())
        try:
            while True:
                began_s = time.monotonic()
                try:
                    await self._take()
                except Exception:  # whatever a process answers, the next batch is tried
                    _log.exception("the %s could not be collected", self._source.signal)
                await asyncio.sleep(max(self._receiver.interval_s - (time.monotonic() - began_s), 0.1))
        finally:
            sending.cancel()

    async def _take(self) -> None:
        for body in await self._source.collect():
            while len(self._waiting) >= QUEUE_MAX:
                self._waiting.popleft()
                self._count("dropped")
            self._waiting.append(body)
            self._came.set()

    async def _send_all(self) -> None:
        wait_s = RETRY_FIRST_S
        while True:
            await self._came.wait()
            if not self._waiting:
                self._came.clear()
                continue
            body = self._waiting[0]
            outcome = await asyncio.to_thread(post, self._receiver, body, self._source.signal)
            if outcome.status == 0 or outcome.status in RETRYABLE:
                self._tell(outcome)
                self._count("failed")
                await asyncio.sleep(min(max(wait_s * random.uniform(0.5, 1.0), outcome.again_s), RETRY_MAX_S))
                wait_s = min(wait_s * 2, RETRY_MAX_S)
                continue
            wait_s = RETRY_FIRST_S
            if self._waiting and self._waiting[0] is body:
                self._waiting.popleft()
            if outcome.status // 100 == 2:
                self._was_well = True
                self._count("sent")
            else:
                self._tell(outcome)
                self._count("refused")

    def _count(self, result: str) -> None:
        self._registry.counter("stoker_otlp_exports_total", signal=self._source.signal, result=result).add()

    def _tell(self, outcome: Outcome) -> None:
        """Log the first of a row of failures."""
        if self._was_well:
            self._was_well = False
            _log.warning(
                "the OTLP receiver does not take %s",
                self._source.signal,
                extra={"endpoint": self._receiver.endpoint, "status": outcome.status, "reason": outcome.words},
            )


def post(receiver: Receiver, body: bytes, signal: Signal = "metrics") -> Outcome:
    """Send one batch; blocks for TIMEOUT_S a step at most. Never raises for what a network or a receiver does."""
    parts = urlsplit(receiver.endpoint)
    path = parts.path.rstrip("/").removesuffix(PATHS["metrics"]) + PATHS[signal]
    connection: http.client.HTTPConnection | None = None
    try:
        headers = {"content-type": "application/json", "content-encoding": "gzip", "user-agent": "stoker"}
        headers.update(_headers(receiver.headers))
        where = parts.hostname or ""
        if parts.scheme == "https":
            secure = ssl.create_default_context()
            connection = http.client.HTTPSConnection(where, parts.port, timeout=TIMEOUT_S, context=secure)
        else:
            connection = http.client.HTTPConnection(where, parts.port, timeout=TIMEOUT_S)
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        words = answer.read(ANSWER_MAX_BYTES).decode("utf-8", "replace")
        return Outcome(answer.status, _seconds(answer.getheader("retry-after")), words[:500])
    except (OSError, http.client.HTTPException, ValueError) as away:
        return Outcome(0, 0.0, f"{type(away).__name__}: {away}"[:500])
    finally:
        if connection is not None:
            connection.close()


def _headers(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    with path.open("rb") as file:
        text = file.read(HEADERS_MAX_BYTES).decode()
    pairs = (line.partition(":") for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _seconds(retry_after: str | None) -> float:
    return min(float(retry_after), RETRY_MAX_S) if retry_after is not None and retry_after.isdecimal() else 0.0
