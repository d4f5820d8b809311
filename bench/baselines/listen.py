"""Runs an ASGI application the fast way: uvicorn with httptools and uvloop, no access log; one worker or several."""

import json
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

BACKLOG = 2048
SETTINGS: dict[str, Any] = {
    "http": "httptools",
    "loop": "uvloop",
    "lifespan": "off",
    "log_level": "warning",
    "access_log": False,
}


def listen(app: Callable[..., Any]) -> None:
    """Serve `app` on a port the system chose, until SIGTERM. The port is the first line on standard output."""
    uvicorn.Server(uvicorn.Config(app, **SETTINGS)).run(sockets=[_listener()])


def listen_in_workers(factory: str, workers: int) -> None:
    """Serve what `factory` (module:function) makes, once in each of `workers` processes, on one port as above.

    The port is said before anybody listens on it: uvicorn's supervisor binds it itself.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    print(json.dumps({"port": port}), flush=True)
    uvicorn.run(factory, factory=True, workers=workers, host="127.0.0.1", port=port, backlog=BACKLOG, **SETTINGS)


def _listener() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    return listener
