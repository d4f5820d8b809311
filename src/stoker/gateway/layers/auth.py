"""Who calls. A key is looked up by its SHA-256 in the route table, a token is verified once (gateway/tokens.py);
without one nothing of the inside is told.
"""

import time
from collections.abc import Mapping
from typing import Final

from stoker.core import admit
from stoker.gateway.directory import Directory
from stoker.gateway.exchange import Exchange, Handler, Work
from stoker.gateway.http.incoming import HttpRequest
from stoker.types.errors import Forbidden, InvalidInput, Unauthenticated
from stoker.types.keys import PRIORITIES
from stoker.types.routes import KeyRoute

LOOPBACK: Final = frozenset(("127.0.0.1", "::1", "::ffff:127.0.0.1"))


def identify(directory: Directory, request: HttpRequest) -> KeyRoute:
    """Return the caller's key.

    Raises Unauthenticated, in one shape for missing, unknown, expired and revoked ones; RateLimited to who tries many.
    """
    headers = request.headers
    given = headers.get(b"authorization")
    if given is not None:
        if given[:7].lower() != b"bearer ":
            raise Unauthenticated("send the key as 'Authorization: Bearer stk_…' or 'x-api-key: stk_…'")
        key = directory.find_bearer(given, request.address)
    else:
        key = directory.find_key(headers.get(b"x-api-key", b"").strip(), request.address)
    if key is None or 0 < key.expires_at_s <= time.time():
        text = offered(headers)
        is_guess = bool(text) and (key is None or bool(key.sha256))  # a token that has ended was none
        raise directory.refused(request.address if is_guess else "", text)
    return key


def offered(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the text of the key that a request comes with; empty: none."""
    given = headers.get(b"authorization")
    return (headers.get(b"x-api-key", b"") if given is None else given[7:]).strip()


def may_read_numbers(directory: Directory, request: HttpRequest) -> None:
    """Raise Unauthenticated or Forbidden unless the caller may read everybody's numbers.

    Whoever sits on this machine, and came through no proxy on it, may.
    """
    headers = request.headers
    is_direct = b"x-forwarded-for" not in headers and b"forwarded" not in headers
    if is_direct and request.address in LOOPBACK:
        return
    if not identify(directory, request).sees:
        raise Forbidden("this needs the permission metrics:read everywhere; the key does not have it")


def band(key: KeyRoute, request: HttpRequest) -> int:
    """Return how urgent the request is: as its key may be, or less when `x-stoker-priority` says so."""
    wanted = request.headers.get(b"x-stoker-priority")
    try:
        return admit.band(key.limits.priority, None if wanted is None else wanted.decode("latin-1"))
    except ValueError as unknown:
        raise InvalidInput(
            f"{wanted!r} is no priority; there are {', '.join(PRIORITIES)}", field="x-stoker-priority"
        ) from unknown


def auth(directory: Directory, inner: Handler) -> Handler:
    """Set the caller and the project names are looked up in. Before anything that costs or tells."""

    def handle(exchange: Exchange) -> Work:
        exchange.key = key = identify(directory, exchange.request)
        if not key.calls:
            raise Forbidden("this key may not call endpoints; it needs the permission endpoints:call")
        if key.sha256:
            directory.used.add(key.key)
        project = key.project
        wanted = exchange.request.headers.get(b"x-stoker-project")
        if wanted is not None and wanted.decode("latin-1") != project:
            other = wanted.decode("latin-1")
            if not key.is_admin and other not in key.projects:
                raise Forbidden(f"this key is of the project {project}; only an admin key may name another")
            exchange.project = other
        else:
            exchange.project = project
        exchange.band = band(key, exchange.request)
        return inner(exchange)

    return handle
