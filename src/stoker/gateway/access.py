"""One JSON line for each request for inference, where an operator wants it: who asked whom, how it ended, how long.

A request adds a tuple to a queue; a thread makes the lines and writes them, a batch at a time. A disk that is slow or
full costs lines, which are counted, and never a request. Two files of FILE_BYTES_MAX each are kept.
"""

import asyncio
import logging
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

import msgspec

from stoker.gateway.exchange import Exchange
from stoker.telemetry.metrics import Registry

QUEUE_MAX: Final = 20_000  # lines that wait, about 10 MB; a second's worth of four busy gateways
BATCH_MAX: Final = 1_000  # lines that are made at once: 4 ms of a thread
EVERY_S: Final = 0.25
FILE_BYTES_MAX: Final = 64 << 20
TEXT_MAX: Final = 256  # characters of what a client chose

_log = logging.getLogger(__name__)
_FIELDS: Final = (
    "time", "request", "trace", "project", "endpoint", "served_by", "revision", "replica", "tenant", "method", "stream",
    "status", "code", "seconds", "waited_s", "first_byte_s", "tries", "rows", "input_tokens", "output_tokens",
    "cached_tokens", "bytes_in",
)  # fmt: skip


class AccessLog:
    """The log of one gateway. `run` writes; it returns only by cancellation, and then writes what is left."""

    def __init__(self, path: Path, registry: Registry) -> None:
        self._path = path
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._dropped = registry.counter("stoker_access_log_dropped_total", process=registry.process)
        self._was_well = True

    def add(self, exchange: Exchange, now_s: float) -> None:
        """Take an exchange that has ended."""
        if len(self._waiting) >= QUEUE_MAX:
            self._dropped.add(1)
            return
        key, lane, relay, usage = exchange.key, exchange.lane, exchange.relay, exchange.usage
        began_s, first_s = exchange.request.started_s, exchange.first_byte_s
        self._waiting.append(
            (
                time.time(),
                exchange.id,
                exchange.trace,
                lane.route.project if lane is not None else exchange.project,
                lane.route.endpoint if lane is not None else exchange.name,
                exchange.served_by,
                exchange.revision,
                relay.replica.id if relay is not None else "",
                (key.limits.tenant or key.key) if key is not None else "",
                exchange.method,
                exchange.stream,
                exchange.status,
                exchange.code,
                now_s - began_s,
                exchange.waited_s,
                first_s - began_s if first_s else 0.0,
                exchange.sends,
                usage.rows,
                usage.input_tokens,
                usage.output_tokens,
                usage.cached_tokens,
                len(exchange.body),
            )
        )

    async def run(self) -> None:
        """Write every EVERY_S."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                while self._waiting:
                    await asyncio.to_thread(self._write)
        finally:
            while self._waiting:
                self._write()

    def _write(self) -> None:
        """Write a batch; blocks."""
        waiting = self._waiting
        batch = [waiting.popleft() for _ in range(min(len(waiting), BATCH_MAX))]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(b"".join(map(line, batch)))
                size = file.tell()
            if size > FILE_BYTES_MAX:
                self._path.replace(self._path.with_suffix(f"{self._path.suffix}.1"))
            self._was_well = True
        except OSError as full:
            self._dropped.add(len(batch))
            if self._was_well:
                self._was_well = False
                _log.warning("the access log cannot be written", extra={"file": str(self._path), "reason": str(full)})


def line(entry: tuple[Any, ...]) -> bytes:
    """Return one line. What is "", 0 or False is left out; what a client chose is cut, and escaped as JSON is."""
    at_s = entry[0]
    found: dict[str, Any] = {
        "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(at_s))}.{int(at_s % 1 * 1000):03d}Z"
    }
    for name, value in zip(_FIELDS[1:], entry[1:], strict=True):
        if isinstance(value, float):
            value = round(value, 6)  # noqa: PLW2901 - a microsecond is enough
        if value:
            found[name] = value[:TEXT_MAX] if isinstance(value, str) else value
    return msgspec.json.encode(found) + b"\n"
