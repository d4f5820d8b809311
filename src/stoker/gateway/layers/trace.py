"""Every request has an id, on its answer, in the logs and at the replica: the client's own when it is sane.

What asks for inference has a place in a trace besides (tracer.py).
"""

import itertools
import re
import secrets
from typing import Final

from stoker.gateway.exchange import Exchange, Handler, Work
from stoker.gateway.tracer import Tracer

_SANE: Final = re.compile(rb"[!-~]{1,128}")


class Ids:
    """Makes request ids: unique over processes by a random prefix, cheap by a counter."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    def next(self, wanted: bytes | None) -> str:
        """Return `wanted` when it is printable, without spaces and at most 128 long, else a new id."""
        if wanted is not None and _SANE.fullmatch(wanted):
            return wanted.decode()
        return f"req-{self._prefix}-{next(self._numbers):x}"


def trace(ids: Ids, tracer: Tracer, inner: Handler) -> Handler:
    """Name the exchange. Before auth, so that a refused caller can also name his request."""

    def handle(exchange: Exchange) -> Work:
        headers = exchange.request.headers
        exchange.id = ids.next(headers.get(b"x-request-id"))
        if exchange.method:
            tracer.begin(exchange, headers.get(b"traceparent"))
        return inner(exchange)

    return handle
