"""The connection that carries frames: many calls at once over one socket, both ends.

Client end: `connect` → `Link.call` → `Call.next` / `Call.answer`. Server end: `serve` with a `Handler`.
Nothing here waits without a bound on bytes: an answer stops at WINDOW_BYTES until the reader gives credit.
"""

from stoker.protocol.link.bound import bind, bind_tcp
from stoker.protocol.link.client import Call, Link, Receiver, Sender, connect
from stoker.protocol.link.late import Impairment
from stoker.protocol.link.server import Exchange, Guard, Handler, Server, refuse, serve
from stoker.protocol.link.wire import as_error, as_head, socket_path

__all__ = [
    "Call",
    "Exchange",
    "Guard",
    "Handler",
    "Impairment",
    "Link",
    "Receiver",
    "Sender",
    "Server",
    "as_error",
    "as_head",
    "bind",
    "bind_tcp",
    "connect",
    "refuse",
    "serve",
    "socket_path",
]
