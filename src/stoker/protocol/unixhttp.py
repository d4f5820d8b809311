"""HTTP/1.1 calls over a Unix socket, as small as the processes of one machine need among themselves.

To another node the same goes over TLS: where a socket's path is asked for, an address of `protocol/secure.py` will do.

The full client library takes 0.25 s and 15 MB to load, which control and each gateway would pay at every start.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Final

import httptools

from stoker.protocol import secure
from stoker.types.errors import NotReachable, Unavailable

BODY_BYTES_MAX: Final = 64 << 20  # the largest route table
READ_BYTES: Final = 64 << 10
CONNECT_TIMEOUT_S: Final = 2.0


class Answer:
    """Collects one response while the parser goes through it. `pieces` are the body so far, not yet taken."""

    def __init__(self) -> None:
        self.status = 0
        self.pieces: list[bytes] = []
        self.is_headed = False
        self.is_complete = False

    def on_headers_complete(self) -> None:
        """See httptools."""
        self.is_headed = True

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self.pieces.append(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        self.is_complete = True

    def take(self) -> bytes:
        """Return the body that came since the last take."""
        taken = b"".join(self.pieces)
        self.pieces.clear()
        return taken


async def request(
    socket: str,
    method: str,
    path: str,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    timeout_s: float,
) -> tuple[int, bytes]:
    """Return status and whole body. Raises NotReachable when nobody answers in `timeout_s`."""
    pieces: list[bytes] = []
    size = status = 0
    try:
        async with asyncio.timeout(timeout_s), aclosing(stream(socket, method, path, body, headers)) as answer:
            async for code, piece in answer:
                status = code
                size += len(piece)
                if size > BODY_BYTES_MAX:
                    raise Unavailable(f"{path} answered more than {BODY_BYTES_MAX} bytes")
                pieces.append(piece)
    except TimeoutError as late:
        raise NotReachable(f"{socket} did not answer {method} {path} in {timeout_s:g} s") from late
    return status, b"".join(pieces)


async def stream(
    socket: str, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> AsyncGenerator[tuple[int, bytes], None]:
    """Yield (status, piece of the body) as they come, at least once. Raises NotReachable."""
    writer: asyncio.StreamWriter | None = None
    try:
        reader, writer = await _open(socket)
        writer.write(_head(method, path, len(body), headers or {}) + body)
        await writer.drain()
        answer = Answer()
        parser = httptools.HttpResponseParser(answer)
        is_told = False
        while not answer.is_complete:
            data = await reader.read(READ_BYTES)
            if not data:
                break
            parser.feed_data(data)
            if answer.is_headed and (answer.pieces or answer.is_complete or not is_told):
                is_told = True
                yield parser.get_status_code(), answer.take()
        if not answer.is_complete:
            raise NotReachable(f"{socket} closed the connection in the middle of {method} {path}")
    except (OSError, TimeoutError, httptools.HttpParserError) as down:
        raise NotReachable(f"nobody answers on {socket}: {down or 'no connection in time'}") from down
    finally:
        if writer is not None:
            writer.transport.abort()


async def _open(socket: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if socket.startswith(secure.PREFIX):
        return await secure.open_far(secure.parse(socket), CONNECT_TIMEOUT_S)
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        return await asyncio.open_unix_connection(socket)


def _head(method: str, path: str, length: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", "connection: close", f"content-length: {length}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
