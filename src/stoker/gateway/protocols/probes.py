"""What orchestrators and Prometheus ask of the process: alive, ready, numbers.

Alive and ready are told to anybody. The numbers name endpoints and tenants: they are for who sits on this machine, or
has a key for them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from stoker.gateway.directory import Directory
from stoker.gateway.exchange import Exchange, Handler
from stoker.gateway.http import replies
from stoker.gateway.layers.auth import may_read_numbers
from stoker.telemetry.exposition import answer
from stoker.telemetry.metrics import Snapshot
from stoker.telemetry.views import VLLM

SLICE_S: Final = 0.001  # requests wait no longer for a page of a thousand series than this


async def healthz(exchange: Exchange) -> None:
    """Answer `GET /healthz`: the process runs."""
    exchange.send(200, replies.JSON, b'{"status":"ok"}')


async def readyz(exchange: Exchange, directory: Directory) -> None:
    """Answer `GET /readyz`: it knows where to send requests."""
    if directory.version >= 0:
        exchange.send(200, replies.JSON, b'{"status":"ready"}')
    else:
        exchange.send(503, replies.JSON + b"retry-after: 1\r\n", b'{"status":"no route table yet"}')


def metrics(numbers: Callable[[], Awaitable[Snapshot]], directory: Directory) -> Handler:
    """Return the handler of `GET /metrics`: all gateways of the machine as one, under our names and vLLM's."""

    async def handle(exchange: Exchange) -> None:
        may_read_numbers(directory, exchange.request)
        accept = exchange.request.headers.get(b"accept", b"").decode("latin-1")
        kind, pieces = answer(await numbers(), accept, VLLM)
        made, began_s = [], time.monotonic()
        for piece in pieces:
            made.append(piece)
            if time.monotonic() - began_s > SLICE_S:
                await asyncio.sleep(0)
                began_s = time.monotonic()
        exchange.send(200, f"content-type: {kind}\r\n".encode(), b"".join(made))

    return handle
