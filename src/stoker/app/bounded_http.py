"""uvicorn's protocol for the control API, with the bounds on a request's head that uvicorn does not have.

uvicorn waits for ever for the rest of a half-sent head, and holds headers and trailers without limit: on loopback that
is any user of the machine, without a key. Bodies have no pace to keep here: a model of many GB may come over a slow
line, and is read only for who has shown an admin key.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class BoundedHttp(HttpToolsProtocol):
    """Cuts a connection whose next head takes too long or too much, or that sends framing and trailers without end."""

    head_s = 10.0  # as the gateways' (gateway/http/connection.py)
    head_max_bytes = 64 << 10
    framing_max_bytes = 64 << 10
    connections_max = 1024

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._awaits_head = True
        self._spent_bytes = 0  # of the head, or without a byte of body
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._expect_head()
        if len(self.connections) > self.connections_max:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._awaits_head:
            self._expect_head()
        self._spent_bytes += len(data)
        super().data_received(data)
        limit = self.head_max_bytes if self._awaits_head else self.framing_max_bytes
        if self._spent_bytes > limit:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Take the first byte of a request."""
        self._expect_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Take the whole head."""
        self._awaits_head = False
        self._spent_bytes = 0
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._spent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the end of a request."""
        self._awaits_head = True
        self._spent_bytes = 0
        super().on_message_complete()

    def _expect_head(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_s, self._too_late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        self._timer = None
        self.transport.abort()
