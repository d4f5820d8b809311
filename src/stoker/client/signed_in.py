"""A session of the command line: how it is begun, kept in the state folder (mode 600), renewed and ended."""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from stoker.client import oidc
from stoker.client.connection import Connection, decode
from stoker.client.oidc import Client
from stoker.client.trust import SYSTEM, Trust
from stoker.types.errors import InvalidInput, StokerError, Unauthenticated
from stoker.types.identity import Door, Me, NewSession, ProviderView, SessionView

RENEW_S: Final = 60.0  # before its end
_JSON: Final = {"Content-Type": "application/json"}


class Signed(msgspec.Struct, frozen=True):
    """The file `session.json`: who is signed in where, and with what it is renewed."""

    api: str
    token: str
    expires_at_s: float
    id: str
    subject: str
    provider: str
    issuer: str
    client_id: str
    gateway: str = ""
    email: str = ""
    refresh_token: str = ""


class _Doors(msgspec.Struct, frozen=True):
    items: tuple[Door, ...]


class _Sessions(msgspec.Struct, frozen=True):
    items: tuple[SessionView, ...]


class _Providers(msgspec.Struct, frozen=True):
    items: tuple[ProviderView, ...]


def read(path: Path) -> Signed | None:
    """Return who is signed in, or None. Raises InvalidInput for a file that is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Signed)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as wrong:
        raise InvalidInput(f"{path} cannot be read ({wrong}); `stoker login` makes a new one") from wrong


def keep(path: Path, signed: Signed) -> None:
    """Write the file: whole or not at all, and for this user alone."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
            file.write(msgspec.json.format(msgspec.json.encode(signed)))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def current(path: Path, trust: Trust = SYSTEM) -> Signed | None:
    """Return who is signed in, renewed where its end is near and the provider lets it be. Raises Unauthenticated."""
    signed = read(path)
    if signed is None or time.time() < signed.expires_at_s - RENEW_S:
        return signed
    if not signed.refresh_token:
        if time.time() < signed.expires_at_s:
            return signed
        raise Unauthenticated(
            f"your session at {signed.api} has ended; `stoker login` begins a new one, and after `stoker logout` the "
            "state folder's key is used, if it has one"
        )
    with _alone(path):  # two commands at once would use one refresh token twice
        again = read(path)
        if again is None or again != signed:
            return again
        renewed = renew(signed, trust)
        keep(path, renewed)
        return renewed


def renew(signed: Signed, trust: Trust = SYSTEM) -> Signed:
    """Return a new session for the refresh token of one that ends. Raises Unauthenticated."""
    try:
        found, _ = oidc.discover(signed.issuer)
        given = oidc.renew(found, Client(signed.client_id), signed.refresh_token)
        made = exchange(Connection(signed.api, trust=trust), signed.provider, given.id_token)
    except StokerError as refused:
        raise Unauthenticated(
            f"your session has ended and cannot be renewed ({refused.message}); sign in again: stoker login"
        ) from refused
    return msgspec.structs.replace(
        signed,
        token=made.token,
        id=made.id,
        expires_at_s=made.expires_at_s,
        refresh_token=given.refresh_token or signed.refresh_token,
    )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def doors(control: Connection) -> tuple[Door, ...]:
    """Return the providers that people sign in by."""
    return decode(control.exchange("GET", "/auth/providers").body, _Doors).items


def exchange(control: Connection, provider: str, id_token: str) -> NewSession:
    """Return a session for an ID token. Raises Unauthenticated, or Forbidden for who may do nothing there."""
    body = msgspec.json.encode({"provider": provider, "id_token": id_token})
    return decode(control.exchange("POST", "/auth/sessions", body=body, headers=_JSON).body, NewSession)


def me(control: Connection) -> Me:
    """Return who the caller is, and what they may do."""
    return decode(control.exchange("GET", "/auth/session").body, Me)


def leave(control: Connection) -> None:
    """End the caller's session."""
    control.exchange("POST", "/auth/logout")


def sessions(control: Connection) -> tuple[SessionView, ...]:
    """Return sessions: one's own, or everybody's."""
    return decode(control.exchange("GET", "/api/v1/sessions").body, _Sessions).items


def revoke(control: Connection, session: str) -> None:
    """End a session. Raises NotFound."""
    control.exchange("DELETE", f"/api/v1/sessions/{session}")


def providers(control: Connection) -> tuple[ProviderView, ...]:
    """Return the identity providers, and how each does."""
    return decode(control.exchange("GET", "/api/v1/providers").body, _Providers).items


def delete_provider(control: Connection, name: str) -> None:
    """Delete an identity provider. Raises NotFound or Conflict."""
    control.exchange("DELETE", f"/api/v1/providers/{name}")
