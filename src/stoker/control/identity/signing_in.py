"""People signing in: the way to a provider and back (OpenID Connect, code with PKCE), and the command line's way.

What a sign-in needs to know when it comes back is sealed in the browser's own cookie, so that nobody who begins a
million of them costs memory here, and nobody else's browser can end one. A state ends one sign-in, once.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from cryptography.fernet import Fernet, InvalidToken

from stoker.client import oidc
from stoker.client.oidc import Client
from stoker.control.identity.watch import Providers, discovery
from stoker.core.identity import Refused, UnknownKey, values_of
from stoker.store import providers
from stoker.store.engine import Connection, Database
from stoker.store.providers import Published
from stoker.types.errors import (
    Busy,
    Forbidden,
    InvalidInput,
    NotFound,
    SecretUnavailable,
    Unauthenticated,
    Unavailable,
)
from stoker.types.identity import Identity, ProviderRoute
from stoker.types.resources import IdentityProvider

SIGN_IN_S: Final = 600.0
FRESH_S: Final = 600.0  # how old an ID token may be that a session is made of
USED_MAX: Final = 4096  # states and ID tokens that were used; the oldest goes
AT_ONCE: Final = 4  # codes that are redeemed
WAITING_MAX: Final = 32
CODE_MAX: Final = 4096
_NEXT: Final = re.compile(r"/(?:[A-Za-z0-9._~%?=&:@,-][A-Za-z0-9._~%/?=&:@,-]{0,500})?")


class Pending(msgspec.Struct, frozen=True):
    """A sign-in that somebody's browser is on its way with."""

    provider: str
    state: str
    nonce: str
    verifier: str
    next: str


class Returned(msgspec.Struct, frozen=True):
    """What a provider sends a browser back with."""

    state: str = ""
    code: str = ""
    iss: str = ""
    error: str = ""
    error_description: str = ""


class SignIn:
    """The sign-ins of one control process.

    base: where it is reached, for providers that do not say. secret: what a reference names now; raises
    SecretUnavailable or InvalidInput.
    """

    def __init__(
        self, database: Database, watch: Providers, base: str, secret: Callable[[str], Awaitable[str]]
    ) -> None:
        self._secret_of = secret
        self._database = database
        self.providers = watch
        self.base = base
        self._seal = Fernet(Fernet.generate_key())
        self._used: OrderedDict[str, None] = OrderedDict()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    def base_of(self, provider: IdentityProvider) -> str:
        """Return where browsers reach control to sign in by a provider."""
        return (provider.spec.url or self.base).rstrip("/")

    async def secret(self, provider: IdentityProvider) -> str:
        """Return the client secret, "" where there is none. Raises Unavailable."""
        reference = provider.spec.client_secret
        try:
            return "" if reference is None else await self._secret_of(reference)
        except (InvalidInput, SecretUnavailable) as missing:
            raise Unavailable(f"the secret of {provider.metadata.name} cannot be read; an operator has to") from missing

    async def begin(self, name: str, back: str) -> tuple[str, str, IdentityProvider]:
        """Return where the browser goes, its cookie, and the provider. Raises InvalidInput, NotFound or Unavailable."""
        if back and _NEXT.fullmatch(back) is None:
            raise InvalidInput("it leads away from here; a path such as /console is allowed", field="next")
        provider, published = await self._known(name)
        verifier, challenge = oidc.pkce()
        pending = Pending(provider.metadata.name, secrets.token_urlsafe(24), secrets.token_urlsafe(24), verifier, back)
        spec = provider.spec
        where = oidc.authorization_url(
            discovery(published), spec.client_id, spec.scopes, self._redirect(provider),
            pending.state, pending.nonce, challenge,
        )  # fmt: skip
        return where, self._seal.encrypt(msgspec.json.encode(pending)).decode(), provider

    async def end(
        self, cookie: str, returned: Returned, routes: tuple[ProviderRoute, ...]
    ) -> tuple[Identity, IdentityProvider, str]:
        """Return who came back, by which provider, and where they were going.

        Raises InvalidInput for what no browser of ours was sent for, Forbidden or Unauthenticated for who is refused.
        """
        pending = self._opened(cookie)
        if pending is None or not hmac.compare_digest(pending.state, returned.state) or not self._use(pending.state):
            raise InvalidInput("no sign-in waits for this in this browser; begin again", field="state")
        provider, published = await self._known(pending.provider)
        if returned.error:
            raise Forbidden(f"{pending.provider} refused: {_shown(returned.error, returned.error_description)}")
        if returned.iss and returned.iss != provider.spec.issuer:  # RFC 9207: another server's answer
            raise Forbidden(f"this answer is not {pending.provider}'s")
        if not 0 < len(returned.code) <= CODE_MAX:
            raise InvalidInput("it has no code", field="code")
        client = Client(provider.spec.client_id, await self.secret(provider))
        found, redirect = discovery(published), self._redirect(provider)
        given = await self._in_turn(lambda: oidc.redeem(found, client, returned.code, redirect, pending.verifier))
        who = await self._verified(provider, given.id_token, provider.spec.client_id, routes)
        if not hmac.compare_digest(str(who.claims.get("nonce", "")), pending.nonce):
            raise Unauthenticated("this ID token was made for another sign-in")
        return who, provider, pending.next

    async def exchange(
        self, name: str, id_token: str, routes: tuple[ProviderRoute, ...]
    ) -> tuple[Identity, IdentityProvider]:
        """Return who an ID token says it is, for the command line: a fresh one, once. Raises Unauthenticated."""
        provider, _ = await self._known(name)
        client = provider.spec.cli_client_id or provider.spec.client_id
        who = await self._verified(provider, id_token, client, routes)
        issued = who.claims.get("iat")
        if not isinstance(issued, (int, float)) or time.time() - issued > FRESH_S:
            raise Unauthenticated("this ID token is too old to sign in with; sign in again")
        if not self._use(hashlib.sha256(id_token.encode()).hexdigest()):
            raise Unauthenticated("this ID token was used before; sign in again")
        return who, provider

    async def _verified(
        self, provider: IdentityProvider, id_token: str, client: str, routes: tuple[ProviderRoute, ...]
    ) -> Identity:
        """Return who an ID token says it is, for one client (OpenID Connect Core 3.1.3.7). Raises Unauthenticated."""
        mine = tuple(each for each in routes if each.name == provider.metadata.name)
        if not mine:
            raise Unavailable("this provider's keys are not known yet", retry_after_s=2.0)
        token = id_token.encode("utf-8", "replace")
        try:
            try:
                who = self.providers.ring(mine).verify(token, time.time(), audiences=(client,))
            except UnknownKey as unknown:
                await self.providers.again(unknown.provider)
                who = self.providers.ring(await self._renewed(mine[0])).verify(token, time.time(), audiences=(client,))
        except Refused as refused:
            raise Unauthenticated(said(refused)) from refused
        if "azp" in who.claims and values_of(who.claims, "azp") != (client,):
            raise Unauthenticated("this ID token was made for another client")
        return who

    async def _renewed(self, route: ProviderRoute) -> tuple[ProviderRoute]:
        """Return a provider with the keys that are stored now; the route table may not have them yet."""
        found = (await self._database.reading(providers.published)).get(route.name)
        return (msgspec.structs.replace(route, keys=found.keys) if found is not None else route,)

    async def _known(self, name: str) -> tuple[IdentityProvider, Published]:
        def read(connection: Connection) -> tuple[list[IdentityProvider], dict[str, Published]]:
            return providers.everything(connection), providers.published(connection)

        every, published = await self._database.reading(read)
        signing = [each for each in every if each.spec.client_id and name in ("", each.metadata.name)]
        if len(signing) != 1:
            there = "name one of those of /auth/providers" if signing else "nobody signs in by it here"
            raise NotFound(there, field="provider")
        found = published.get(signing[0].metadata.name)
        if found is None:
            raise Unavailable(f"{signing[0].metadata.name} was not reached yet; try again soon", retry_after_s=5.0)
        return signing[0], found

    async def _in_turn(self, ask: Callable[[], oidc.Tokens]) -> oidc.Tokens:
        if self._waiting >= WAITING_MAX:
            raise Busy("too many people sign in at once", retry_after_s=2.0)
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(ask)
        finally:
            self._waiting -= 1

    def _redirect(self, provider: IdentityProvider) -> str:
        return f"{self.base_of(provider)}/auth/callback"

    def _opened(self, cookie: str) -> Pending | None:
        try:
            text = self._seal.decrypt(cookie.encode("ascii", "replace"), ttl=round(SIGN_IN_S))
            return msgspec.json.decode(text, type=Pending)
        except (InvalidToken, msgspec.MsgspecError):
            return None

    def _use(self, once: str) -> bool:
        """Note that it was used; return whether it was not before."""
        if once in self._used:
            return False
        self._used[once] = None
        if len(self._used) > USED_MAX:
            self._used.popitem(last=False)
        return True


def said(refused: Refused) -> str:
    """Return why a token does not hold, in words. It tells of the token, which the caller has, and of nothing else."""
    return {
        "malformed": "this is no token of the form that is taken",
        "algorithm": "this token is signed in a way that is not taken",
        "issuer": "this token is from nobody who is believed here",
        "key": "this token is signed by a key that its issuer does not publish",
        "signature": "this token's signature is wrong",
        "audience": "this token is meant for somebody else (aud)",
        "expired": "this token has expired",
        "early": "this token is not valid yet; see that the clocks agree",
        "claims": "this token does not say who it is of, or until when",
        "email": "this token has no verified address in a domain that is let in",
    }[refused.reason]


def _shown(code: str, more: str) -> str:
    text = f"{code}: {more}" if more else code
    return "".join(each if each.isprintable() else " " for each in text)[:200]
