"""One request over HTTP/1.1, whose answer is read as far as its status and no further, in a bounded time.

Small on purpose: a receiver is somebody else's server. It may be slow, endless or gone, and costs no thread, no more
than a line of memory, and never longer than the timeout. Redirects are not followed; a proxy is not asked.
"""

import asyncio
import ssl
from typing import Final, Literal
from urllib.parse import urlsplit

from stoker.types.errors import NotReachable

TIMEOUT_S: Final = 10.0
LINE_BYTES_MAX: Final = 4096


async def post(url: str, body: bytes, headers: dict[str, str], timeout_s: float = TIMEOUT_S) -> int:
    """Send `body` and return the status. Raises NotReachable, whose words never hold the URL: it may be a secret."""
    return await ask("POST", url, body, headers, timeout_s)


async def ask(
    method: Literal["GET", "POST"], url: str, body: bytes, headers: dict[str, str], timeout_s: float = TIMEOUT_S
) -> int:
    """Return the status of the answer. Raises NotReachable, as `post` does."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _exchange(method, url, body, headers)
    except TimeoutError:
        raise NotReachable(f"no answer within {timeout_s:g} s") from None
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as failed:
        words = failed.strerror if isinstance(failed, OSError) and failed.strerror else type(failed).__name__
        raise NotReachable(f"it cannot be told: {words}") from None


async def _exchange(method: str, url: str, body: bytes, headers: dict[str, str]) -> int:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("no http or https address")
    secured = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if secured else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=secured, limit=LINE_BYTES_MAX)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        lines = {"Host": host, "Content-Length": str(len(body)), "Connection": "close", **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
        await writer.drain()
        status = (await reader.readuntil(b"\n")).split()
        if len(status) < 2 or not status[0].startswith(b"HTTP/1.") or not status[1].isdigit():
            raise ValueError("no HTTP answer")
        return int(status[1])
    finally:
        writer.transport.abort()  # nothing more is wanted of it; a polite close may wait for ever
