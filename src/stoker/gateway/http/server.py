"""The listening side of a gateway: a socket shared with its siblings, limits over all connections, lossless drains."""

import asyncio
import contextlib
import errno
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from email.utils import formatdate
from typing import Final, Protocol

from stoker.gateway.http.connection import Connection, Limits
from stoker.gateway.http.incoming import HttpRequest
from stoker.types.errors import Busy, StokerError, Unavailable

BACKLOG: Final = 2048
SWEEP_S: Final = 0.25
# Connections over the maximum that are told so, which takes linger_s; further ones are cut without a word.
TOLD_MAX: Final = 512
TOLD_PER_ADDRESS_MAX: Final = 64
OTHER_FILES: Final = 256  # that a process has open besides connections: replicas, logs, libraries
DRAIN_GRACE_S: Final = 0.5  # idle keep-alive connections may send one more request so long after a drain began


Secure = Callable[[Connection], asyncio.Protocol]


class PortTaken(OSError):
    """Another program listens on the port."""


class Requests(Protocol):
    """What is behind the connections; see connection.Site."""

    wanted: AbstractSet[bytes]

    def serve(self, connection: Connection, request: HttpRequest) -> None:
        """Take a complete request."""

    def body_limit(self, request: HttpRequest) -> int:
        """Return how many body bytes `request` may have."""

    def refusal(self, request: HttpRequest | None, problem: StokerError) -> tuple[bytes, bytes]:
        """Return header lines and body that tell `problem`."""


class Server:
    """Accepts, sweeps and drains `connections` (connection.Site). `secure` puts TLS around each."""

    def __init__(
        self, requests: Requests, limits: Limits, connections: set[Connection], secure: Secure | None = None
    ) -> None:
        self.serve = requests.serve
        self.body_limit = requests.body_limit
        self.refusal = requests.refusal
        self.wanted = requests.wanted
        self.limits = limits
        self.now_s = time.monotonic()
        self.date_line = b""
        self.is_draining = False
        self._secure = secure
        self.connections = connections
        self._connections_max = min(limits.connections_max, max(_files_max() - OTHER_FILES, OTHER_FILES))
        self._addresses: Counter[str] = Counter()  # as many entries as connections, at most
        self._held_bytes = 0
        self._socket: socket.socket | None = None
        self._listening: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None

    def reserve(self, count: int) -> bool:
        """See connection.Site."""
        if self._held_bytes + count > self.limits.bodies_max_bytes:
            return False
        self._held_bytes += count
        return True

    def release(self, count: int) -> None:
        """See connection.Site."""
        self._held_bytes -= count

    def enter(self, connection: Connection, address: str) -> StokerError | None:
        """See connection.Site."""
        self.connections.add(connection)
        network, limit = _network(address), self.limits.per_address_max
        self._addresses[network] += 1
        over = len(self.connections) - self._connections_max
        own_over = self._addresses[network] - limit if limit else 0
        if over > TOLD_MAX or own_over > TOLD_PER_ADDRESS_MAX:
            connection.abort()
        if over > 0:
            return Unavailable("this gateway has as many connections as it takes; retry", retry_after_s=1.0)
        if own_over > 0:
            said = f"{network} has {limit} connections open, as many as one address may have"
            return Busy(f"{said} (STOKER_CONNECTIONS_PER_ADDRESS)", retry_after_s=1.0)
        return None

    def leave(self, connection: Connection, address: str) -> None:
        """See connection.Site."""
        self.connections.discard(connection)
        network = _network(address)
        self._addresses[network] -= 1
        if self._addresses[network] <= 0:
            del self._addresses[network]

    async def start(self, host: str, port: int) -> int:
        """Listen on `host`:`port` (0: any) and return the port. Raises PortTaken, OSError."""
        loop = asyncio.get_running_loop()
        self._socket = _listen(host, port)
        self._listening = await loop.create_server(self._connection, sock=self._socket, backlog=BACKLOG)
        self._sweep()
        return int(self._socket.getsockname()[1])

    async def drain(self, timeout_s: float) -> bool:
        """Stop accepting, let requests finish, close. Returns whether all finished in `timeout_s`.

        Connections whose handshake the kernel finished are taken over before the socket closes; an idle connection may
        bring one more request within DRAIN_GRACE_S, whose answer then says `connection: close`.
        """
        self.is_draining = True
        ends_s = time.monotonic() + timeout_s
        await self._stop_accepting()
        await asyncio.sleep(min(DRAIN_GRACE_S, timeout_s) if self.connections else 0)
        while self.connections and time.monotonic() < ends_s:
            for connection in list(self.connections):
                connection.close_if_idle()
            await asyncio.sleep(0.02)
        was_clean = not any(connection.active is not None for connection in self.connections)
        for connection in list(self.connections):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()
        return was_clean

    async def _stop_accepting(self) -> None:
        if self._listening is None or self._socket is None:
            return
        loop = asyncio.get_running_loop()
        last = self._socket.dup()
        self._listening.close()
        self._socket.close()
        with last:
            last.setblocking(False)
            with contextlib.suppress(OSError):  # BlockingIOError: none left
                while True:
                    accepted, _ = last.accept()
                    await loop.connect_accepted_socket(self._connection, accepted)

    def _connection(self) -> asyncio.Protocol:
        made = Connection(self)
        return made if self._secure is None else self._secure(made)

    def _sweep(self) -> None:
        self.now_s = time.monotonic()
        self.date_line = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        for connection in list(self.connections):
            connection.sweep(self.now_s)
        self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)


def _network(address: str) -> str:
    """Return what one client has: an address of IPv4, the 64 bits of IPv6 that a host may choose the rest of."""
    address = address.removeprefix("::ffff:")  # IPv4, as a socket for both sees it
    if ":" not in address:
        return address
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8)) + "/64"


def _files_max() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
        listening.bind((host, port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as taken:
        listening.close()
        if taken.errno == errno.EADDRINUSE:
            raise PortTaken(f"port {port} on {host} is taken by another program; set PORT to a free one") from taken
        raise
    return listening
