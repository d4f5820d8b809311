"""An HTTP peer that answers exactly the bytes a test says, on a real socket, and remembers what it was sent."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Peer:
    base: str
    received: list[bytes] = field(default_factory=list)


@contextmanager
def answering(answer: bytes, *, at: Path | None = None, read_whole: bool = True) -> Iterator[Peer]:
    """Answer each connection with `answer` and close it. With `read_whole` false it answers after the head."""
    listener = socket.socket(socket.AF_UNIX if at else socket.AF_INET)
    listener.bind(str(at) if at else ("127.0.0.1", 0))
    listener.listen()
    peer = Peer(f"unix:{at}" if at else f"http://127.0.0.1:{listener.getsockname()[1]}")

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(ConnectionError):  # who asked may have had enough
                connection.settimeout(60)
                peer.received.append(_request(connection, read_whole))
                connection.sendall(answer)
                if not read_whole:
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield peer
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def reply(status: int, body: bytes, *headers: str) -> bytes:
    """Return an answer with a length."""
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def _request(connection: socket.socket, read_whole: bool) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    if not read_whole:
        return data
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
    )
    while len(body) < length:
        body += _more(connection)
    return head + b"\r\n\r\n" + body


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionAbortedError
    return data
