"""The connection that carries frames: many calls at once over one socket, both ends.

Client end: `connect` → `Link.call` → `Call.next` / `Call.answer`. Server end: `serve` with a `Handler`.
Nothing here waits without a bound on bytes: an answer stops at WINDOW_BYTES until the reader gives credit.
"""

from stoker.protocol.link.client import Call, Link, Receiver, Sender, connect
from stoker.protocol.link.late import Impairment
from stoker.protocol.link.server import Exchange, Handler, Server, bind, refuse, serve
from stoker.protocol.link.wire import as_error, as_head, socket_path

__all__ = [
    "Call",
    "Exchange",
    "Handler",
    "Impairment",
    "Link",
    "Receiver",
    "Sender",
    "Server",
    "as_error",
    "as_head",
    "bind",
    "connect",
    "refuse",
    "serve",
    "socket_path",
]
