"""TLS between a socket and a Connection: towards the socket a protocol, towards the connection a transport.

The event loop's own TLS tells a protocol of a client only after its handshake, so that half-made ones would escape
every limit of this gateway; it cannot half-close, so that a refused sender would lose the answer; and it holds what is
not yet sent where the stall rule does not see it. Here a client counts from its first byte, and the connection's
limits, sweeps and lingering end are the same with and without TLS.
"""

import asyncio
import contextlib
import logging
import ssl
import time
from typing import Any, Final, cast

from stoker.gateway.http import replies
from stoker.gateway.http.connection import Connection
from stoker.gateway.http.tls import Certificates
from stoker.protocol import openai
from stoker.telemetry.metrics import Registry
from stoker.types.errors import InvalidInput

READ_BYTES: Final = 256 << 10
WRITE_BYTES: Final = 256 << 10  # of an answer encrypted at once, so that no second whole copy of a large one exists
HANDSHAKE_RECORD: Final = 0x16
LOG_EVERY_S: Final = 60.0
_log: Final = logging.getLogger(__name__)


class Handshakes:
    """How they ended: made, failed (no common ground, a bad certificate), plain (no TLS), or gone (too late, left)."""

    def __init__(self, registry: Registry) -> None:
        self._counters = {
            result: registry.counter("stoker_tls_handshakes_total", process=registry.process, result=result)
            for result in ("made", "failed", "plain", "gone")
        }
        self._logged_s = -LOG_EVERY_S

    def ended(self, result: str, reason: str = "") -> None:
        """Count one; tell of a failed one now and then."""
        self._counters[result].add(1)
        if result == "failed" and time.monotonic() - self._logged_s >= LOG_EVERY_S:
            self._logged_s = time.monotonic()
            _log.warning("a TLS handshake failed", extra={"reason": reason, "failed": self._counters[result].value})


class Door:
    """Puts TLS around connections, with the newest certificate (server.Secure)."""

    def __init__(self, certificates: Certificates, registry: Registry) -> None:
        self._certificates = certificates
        self._handshakes = Handshakes(registry)

    def __call__(self, connection: Connection) -> "Secured":
        """Return what speaks TLS for `connection`."""
        return Secured(connection, self._certificates.context, self._handshakes)


class Secured(asyncio.Protocol, asyncio.Transport):
    """One client's TLS."""

    def __init__(self, connection: Connection, context: ssl.SSLContext, handshakes: Handshakes) -> None:
        super().__init__()
        self._connection = connection
        self._handshakes = handshakes
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._has_begun = False
        self._is_made = False  # the handshake
        self._is_counted = False
        self._is_deaf = False

    # ---- towards the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._connection.connection_made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._count("gone")
        self._connection.connection_lost(exc)
        del self._connection  # which knows this as its transport: nothing comes after the end, and both go with it

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._is_deaf:
            if self._is_made:
                self._connection.data_received(data)  # which only counts it
            return
        if not self._is_made:
            if not self._has_begun and data[0] != HANDSHAKE_RECORD:
                self._refuse_plain()
                return
            self._has_begun = True
            self._incoming.write(data)
            if not self._shake():
                return
        else:
            self._incoming.write(data)
        self._read()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._connection.resume_writing()

    # ---- towards the connection

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send; before the handshake is made there is no way to say anything."""
        if not self._is_made or self._is_deaf:
            return
        view = memoryview(data)
        try:
            for start in range(0, len(view), WRITE_BYTES):
                self._tls.write(view[start : start + WRITE_BYTES])
                self._transport.write(self._outgoing.read())
        except ssl.SSLError:
            self._transport.abort()

    def write_eof(self) -> None:
        """Say goodbye; what the client still sends is not read any more."""
        self._say_goodbye()
        if self._is_made:
            self._transport.write_eof()
        else:
            self._transport.abort()

    def close(self) -> None:
        """Say goodbye, and close once everything is sent."""
        self._say_goodbye()
        self._transport.close()

    def abort(self) -> None:
        """Cut the connection now."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Return whether it ends."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """Read nothing more for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._transport.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See asyncio.Transport."""
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return how many (encrypted) bytes wait."""
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the socket knows."""
        return self._transport.get_extra_info(name, default)

    # ---- inside

    def _shake(self) -> bool:
        """Go on with the handshake; return whether it is made."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except (ssl.SSLError, OSError) as failed:
            self._flush()  # the alert
            self._count("failed", getattr(failed, "reason", "") or str(failed))
            self._transport.close()
            return False
        self._flush()
        self._is_made = True
        self._count("made")
        return True

    def _read(self) -> None:
        pieces, is_over = [], False
        try:
            while True:
                piece = self._tls.read(READ_BYTES)
                if not piece:
                    is_over = True
                    break
                pieces.append(piece)
                if not self._incoming.pending and not self._tls.pending():
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            is_over = True
        if self._outgoing.pending:  # an answer to a change of keys
            self._flush()
        if pieces:
            self._connection.data_received(b"".join(pieces))
        if is_over and not self._is_deaf:
            self._transport.close()

    def _refuse_plain(self) -> None:
        """Tell a client that speaks no TLS, in plain words, what it met."""
        self._count("plain")
        self._is_deaf = True
        body = openai.error_body(InvalidInput("this port speaks https"))
        self._transport.write(replies.whole(400, replies.JSON, body, replies.CLOSE))
        self._transport.close()

    def _say_goodbye(self) -> None:
        if self._is_made and not self._is_deaf:
            with contextlib.suppress(ssl.SSLError):  # it wants the client's goodbye, which nobody waits for
                self._tls.unwrap()
            self._flush()
        self._is_deaf = True

    def _flush(self) -> None:
        if self._outgoing.pending and not self._transport.is_closing():
            self._transport.write(self._outgoing.read())

    def _count(self, result: str, reason: str = "") -> None:
        if not self._is_counted:
            self._is_counted = True
            self._handshakes.ended(result, reason)
