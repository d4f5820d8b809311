"""What the gateway adds to one request: the same request over HTTP and over the replica's own socket, in turn.

Both sides are blocking sockets in one process with all bytes prebuilt, so that the clients cost the same.
"""

import socket
import time
from urllib.parse import urlsplit

from bench.client import answer_size, request_bytes
from stoker.protocol import frames
from stoker.protocol.frames import FrameReader, Kind, RequestHead
from stoker.protocol.link import socket_path

BLOCK = 200


class Direct:
    """The replica's socket."""

    def __init__(self, address: str, body: bytes) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(socket_path(address))
        self._reader = FrameReader()
        self._body = body
        self._stream = 0

    def once(self) -> float:
        """Return the seconds from the first byte sent to the last received."""
        self._stream += 1
        head = RequestHead("infer", request=f"bench-{self._stream}", body_bytes=len(self._body), timeout_s=30)
        request = frames.with_head(Kind.REQUEST, self._stream, head, self._body)
        started = time.perf_counter()
        self._socket.sendall(request)
        while True:
            for kind, stream, payload in self._reader.feed(self._socket.recv(1 << 18)):
                if kind == Kind.ERROR:
                    raise RuntimeError(f"the replica refused: {frames.read_error(payload).message}")
                if kind == Kind.END and stream == self._stream:
                    return time.perf_counter() - started

    def close(self) -> None:
        self._socket.close()


class Http:
    """The gateway's port."""

    def __init__(self, url: str, headers: tuple[tuple[str, str], ...], body: bytes) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = [["Content-Type", "application/json"], *([name, value] for name, value in headers)]
        self._request = request_bytes(url, lines, body)

    def once(self) -> float:
        """Return the seconds from the first byte sent to the last received."""
        started = time.perf_counter()
        self._socket.sendall(self._request)
        held = b""
        while True:
            piece = self._socket.recv(1 << 18)
            if not piece:
                raise RuntimeError("the gateway closed the connection")
            held += piece
            size = answer_size(held)
            if size is not None and len(held) >= size:
                taken = time.perf_counter() - started
                break
        if held[9:12] != b"200":
            raise RuntimeError(f"the gateway answered {held[:400]!r}")
        return taken

    def close(self) -> None:
        self._socket.close()


def in_turn(http: Http, direct: Direct, blocks: int) -> tuple[list[float], list[float]]:
    """Return the latencies over HTTP and of the replica, in alternating blocks of BLOCK after a warm-up of each."""
    through: list[float] = []
    beside: list[float] = []
    for number in range(blocks + 1):
        over_http = [http.once() for _ in range(BLOCK)]
        over_frames = [direct.once() for _ in range(BLOCK)]
        if number:
            through += over_http
            beside += over_frames
    return through, beside
