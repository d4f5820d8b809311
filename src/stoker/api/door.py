"""Who may enter: the caller's key, token or session, what it comes to, and whether that is enough for an operation.

Every refusal here depends on what the caller has and on the names in the request, never on what exists.
"""

import ipaddress
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import msgspec
from starlette.requests import Request

from stoker.api import cookies
from stoker.api.operations import Call, Operation
from stoker.control.identity.providing import standing
from stoker.control.identity.sessions import USED_EVERY_S, nobody, stand_in
from stoker.control.identity.sessions import verify as verify_session
from stoker.control.identity.signing_in import said
from stoker.control.keys import digest, verify
from stoker.control.plane import ControlPlane
from stoker.core.access import foremost
from stoker.core.guesses import Guesses
from stoker.core.identity import Refused, UnknownKey, looks_like_token
from stoker.store import providers, roles, sessions
from stoker.store.engine import Connection
from stoker.store.keys import KeyRow
from stoker.store.sessions import SessionRow
from stoker.types.access import EVERYWHERE, Grant
from stoker.types.errors import Forbidden, NotFound, RateLimited, Unauthenticated
from stoker.types.identity import Identity
from stoker.types.ids import DEFAULT_PROJECT
from stoker.types.resources import IdentityProvider

TOO_MANY: Final = "too many keys from this address were none; wait, then send the right one"
_OF_ENDPOINT: Final = "/endpoints/{name}"


class Known(msgspec.Struct, frozen=True):
    """Somebody who was recognised: what they may do where, the key that stands for them, and their session."""

    key: KeyRow
    grants: tuple[Grant, ...]
    session: SessionRow | None = None
    email: str = ""
    base: str = ""  # where browsers reach control, by their provider's word


@dataclass(frozen=True, slots=True)
class Door:
    """The door of one control process."""

    plane: ControlPlane
    guesses: Guesses = field(default_factory=Guesses)

    async def enter(self, operation: Operation, request: Request) -> Call:
        """Return the call with its caller, who may still not do it: `permit` says.

        Raises NotFound, Unauthenticated or RateLimited; Forbidden for a request by cookie that may be forged.
        """
        if operation.access == "socket":
            if not _is_socket(request):
                raise NotFound("not here")
            return Call(request, self.plane)
        if operation.access == "open" or (operation.is_local and is_local(request)):
            return Call(request, self.plane)
        offered, cookie = _offered(request)
        if not offered:
            raise Unauthenticated("no key; send the header Authorization: Bearer stk_…")
        known = await self._guarded(request, offered, is_counted=not cookie)
        if known.session is not None and (known.session.kind == "browser") != bool(cookie):
            raise Unauthenticated("a browser's session comes in its cookie, and no other does")
        if cookie:
            cookies.check(request, cookie, offered, known.base or self.plane.sign_in.base)
        if not known.grants and operation.permissions:
            raise Forbidden(nobody(known.key.subject, known.email))
        grant = foremost(known.grants, operation.permissions, _asked_project(request))
        return Call(request, self.plane, known.key, grant, known.session, offered if cookie else "", known.email)

    async def _guarded(self, request: Request, offered: str, *, is_counted: bool) -> Known:
        """Return who has what was offered; who tries many waits.

        A browser goes on to send the cookie of a session that has ended, and a program its token: that is no guess.
        """
        address = request.client.host if request.client is not None else ""
        hashed, now_s = digest(offered), time.time()
        # Over the socket comes who may read the folder with the keys: nobody else can be kept out by them there.
        wait_s = 0.0 if _is_socket(request) else self.guesses.wait_s(address, now_s)
        if wait_s and not self.guesses.knows(hashed):
            raise self._refused(wait_s)
        try:
            found = await self._identified(offered, now_s)
        except Unauthenticated as none:
            is_over = isinstance(none.__cause__, Refused) and none.__cause__.reason in ("expired", "early")
            is_guess = is_counted and not is_over and not _is_socket(request)
            if is_guess and (wait_s := self.guesses.failed(address, now_s)):
                raise self._refused(wait_s) from None
            raise
        self.guesses.succeeded(hashed)
        return found

    async def _identified(self, offered: str, now_s: float) -> Known:
        reading = self.plane.database.reading
        if looks_like_token(offered):
            who = await self._by_token(offered, now_s)
            return await reading(lambda connection: _of_token(connection, who, now_s))
        if offered.startswith("sts_"):
            known = await reading(lambda connection: _of_session(connection, offered, now_s))
            assert known.session is not None
            if now_s - known.session.used_at_s > USED_EVERY_S:
                held = known.session.id
                await self.plane.database.writing(lambda connection: sessions.used(connection, held, now_s))
            return known
        found = await reading(lambda connection: _of_key(connection, offered, now_s))
        self.plane.used.add(found.key.id, now_s)
        return found

    async def _by_token(self, offered: str, now_s: float) -> Identity:
        watch, routes = self.plane.sign_in.providers, self.plane.routes
        token = offered.encode("utf-8", "replace")
        try:
            try:
                return watch.keyring(routes.table.providers).verify(token, now_s)
            except UnknownKey as unknown:
                await watch.again(unknown.provider)
                await self.plane.loop.turned(1.0)  # the next table has what was found
                return watch.keyring(routes.table.providers).verify(token, now_s)
        except Refused as refused:
            self.plane.metrics.counter(
                "stoker_tokens_refused_total", process=self.plane.process, reason=refused.reason
            ).add()
            raise Unauthenticated(said(refused)) from refused

    def _refused(self, wait_s: float) -> RateLimited:
        self.plane.metrics.counter("stoker_guesses_refused_total", process=self.plane.process).add()
        return RateLimited(TOO_MANY, retry_after_s=wait_s)


def permit(operation: Operation, call: Call) -> None:
    """Raise Forbidden or NotFound unless the caller has a permission that opens the operation."""
    if call.key is None or operation.access == "known":
        return  # what needs no key, or comes from this machine; what is about the caller
    if operation.where == "each":
        if not call.grant.permissions.intersection(operation.permissions):
            wanted = " or ".join(operation.permissions)
            raise Forbidden(f"this needs the permission {wanted}; key {call.caller} does not have it")
        return
    (permission,) = operation.permissions
    if operation.where == "platform":
        call.require(permission, EVERYWHERE)
        return
    named = call.request.path_params
    call.require(permission, named["project"], named["name"] if _OF_ENDPOINT in operation.path else "")


def _offered(request: Request) -> tuple[str, str]:
    """Return what the caller shows, and the name of the cookie that it is in. A header goes before a cookie."""
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, text = header.partition(" ")
        return (text.strip() if scheme.lower() == "bearer" else ""), ""
    return cookies.session(request)


def _of_key(connection: Connection, offered: str, now_s: float) -> Known:
    key = verify(connection, offered, now_s)
    return Known(key, (roles.grant(connection, key),))


def _of_token(connection: Connection, who: Identity, now_s: float) -> Known:
    provider = providers.find(connection, who.provider)
    return _known(connection, provider, (who.subject, who.email, who.claims), None, (now_s, who.ends_s))


def _of_session(connection: Connection, offered: str, now_s: float) -> Known:
    found = verify_session(connection, offered, now_s)
    provider = providers.find(connection, found.provider)
    return _known(connection, provider, (found.subject, found.email, found.said()), found, (now_s, found.expires_at_s))


def _known(
    connection: Connection,
    provider: IdentityProvider | None,
    who: tuple[str, str, dict[str, object]],
    session: SessionRow | None,
    moments: tuple[float, float],
) -> Known:
    subject, email, _ = who
    grants = standing(roles.rights(connection), provider, *who)
    project = grants[0] if grants else Grant(DEFAULT_PROJECT, frozenset())
    base = provider.spec.url if provider is not None else ""
    return Known(stand_in(subject, email, project, *moments), grants, session, email, base)


def _asked_project(request: Request) -> str:
    named: Collection[str | None] = (
        request.path_params.get("project"),
        request.query_params.get("project"),
        request.headers.get("x-stoker-project"),
    )
    return next((each for each in named if each), str(DEFAULT_PROJECT))


def is_local(request: Request) -> bool:
    """Return whether the request came from this machine, and through no proxy on it."""
    headers = request.headers
    if "forwarded" in headers or "x-forwarded-for" in headers:
        return False
    if _is_socket(request):
        return True
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _is_socket(request: Request) -> bool:
    """Return whether it came over the Unix socket, which has no port and lies where only this user can enter."""
    return request.scope["server"][1] is None
