"""Sends every process' numbers to an OTLP receiver (OTLP/HTTP, JSON), every so often, waiting for nobody.

Control sends, and not each process: it is the one place that sees all of them, so there is one connection, one secret
and one retry, no gateway spends a microsecond on it, and the numbers of a replica that cannot reach the network arrive
too. While control is down nothing is sent and nothing lost: counts are cumulative, only the points between are missing.
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
from typing import Final
from urllib.parse import urlsplit

from stoker.telemetry import otlp
from stoker.telemetry.metrics import Registry, Snapshot
from stoker.telemetry.views import GEN_AI

PATH: Final = "/v1/metrics"  # what OTLP/HTTP adds to an endpoint
QUEUE_MAX: Final = 8  # batches that wait for a receiver that is away; the oldest says least and goes first
TIMEOUT_S: Final = 10.0
RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 60.0
HEADERS_MAX_BYTES: Final = 16 << 10
ANSWER_MAX_BYTES: Final = 4 << 10
RETRYABLE: Final = frozenset((429, 502, 503, 504))  # by the specification; everything else is not sent again

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where numbers go. `headers` is a file of `name: value` lines, read for each batch, so that secrets can change."""

    endpoint: str
    interval_s: float
    headers: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one try. status 0: nobody answered. `again_s`: what the receiver asks to wait, 0 if nothing."""

    status: int
    again_s: float
    words: str


class Sender:
    """Collects and sends. `run` returns only by cancellation."""

    def __init__(
        self,
        receiver: Receiver,
        collect: Callable[[], Awaitable[list[Snapshot]]],
        registry: Registry,
        version: str,
        host: str,
    ) -> None:
        self._receiver = receiver
        self._collect = collect
        self._registry = registry
        self._version = version
        self._host = host
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
                    _log.exception("the numbers could not be collected")
                await asyncio.sleep(max(self._receiver.interval_s - (time.monotonic() - began_s), 0.1))
        finally:
            sending.cancel()

    async def _take(self) -> None:
        snapshots = await self._collect()
        body = await asyncio.to_thread(
            lambda: gzip.compress(otlp.encode(snapshots, self._version, self._host, GEN_AI), 1)
        )
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
            outcome = await asyncio.to_thread(post, self._receiver, body)
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
        self._registry.counter("stoker_otlp_exports_total", result=result).add()

    def _tell(self, outcome: Outcome) -> None:
        """Log the first of a row of failures."""
        if self._was_well:
            self._was_well = False
            _log.warning(
                "the OTLP receiver does not take metrics",
                extra={"endpoint": self._receiver.endpoint, "status": outcome.status, "reason": outcome.words},
            )


def post(receiver: Receiver, body: bytes) -> Outcome:
    """Send one batch; blocks for TIMEOUT_S a step at most. Never raises for what a network or a receiver does."""
    parts = urlsplit(receiver.endpoint)
    path = parts.path.rstrip("/")
    path = path if path.endswith(PATH) else path + PATH
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
