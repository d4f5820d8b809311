"""A server that speaks Vault's HTTP API: logs in, reads fields of secrets (KV version 2). Blocks; one per process.

Spoken to with the standard library: a request every few seconds is no reason for a client in each gateway's memory.
Nothing that such a server says is believed beyond its bounds, and nothing of it is logged but its status.
Source: the paths and bodies are those of Vault's HTTP API (kv/v2, auth/approle, auth/kubernetes, auth/token), which
OpenBao speaks too.
"""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from stoker.types.errors import SecretUnavailable
from stoker.types.secrets import VALUE_BYTES_MAX, Reference

TIMEOUT_S: Final = 5.0  # of one request, from the connection to the last byte
ANSWER_BYTES_MAX: Final = 1 << 20
PIECE_BYTES: Final = 16 << 10
REST_MAX_S: Final = 20.0  # however long it asks for
REST_S: Final = 1.0  # a server that is away, full or sealed is left alone so long: a thousand secrets wait for none
RENEW_SHARE: Final = 2 / 3  # of a token's time, after which it is renewed
SIGN_BYTES_MAX: Final = 16 << 10  # of a file with a token, a secret id or a JWT


class VaultSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the server is reached and who one is there; of token, AppRole and JWT the first that is given.

    token_file, secret_id_file, jwt_file: are read at each use, for they are rotated too.
    """

    address: str
    namespace: str = ""
    ca_file: str = ""
    token: str = ""
    token_file: str = ""
    role_id: str = ""
    secret_id_file: str = ""
    jwt_role: str = ""
    jwt_file: str = ""
    auth_mount: str = ""  # "" for the usual: approle, kubernetes

    def __repr__(self) -> str:
        """Return what may be logged: not the token."""
        return f"VaultSettings({self.address!r})"


class _Denied(SecretUnavailable):
    """The token is none, or may not: 401, 403."""


class _Away(SecretUnavailable):
    """The server cannot be asked for anything now."""


class _Auth(msgspec.Struct):
    client_token: str
    lease_duration: int = 0
    renewable: bool = False


class _Login(msgspec.Struct):
    auth: _Auth


class _Version(msgspec.Struct):
    data: dict[str, Any] | None = None
    metadata: dict[str, Any] = {}


class _Secret(msgspec.Struct):
    data: _Version | None = None


class Vault:
    """See the module. Every call may take TIMEOUT_S a request, three at the most."""

    def __init__(self, settings: VaultSettings, timeout_s: float = TIMEOUT_S, rest_s: float = REST_S) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._rest_s = rest_s
        self._away: tuple[float, str] = (0.0, "")  # until when, and why
        self._parts = urlsplit(settings.address.rstrip("/"))
        self._turn = threading.Lock()  # of who logs in
        self._login: _Auth | None = None
        self._renew_at_s = 0.0
        self._tls: ssl.SSLContext | None = None

    def read(self, reference: Reference) -> str:
        """Return a field of the newest version of a secret. Raises SecretUnavailable, with `retry_after_s` if told."""
        mount, _, path = reference.name.partition("/")
        where = f"/v1/{quote(mount)}/data/{quote(path)}"
        token = self._token()
        try:
            body = self._ask("GET", where, token, reference.place)
        except _Denied:
            if not self._forget(token):
                raise
            body = self._ask("GET", where, self._token(), reference.place)  # the token had ended: with a new one, once
        try:
            found = msgspec.json.decode(body, type=_Secret).data
        except msgspec.DecodeError:
            raise SecretUnavailable(f"{reference.place}: the answer is no secret of KV version 2") from None
        value = (found.data or {}).get(reference.field) if found is not None else None
        if not isinstance(value, str) or not value:
            raise SecretUnavailable(f"{reference.place} has no text in its field {reference.field!r}")
        if len(value.encode()) > VALUE_BYTES_MAX:
            raise SecretUnavailable(f"{reference.place} has over {VALUE_BYTES_MAX} bytes in {reference.field!r}")
        return value

    def _token(self) -> str:
        """Return a token that should work; logs in, or renews, when it is time."""
        chosen = self._settings
        if chosen.token:
            return chosen.token
        if chosen.token_file:
            return _sign(chosen.token_file, "STOKER_VAULT_TOKEN_FILE")
        with self._turn:
            now_s = time.monotonic()
            if self._login is not None and now_s >= self._renew_at_s:
                self._renew(self._login, now_s)
            if self._login is None:
                self._keep(self._log_in(), now_s)
            assert self._login is not None
            return self._login.client_token

    def _forget(self, token: str) -> bool:
        """Take note that a token was refused; return whether another one may be had."""
        with self._turn:
            if self._settings.token:
                return False
            if self._settings.token_file:
                return _sign(self._settings.token_file, "STOKER_VAULT_TOKEN_FILE") != token
            if self._login is not None and self._login.client_token == token:
                self._login = None
            return True

    def _log_in(self) -> _Auth:
        chosen = self._settings
        body: dict[str, str]
        if chosen.role_id:
            mount = chosen.auth_mount or "approle"
            body = {"role_id": chosen.role_id}
            if chosen.secret_id_file:
                body["secret_id"] = _sign(chosen.secret_id_file, "STOKER_VAULT_SECRET_ID_FILE")
        elif chosen.jwt_role:
            mount = chosen.auth_mount or "kubernetes"
            body = {"role": chosen.jwt_role, "jwt": _sign(chosen.jwt_file, "STOKER_VAULT_JWT_FILE")}
        else:
            raise SecretUnavailable(
                "nothing says who the platform is in Vault; set STOKER_VAULT_TOKEN_FILE, STOKER_VAULT_ROLE_ID or "
                "STOKER_VAULT_JWT_ROLE"
            )
        return self._auth(f"/v1/auth/{quote(mount)}/login", "", body)

    def _renew(self, login: _Auth, now_s: float) -> None:
        """Have the token live longer; one that cannot is forgotten, and the next call logs in."""
        self._login = None
        if login.renewable:
            try:
                self._keep(self._auth("/v1/auth/token/renew-self", login.client_token, {}), now_s)
            except SecretUnavailable:
                return

    def _keep(self, login: _Auth, now_s: float) -> None:
        self._login = login
        lasts_s = float(login.lease_duration)
        self._renew_at_s = now_s + lasts_s * RENEW_SHARE if lasts_s > 0 else float("inf")

    def _auth(self, path: str, token: str, body: Mapping[str, str]) -> _Auth:
        answer = self._ask("POST", path, token, "the login", msgspec.json.encode(body))
        try:
            found = msgspec.json.decode(answer, type=_Login).auth
        except msgspec.DecodeError:
            raise SecretUnavailable("Vault's answer to the login holds no token") from None
        if not found.client_token or not _is_header(found.client_token):
            raise SecretUnavailable("Vault's answer to the login holds no token")
        return found

    def _ask(self, method: str, path: str, token: str, what: str, body: bytes | None = None) -> bytes:
        """Return the body of a good answer. Raises SecretUnavailable; redirects are not followed."""
        until_s, why = self._away
        if time.monotonic() < until_s:
            raise SecretUnavailable(f"{what}: {why}")
        try:
            return self._exchange(method, path, token, what, body)
        except _Away as away:
            rest_s = max(self._rest_s, min(away.retry_after_s or 0.0, REST_MAX_S)) if self._rest_s else 0.0
            self._away = (time.monotonic() + rest_s, away.message)
            raise SecretUnavailable(f"{what}: {away.message}", retry_after_s=away.retry_after_s) from None

    def _exchange(self, method: str, path: str, token: str, what: str, body: bytes | None) -> bytes:
        ends_s = time.monotonic() + self._timeout_s
        headers = {"X-Vault-Request": "true", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if token:
            headers["X-Vault-Token"] = token
        if self._settings.namespace:
            headers["X-Vault-Namespace"] = self._settings.namespace
        connection = self._connection()
        ending = threading.Timer(self._timeout_s, _cut, (connection,))  # one that sends a byte now and then, too
        ending.daemon = True
        ending.start()
        try:
            connection.request(method, self._parts.path + path, body, headers)
            response = connection.getresponse()
            answer = _bounded(response)
            if time.monotonic() >= ends_s:
                raise TimeoutError
        except TimeoutError:
            raise _Away(f"Vault did not answer in {self._timeout_s:g} s") from None
        except ssl.SSLError as refused:
            why = getattr(refused, "verify_message", "") or refused.reason or "TLS"
            raise _Away(f"Vault is not who it should be: {why}") from None
        except (OSError, http.client.HTTPException, ValueError) as down:
            if time.monotonic() >= ends_s:
                raise _Away(f"Vault did not answer in {self._timeout_s:g} s") from None
            why = getattr(down, "strerror", None) or type(down).__name__
            raise _Away(f"Vault cannot be reached: {why}") from None
        finally:
            ending.cancel()
            connection.close()
        if response.status == 200:
            return answer
        raise _refused(response.status, response.headers.get("Retry-After"), what)

    def _connection(self) -> http.client.HTTPConnection:
        host = self._parts.hostname or ""
        if self._parts.scheme != "https":
            return http.client.HTTPConnection(host, self._parts.port, timeout=self._timeout_s)
        if self._tls is None:
            try:
                self._tls = ssl.create_default_context(cafile=self._settings.ca_file or None)
            except OSError as unreadable:
                raise SecretUnavailable(
                    f"STOKER_VAULT_CA_FILE cannot be used: {unreadable.strerror or 'no certificate in it'}"
                ) from None
        return http.client.HTTPSConnection(host, self._parts.port, timeout=self._timeout_s, context=self._tls)


def _cut(connection: http.client.HTTPConnection) -> None:
    """End what waits on a connection: its time is over."""
    found = connection.sock
    if found is not None:
        with suppress(OSError):
            found.shutdown(socket.SHUT_RDWR)


def _bounded(response: http.client.HTTPResponse) -> bytes:
    """Return the body, up to its bound. Raises SecretUnavailable."""
    found = bytearray()
    while piece := response.read1(PIECE_BYTES):
        found += piece
        if len(found) > ANSWER_BYTES_MAX:
            raise SecretUnavailable(f"Vault's answer has over {ANSWER_BYTES_MAX} bytes")
    if response.length:  # bytes that were promised
        raise http.client.IncompleteRead(b"", response.length)
    return bytes(found)


def _refused(status: int, after: str | None, what: str) -> SecretUnavailable:
    if status in (401, 403):
        return _Denied(f"{what}: Vault refuses the platform's token ({status}); see its policy")
    wait_s = float(after) if after is not None and after.isdecimal() and len(after) < 6 else None
    if status in (429, 503):
        why = "says that it is asked too often" if status == 429 else "is sealed or starts"
        return _Away(f"Vault {why} ({status})", retry_after_s=wait_s)
    why = "there is no such secret, or its newest version is deleted" if status == 404 else "it cannot be read"
    return SecretUnavailable(f"{what}: {why} ({status})")


def _sign(path: str, setting: str) -> str:
    """Return what a file says of who one is. Raises SecretUnavailable."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(SIGN_BYTES_MAX + 1).decode().strip()
    except (OSError, UnicodeDecodeError) as failed:
        why = getattr(failed, "strerror", None) or "no text"
        raise SecretUnavailable(f"{setting} cannot be read: {why}") from None
    if not text or len(text) > SIGN_BYTES_MAX or not _is_header(text):
        raise SecretUnavailable(f"{setting} is empty, too long, or no line of text")
    return text


def _is_header(text: str) -> bool:
    return text.isascii() and text.isprintable()
