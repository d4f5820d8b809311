"""Tokens that callers send instead of keys: verified once, and then as cheap as a key until they end.

The keys of providers come with the route table. What a token came to is kept by its digest, so that a new table costs
no signature; the directory in front of it keeps whole texts, for which a look-up is all.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from stoker.core import identity as rules
from stoker.core.identity import Refused, UnknownKey
from stoker.telemetry.metrics import Registry
from stoker.types.errors import Unauthenticated, Unavailable
from stoker.types.identity import ProviderRoute
from stoker.types.keys import UNLIMITED
from stoker.types.routes import KeyRoute

if TYPE_CHECKING:
    from stoker.protocol.tokens import Keyring

VERIFIED_MAX: Final = 8192  # about 300 bytes each
TOKEN_CACHED_BYTES: Final = 4096  # a longer one is digested each time, 10 µs
ASKED_MAX: Final = 64
PENDING_S: Final = 4.0  # a caller is told to try again, while a provider is asked for a key
FORGET_S: Final = 60.0  # and it is asked for the same one again
NONE: Final = "no valid key; send one as 'Authorization: Bearer stk_…' or 'x-api-key: stk_…'"


class _Seen(msgspec.Struct, frozen=True):
    """A token that held. projects, sees: what its claims alone come to."""

    provider: str
    subject: str
    projects: tuple[str, ...]
    sees: bool
    ends_s: float


class Tokens:
    """The tokens of one gateway.

    Args:
        ring: makes providers ready; what it needs is loaded once there is one.
        asked: told of providers that signed by a key which is not known.
    """

    def __init__(
        self,
        registry: Registry,
        ring: "Callable[[tuple[ProviderRoute, ...]], Keyring]",
        asked: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._registry = registry
        self._make = ring
        self._ask = asked
        self._routes: dict[str, ProviderRoute] = {}
        self._ring: Keyring | None = None
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()
        self._unknown: OrderedDict[tuple[str, str], float] = OrderedDict()  # since when, monotonic

    def follow(self, routes: tuple[ProviderRoute, ...]) -> None:
        """Follow the providers of a new table; what was verified is, unless what it was judged by has changed."""
        new = {each.name: each for each in routes}
        if new == self._routes:
            return
        if {name: _judged(each) for name, each in new.items()} != {
            name: _judged(each) for name, each in self._routes.items()
        }:
            self._ring = self._make(routes) if routes else None
            self._seen.clear()
            self._unknown.clear()
        self._routes = new

    def knows(self, text: bytes) -> bool:
        """Return whether that token was verified before."""
        return bool(self._seen) and hashlib.sha256(text).digest() in self._seen

    def find(self, text: bytes) -> KeyRoute | None:
        """Return whose token it is, as a caller; None for one that does not hold.

        Raises Unavailable while its provider is asked for the key that signed it; Unauthenticated for one that held
        once, or will: a program that goes on to send it guesses nothing, and nobody beside it has to wait for that.
        """
        if not self._routes:
            return None
        digest = hashlib.sha256(text).digest()
        seen = self._seen.get(digest)
        if seen is None:
            seen = self._verified(text)
            if seen is None:
                return None
            self._seen[digest] = seen
            if len(self._seen) > VERIFIED_MAX:
                self._seen.popitem(last=False)
        else:
            self._seen.move_to_end(digest)
        route = self._routes[seen.provider]
        return rules.caller(
            seen.subject,
            (*seen.projects, *route.members.get(seen.subject, ())),
            sees=seen.sees,
            limits=route.limits,
            unsampled=route.unsampled,
            ends_s=min(seen.ends_s, route.keys_until_s),
        )

    def _verified(self, text: bytes) -> _Seen | None:
        assert self._ring is not None
        try:
            who = self._ring.verify(text, time.time())
        except UnknownKey as unknown:
            self._count("key")
            self._want(unknown.provider, unknown.kid)
            return None
        except Refused as refused:
            self._count(refused.reason)
            if refused.reason in ("expired", "early"):
                raise Unauthenticated(NONE) from refused
            return None
        projects, sees = rules.calls(who.claims, self._routes[who.provider])
        return _Seen(who.provider, who.subject, projects, sees, who.ends_s)

    def _want(self, provider: str, kid: str) -> None:
        """Have a provider asked for a key, once a while. Raises Unavailable meanwhile."""
        now_s = time.monotonic()
        since_s = self._unknown.get((provider, kid))
        if since_s is None or now_s - since_s > FORGET_S:
            since_s = self._unknown[provider, kid] = now_s
            self._ask(provider)
            if len(self._unknown) > ASKED_MAX:
                self._unknown.popitem(last=False)
        if now_s - since_s < PENDING_S:
            raise Unavailable("this token is signed by a key that is not known yet; try again", retry_after_s=1.0)

    def _count(self, reason: str) -> None:
        self._registry.counter("stoker_tokens_refused_total", process=self._registry.process, reason=reason).add()


def _judged(route: ProviderRoute) -> ProviderRoute:
    """Return a provider without what changes nothing of a token that held."""
    return msgspec.structs.replace(route, members={}, unsampled=(), keys_until_s=0.0, limits=UNLIMITED)
