"""A server that sends the bytes it is told to, whatever it was asked: for answers that no library would write."""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable
from typing import Final

from tests.streams import serving

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]

EVENTS: Final = (
    b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}\n\n'
    b'data: {"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
WHOLE: Final = b'{"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"}}]}'


def answer(body: bytes = WHOLE, kind: bytes = b"application/json", more: bytes = b"") -> bytes:
    """Return a complete answer with a length."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n%b" % (kind, len(body), more, body)


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return head and body of the next request. Raises IncompleteReadError at the end."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return head, await reader.readexactly(int(length.partition(b":")[2]))


class RawServer:
    """Runs in a thread of its own. `script` is run for each connection with its number, from 0; then it is closed."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self.requests: list[tuple[int, bytes, bytes]] = []  # connection, head, body
        self.port = 0
        self._script = script
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._is_up = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._thread.start()
        assert self._is_up.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "RawServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        async with serving(self._connection, tls=self._tls) as server:
            self.port = server.port
            self._is_up.set()
            await self._stop.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self.connections
        self.connections += 1
        try:
            await self._script(reader, writer, number)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def request(self, reader: asyncio.StreamReader, number: int) -> None:
        """Take one request."""
        self.requests.append((number, *await read_request(reader)))
