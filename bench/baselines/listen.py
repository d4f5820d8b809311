"""Runs an ASGI application the fast way: one uvicorn worker, httptools, uvloop, no access log."""

import json
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

BACKLOG = 2048


def listen(app: Callable[..., Any]) -> None:
    """Serve `app` on a port the system chose, until SIGTERM. The port is the first line on standard output."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    config = uvicorn.Config(app, http="httptools", loop="uvloop", lifespan="off", log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])
