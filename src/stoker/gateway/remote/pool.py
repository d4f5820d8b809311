"""One server behind a replica, spoken to by this gateway: a link.Sender over a pool of HTTP/1.1 connections.

The replica is the door-keeper: it says where its server is (protocol/direct.py), whether it is ready, and answers what
is not sent from here. What runs here does not need it: its death cuts nothing.

A request is sent a second time in one case only: on a connection that had been idle, that ended before a byte of the
answer came. Servers close idle connections, and a request that crosses such a close was seen by nobody. POST is not
idempotent by the letter, and a server that dies at that very moment may have begun; but a generation changes nothing
that could not be done twice.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw

from stoker.gateway.remote.call import Call
from stoker.gateway.remote.connection import Connection
from stoker.gateway.remote.request import METHODS, rewrite
from stoker.protocol import tracecontext
from stoker.protocol.direct import SEVERED, Direct
from stoker.protocol.frames import RequestHead
from stoker.protocol.link import Receiver
from stoker.types.errors import Busy, DeadlineExceeded, EngineFailed, NotReachable, SecretUnavailable, StokerError

CONNECTIONS_MAX: Final = 4096  # open or opening; as many as an endpoint may say its server has slots
CONNECT_TIMEOUT_S: Final = 10.0
IDLE_S: Final = 4.0  # shorter than the 5 s after which uvicorn and Node close idle connections
REST_S: Final = 2.0  # for what follows `[DONE]`
SWEEP_S: Final = 0.25


class Pool:
    """See the module. Raises ValueError for a URL that no request can go to.

    Args:
        tell: has the door-keeper told what runs here, at once; it is told with every PING anyway.
    """

    def __init__(
        self,
        direct: Direct,
        loop: asyncio.AbstractEventLoop,
        tell: Callable[[], object],
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self.loop = loop
        self._connect_timeout_s = connect_timeout_s
        self._idle_s = idle_s
        self._tell = tell
        self._is_told = False  # that anything runs
        self._progress = 0
        self._direct = direct
        self._model = Raw(msgspec.json.encode(direct.model))
        self._host, self._port, self._is_tls, self._heads = _read(direct)
        self._tls: ssl.SSLContext | None = None
        self._calls: dict[int, Call] = {}  # in the order they began, which is the order their time is over
        self._idle: dict[Connection, None] = {}  # the last used at the end
        self._open: set[Connection] = set()
        self._opening: dict[int, asyncio.Task[None]] = {}
        self._next = 0
        self._is_closed = False
        self._is_severed = False
        self._locked = ""  # why nothing is sent: the key is gone
        self._key_number = 0  # of the key that requests are sent with; 0: what the door-keeper told
        self.reread: Callable[[], Awaitable[object]] | None = None  # has the key looked at again, for who refuses it
        self._timer: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """Return how many are open or opening."""
        return len(self._open) + len(self._opening)

    @property
    def passed(self) -> tuple[int, int]:
        """Return what the door-keeper is told: requests that run, and signs of progress since the beginning.

        To be called for each PING.
        """
        self._is_told = bool(self._calls)
        return len(self._calls), self._progress

    # ---- link.Sender

    def send(self, receiver: Receiver, head: RequestHead, body: bytes = b"") -> int:
        """See link.Sender."""
        if self.connections >= CONNECTIONS_MAX and not self._idle:
            raise Busy(f"{CONNECTIONS_MAX} connections to the upstream server are open already", retry_after_s=1.0)
        self._next += 1
        asked = rewrite(head.method, body, self._model)
        call = self._calls[self._next] = Call(self._next, receiver, asked, head.request, self._ended)
        call.trace = tracecontext.lines(head.trace, head.trace_state)
        self._progress += 1
        if not self._is_told:
            self._tell()
        if self._idle and not self._locked:
            connection, _ = self._idle.popitem()
            connection.start(call, self._bytes(call))
        else:
            self._opening[call.number] = self.loop.create_task(self._connect(call))
        if self._timer is None:
            self._timer = self.loop.call_later(SWEEP_S, self._sweep)
        return call.number

    def forget(self, stream: int) -> None:
        """See link.Sender. The connection is closed, so that the server stops."""
        call = self._calls.pop(stream, None)
        if call is not None:
            call.is_over = True
            self._stop(call)

    def credit(self, stream: int, count: int) -> None:
        """See link.Sender."""
        call = self._calls.get(stream)
        if call is not None:
            call.credit(count)

    def rekey(self, number: int, key: str) -> None:
        """Send what is not sent yet with another key. Raises ValueError for one that no header may have."""
        self._locked = ""
        if number != self._key_number:
            self._direct = msgspec.structs.replace(self._direct, authorization=f"Bearer {key}")
            self._heads = _read(self._direct)[3]
            self._key_number = number

    def lock(self, why: str) -> None:
        """Send nothing until there is a key again, if one was ever known here: the door-keeper may have a good one."""
        if self._key_number:
            self._locked = why

    def close(self) -> None:
        """Keep no connection any longer than what runs on it."""
        self._is_closed = True
        self._idle.clear()
        for connection in [each for each in self._open if each.call is None]:
            connection.cut()

    def sever(self, *, is_severed: bool) -> None:
        """Behave as if the server were out of reach, or no longer (a game day)."""
        if is_severed and not self._is_severed:
            for call in list(self._calls.values()):
                self._fail(call, NotReachable(f"{self._direct.url} cannot be reached: {SEVERED}", retry_after_s=1.0))
            for connection in list(self._open):
                connection.cut()
            self._idle.clear()
        self._is_severed = is_severed

    # ---- connection.Owner

    def is_free(self, connection: Connection) -> None:
        """See connection.Owner."""
        if self._is_closed:
            connection.cut()
            return
        self._idle[connection] = None

    def is_gone(self, connection: Connection) -> None:
        """See connection.Owner."""
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def again(self, call: Call) -> None:
        """See connection.Owner."""
        call.was_sent_again = True
        call.connection = None
        self._opening[call.number] = self.loop.create_task(self._connect(call))

    def authorization(self) -> str:
        """See connection.Owner."""
        return self._direct.authorization

    def keyed_again(self, call: Call, problem: StokerError) -> bool:
        """See connection.Owner: once a call."""
        if self.reread is None or call.was_keyed_again or call.is_over:
            return False
        call.was_keyed_again = True
        call.connection = None
        self._opening[call.number] = self.loop.create_task(self._key_again(call, problem))
        return True

    # ---- the rest

    async def _key_again(self, call: Call, problem: StokerError) -> None:
        """Have the key looked at; send `call` once more if it is another one now, else fail it with `problem`."""
        assert self.reread is not None
        await self.reread()
        if self._key_number != call.key_number:
            await self._connect(call)
        else:
            self._opening.pop(call.number, None)
            call.fail(problem)

    def _bytes(self, call: Call) -> bytes:
        call.key_number = self._key_number
        body = call.asked.body
        return b"%b%d\r\n%b\r\n%b" % (self._heads[call.asked.method], len(body), call.trace, body)

    async def _connect(self, call: Call) -> None:
        """Open a connection for `call`, and send it."""
        if self._is_severed:
            self._unreachable(call, SEVERED)
            return
        if self._locked:
            self._opening.pop(call.number, None)
            call.fail(SecretUnavailable(self._locked, retry_after_s=1.0))
            return
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                if self._is_tls and self._tls is None:
                    self._tls = await asyncio.to_thread(_context)
                _, connection = await self.loop.create_connection(
                    lambda: Connection(self),
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._host if self._is_tls else None,
                )
        except TimeoutError:
            self._unreachable(call, f"no connection in {self._connect_timeout_s:.0f} s")
        except (OSError, ValueError) as down:  # ValueError: a name that cannot be one
            self._unreachable(call, str(down) or type(down).__name__)
        else:
            self._opening.pop(call.number, None)
            self._open.add(connection)
            if connection.is_open:
                connection.start(call, self._bytes(call))
            else:
                self._open.discard(connection)
                call.fail(EngineFailed("the connection to the upstream server broke: it was closed at once"))

    def _unreachable(self, call: Call, why: str) -> None:
        self._opening.pop(call.number, None)
        call.fail(NotReachable(f"{self._direct.url} cannot be reached: {why}", retry_after_s=1.0))

    def _stop(self, call: Call) -> None:
        opening = self._opening.pop(call.number, None)
        if opening is not None:
            opening.cancel()
        if call.connection is not None and call.connection.call is call:
            call.connection.cut()

    def _ended(self, number: int) -> None:
        self._calls.pop(number, None)
        self._progress += 1

    def _fail(self, call: Call, problem: StokerError) -> None:
        self._stop(call)
        call.fail(problem)

    def _sweep(self) -> None:
        """End what takes too long: requests, connections without one."""
        now_s = time.monotonic()
        timeout_s = self._direct.timeout_s
        while self._calls:
            call = next(iter(self._calls.values()))
            if now_s - call.began_s < timeout_s:
                break
            self._fail(call, DeadlineExceeded(f"the upstream server took over {timeout_s:.0f} s"))
        for connection in [each for each in self._open if each.call is None]:
            limit_s = self._idle_s if connection in self._idle else REST_S
            if now_s - connection.since_s > limit_s:
                self._idle.pop(connection, None)
                connection.cut()
        is_needed = self._calls or self._open
        self._timer = self.loop.call_later(SWEEP_S, self._sweep) if is_needed else None


def _read(direct: Direct) -> tuple[str, int, bool, dict[str, bytes]]:
    """Return host, port, whether TLS, and by method all of a request that comes before the length of its body."""
    parts = urlsplit(direct.url)
    is_tls = parts.scheme == "https"
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{direct.url!r} is no URL of a server")
    port = parts.port or (443 if is_tls else 80)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    lines = [f"Host: {host}" if parts.port is None else f"Host: {host}:{port}", "Content-Type: application/json"]
    if direct.authorization:
        lines.append(f"Authorization: {direct.authorization}")
    lines += ["User-Agent: stoker", "Accept: application/json, text/event-stream", "Content-Length: "]
    if any(not each.isascii() or not each.isprintable() for each in (parts.path, *lines)) or " " in parts.path:
        raise ValueError("the URL or the key has characters that no header may have")
    rest = "\r\n".join(lines).encode()
    begun = b"POST " + parts.path.rstrip("/").encode()
    return (
        parts.hostname,
        port,
        is_tls,
        {method: begun + path + b" HTTP/1.1\r\n" + rest for method, path in METHODS.items()},
    )


def _context() -> ssl.SSLContext:
    """Return how servers are verified: by the system's certificates, or what SSL_CERT_FILE names."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
