"""The certificate that clients are shown: read, checked as a pair, and read again while everything runs.

Two programs rarely write two files in one moment: what is not a pair (yet) is left alone, and the last good pair stays.
New handshakes use the newest good pair, open connections go on with theirs. Whoever speaks TLS by another library takes
`pair` and sets `on_change`.
"""

import asyncio
import contextlib
import logging
import os
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from stoker.gateway.http.x509 import expiry_s
from stoker.telemetry.metrics import Registry
from stoker.types.errors import InvalidInput
from stoker.types.tls import Files

LOOK_EVERY_S: Final = 2.0
FILE_MAX_BYTES: Final = 1 << 20
EXPIRY_WARNING_S: Final = 14 * 86400.0  # clients of ACME renew 30 days before; at half of that they have failed
EXPIRY_WARNING_EVERY_S: Final = 86400.0
# TLS 1.2 with forward secrecy and AEAD only; TLS 1.3 has nothing else.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
ALPN: Final = ["http/1.1"]
# What OpenSSL says when the key is another of the same kind, or of another kind.
_OF_ANOTHER: Final = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
_log: Final = logging.getLogger(__name__)


class Pair(msgspec.Struct, frozen=True):
    """What was in the files."""

    cert: bytes
    key: bytes
    client_ca: bytes = b""


class Certificates:
    """The newest good pair. `on_change` is called when it is another one.

    Raises InvalidInput when there is no good one to begin with.
    """

    def __init__(self, files: Files, registry: Registry) -> None:
        self.on_change: Callable[[], None] | None = None
        self._files = files
        self.pair = read(files)
        self.context = context_of(self.pair)
        self._last: Pair | str = self.pair  # what the look before found; a text is why it could not be read
        self._judged: Pair | str = self.pair  # what was refused last
        self._counts = {
            result: registry.counter("stoker_tls_reloads_total", process=registry.process, result=result)
            for result in ("taken", "refused")
        }
        self._expiry = registry.gauge("stoker_tls_certificate_expiry_timestamp_seconds", process=registry.process)
        self._expiry.set(expiry_s(self.pair.cert))
        self._warned_s = 0.0

    async def watch(self) -> None:
        """Follow the files until cancelled."""
        while True:
            self._warn(time.time())
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        """Read the files; take what is another good pair.

        What is not good is refused, once, when two looks found it alike: at the first it may be half written.
        """
        found: Pair | str
        try:
            found = read(self._files)
        except InvalidInput as problem:
            found = problem.message
        last, self._last = self._last, found
        if found in (self.pair, self._judged):
            return
        try:
            if isinstance(found, str):
                raise InvalidInput(found)
            self._take(found, context_of(found))
        except InvalidInput as problem:
            if found == last:
                self._judged = found
                self._counts["refused"].add(1)
                _log.error("a new certificate cannot be used, the old one stays", extra={"reason": problem.message})

    def _take(self, pair: Pair, context: ssl.SSLContext) -> None:
        self.pair = self._judged = pair
        self.context = context
        self._counts["taken"].add(1)
        self._expiry.set(expiry_s(pair.cert))
        self._warned_s = 0.0
        _log.info("took a new certificate", extra={"ends": _date(expiry_s(pair.cert))})
        if self.on_change is not None:
            self.on_change()

    def _warn(self, now_s: float) -> None:
        left_s = expiry_s(self.pair.cert) - now_s
        if left_s < EXPIRY_WARNING_S and now_s - self._warned_s >= EXPIRY_WARNING_EVERY_S:
            self._warned_s = now_s
            said = "the certificate has ended" if left_s < 0 else "the certificate ends soon"
            _log.warning(said, extra={"ends": _date(now_s + left_s), "file": self._files.cert})


def read(files: Files) -> Pair:
    """Return what is in the files. Raises InvalidInput, whose `field` is the setting."""
    return Pair(
        _read(files.cert, "STOKER_TLS_CERT"),
        _read(files.key, "STOKER_TLS_KEY"),
        _read(files.client_ca, "STOKER_TLS_CLIENT_CA") if files.client_ca else b"",
    )


def context_of(pair: Pair) -> ssl.SSLContext:
    """Return what servers handshake with. Raises InvalidInput for what is no pair; `field` is the setting."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(ALPN)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    expiry_s(pair.cert)
    try:
        # By way of memory: read again by their names, the files might be others than those that were compared.
        with _as_path(pair.cert) as cert, _as_path(pair.key) as key:
            context.load_cert_chain(cert, key, password=_refuse_password)
    except ssl.SSLError as wrong:
        if wrong.reason in _OF_ANOTHER:
            raise InvalidInput("the key is of another certificate", field="STOKER_TLS_KEY") from wrong
        said = f"the certificate or its key cannot be used: {wrong.reason or wrong}"
        raise InvalidInput(said, field="STOKER_TLS_CERT") from wrong
    if pair.client_ca:
        try:
            context.load_verify_locations(cadata=pair.client_ca.decode("ascii"))
        except (ssl.SSLError, ValueError) as wrong:
            raise InvalidInput(f"no certificates in it: {wrong}", field="STOKER_TLS_CLIENT_CA") from wrong
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _read(path: str, setting: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            data = file.read(FILE_MAX_BYTES + 1)
    except OSError as refused:
        raise InvalidInput(f"{path} cannot be read: {refused.strerror}", field=setting) from refused
    if len(data) > FILE_MAX_BYTES:
        raise InvalidInput(f"{path} is over {FILE_MAX_BYTES} bytes: no certificate or key", field=setting)
    return data


@contextlib.contextmanager
def _as_path(data: bytes) -> Iterator[str]:
    """Give `data` a name for a library that reads files only; it never touches a disk."""
    descriptor = os.memfd_create("pem")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _refuse_password() -> NoReturn:
    raise InvalidInput("the key is encrypted; a gateway has nobody to ask for its password", field="STOKER_TLS_KEY")


def _date(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds")
