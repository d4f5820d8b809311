"""A server of streams for tests. When it is closed, nobody's connection is left, not even one of a moment ago."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Streams:
    """asyncio's own server forgets who is connected: a transport that outlives its loop fails some later test."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._connected: set[asyncio.BaseTransport] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self, where: Path | int = 0, tls: ssl.SSLContext | None = None) -> None:
        """Listen on a socket's path, or on a port of this machine (0: any)."""
        loop = asyncio.get_running_loop()
        if isinstance(where, Path):
            self._server = await loop.create_unix_server(self._connection, where, ssl=tls)
        else:
            self._server = await loop.create_server(self._connection, "127.0.0.1", where, ssl=tls)

    async def stop(self) -> None:
        """Listen no more, and cut off whoever is connected."""
        assert self._server is not None
        for each in self._server.sockets:
            asyncio.get_running_loop().remove_reader(each.fileno())
        for _ in range(3):  # who was accepted becomes a transport, then a connection; a closed server would lose it
            await asyncio.sleep(0)
        self._server.close()
        while self._connected or self._shaking:
            for one in [*self._connected, *self._shaking]:
                assert isinstance(one, asyncio.WriteTransport)
                one.abort()
            await asyncio.sleep(0)

    @property
    def _shaking(self) -> list[asyncio.BaseTransport]:
        """The transports below TLS; while a handshake is under way nobody else has heard of its connection."""
        known: Mapping[int, Any] = asyncio.get_running_loop()._transports  # type: ignore[attr-defined]
        return [each for each in list(known.values()) if each._server is self._server]

    def _connection(self) -> "_Connection":
        return _Connection(self._connected, self._serve)


class _Connection(asyncio.StreamReaderProtocol):
    def __init__(self, connected: set[asyncio.BaseTransport], serve: Serve) -> None:
        super().__init__(asyncio.StreamReader(), serve)
        self._all = connected
        self._mine: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._mine = transport
        self._all.add(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._mine is not None:
            self._all.discard(self._mine)
        super().connection_lost(exc)


@contextlib.asynccontextmanager
async def serving(serve: Serve, where: Path | int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Streams]:
    """Serve streams with `serve` within the block."""
    made = Streams(serve)
    await made.start(where, tls)
    try:
        yield made
    finally:
        await made.stop()
