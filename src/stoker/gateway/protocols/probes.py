"""What orchestrators and Prometheus ask of the process: alive, ready, numbers. No key: nothing here is a tenant's."""

from collections.abc import Awaitable, Callable
from typing import Final

from stoker.gateway.directory import Directory
from stoker.gateway.exchange import Exchange, Handler
from stoker.gateway.http import replies
from stoker.telemetry.metrics import Snapshot
from stoker.telemetry.prometheus import expose

TEXT: Final = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"


async def healthz(exchange: Exchange) -> None:
    """Answer `GET /healthz`: the process runs."""
    exchange.send(200, replies.JSON, b'{"status":"ok"}')


async def readyz(exchange: Exchange, directory: Directory) -> None:
    """Answer `GET /readyz`: it knows where to send requests."""
    if directory.version >= 0:
        exchange.send(200, replies.JSON, b'{"status":"ready"}')
    else:
        exchange.send(503, replies.JSON + b"retry-after: 1\r\n", b'{"status":"no route table yet"}')


def metrics(numbers: Callable[[], Awaitable[Snapshot]]) -> Handler:
    """Return the handler of `GET /metrics`: all gateways of the machine as one."""

    async def handle(exchange: Exchange) -> None:
        exchange.send(200, TEXT, expose(await numbers()).encode())

    return handle
