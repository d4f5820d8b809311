"""Sockets that are bound before anything is served on them, because who is confined then may bind no more."""

import contextlib
import os
import socket
from pathlib import Path

from stoker.protocol.link.wire import socket_path


def bind(address: str) -> socket.socket:
    """Return a socket at `address` (mode 600), in the place of any other; it does not listen yet. Raises OSError."""
    path = socket_path(address)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(path)
        Path(path).chmod(0o600)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def bind_tcp(where: str) -> socket.socket:
    """Return a socket at HOST:PORT; it does not listen yet. Raises OSError."""
    host, _, port = where.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, int(port)))
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound
