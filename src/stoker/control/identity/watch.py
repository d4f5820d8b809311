"""What identity providers publish, asked for again and again: their keys as they turn them over, and how each does.

A provider that is away changes nothing for a day: what it published is in the database, and good that long.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from stoker.client import oidc
from stoker.client.oidc import Discovery
from stoker.core.identity import Refused
from stoker.store import providers
from stoker.store.engine import Connection, Database
from stoker.store.providers import Published
from stoker.telemetry.metrics import Registry
from stoker.types.errors import NotReachable, StokerError
from stoker.types.identity import KEYS_KEPT_S, Jwk, ProviderRoute
from stoker.types.resources import IdentityProvider

if TYPE_CHECKING:
    from stoker.protocol.tokens import Keyring

LOOK_S: Final = 15.0
REFRESH_S: Final = 300.0
RETRY_S: Final = 15.0  # and twice as long each time, up to REFRESH_S
# Because of keys that nobody knows a provider is asked so often at once, and after that once each AGAIN_S.
AGAIN_AT_ONCE: Final = 3.0
AGAIN_S: Final = 30.0
WAIT_S: Final = 5.0  # of a caller whose key nobody knows

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """How keys and tokens are read (protocol/tokens.py): loaded once there is a provider, as most starts need not."""

    keys: Callable[[bytes], tuple[Jwk, ...]]
    ring: "Callable[[tuple[ProviderRoute, ...]], Keyring]"


class Health(msgspec.Struct):
    """How a provider does, in this process. next_s, tried_s: wall clock."""

    next_s: float = 0.0
    tried_s: float = 0.0
    problem: str = ""
    failing_since_s: float = 0.0
    failures: int = 0
    left: float = AGAIN_AT_ONCE
    left_s: float = 0.0

    def take(self, now_s: float) -> bool:
        """Return whether it may be asked once more because of a key."""
        self.left = min(self.left + max(now_s - self.left_s, 0.0) / AGAIN_S, AGAIN_AT_ONCE)
        self.left_s = now_s
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True

    def state(self, published: Published | None, now_s: float) -> Literal["ok", "stale", "failing", "unknown"]:
        """Return it in a word: stale, it is away and its keys are still good; failing, they are not."""
        if not self.problem:
            return "unknown" if published is None else "ok"
        is_good = published is not None and now_s < published.fetched_at_s + KEYS_KEPT_S
        return "stale" if is_good else "failing"


class Providers:
    """Asks every provider, in turn. `run` returns only by cancellation."""

    def __init__(self, database: Database, metrics: Registry, changed: Callable[[], None], reading: Reading) -> None:
        self._database = database
        self._reading = reading
        self.ring = reading.ring
        self._metrics = metrics
        self._changed = changed
        self._woken = asyncio.Event()
        self._locks: dict[str, asyncio.Lock] = {}
        self._of: tuple[ProviderRoute, ...] = ()
        self._ring: Keyring | None = None
        self.health: dict[str, Health] = {}  # of those that there are: at most PROVIDERS_MAX

    def wake(self) -> None:
        """Look soon: a provider was applied or deleted. One that could not be asked is asked at once."""
        for health in self.health.values():
            if health.problem:
                health.next_s = 0.0
        self._woken.set()

    def keyring(self, routes: tuple[ProviderRoute, ...]) -> "Keyring":
        """Return the keys of the newest route table, ready. Raises Refused without a provider."""
        if not routes:
            raise Refused("issuer")
        if routes is not self._of or self._ring is None:
            self._of, self._ring = routes, self._reading.ring(routes)
        return self._ring

    async def run(self) -> None:
        """Look every LOOK_S, or when woken."""
        while True:
            try:
                await self.look()
            except (OSError, StokerError):
                _log.exception("identity providers could not be looked at; it is tried again")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), LOOK_S)
            self._woken.clear()

    async def look(self) -> None:
        """Ask those whose time it is."""
        every, published = await self._database.reading(
            lambda connection: (providers.everything(connection), providers.published(connection))
        )
        names = {each.metadata.name for each in every}
        for gone in self.health.keys() - names:
            del self.health[gone]
            self._locks.pop(gone, None)
            self._metrics.forget(provider=gone)
        now_s, due = time.time(), []
        for each in every:
            name = each.metadata.name
            health, known = self.health.setdefault(name, Health()), published.get(name)
            if known is not None and not health.tried_s and known.issuer == each.spec.issuer:
                health.next_s = min(known.fetched_at_s, now_s) + REFRESH_S  # of before a restart
            if now_s >= health.next_s:
                due.append(self._ask(each, known))
        await asyncio.gather(*due)
        for name in names:
            self._tell(name, published.get(name), now_s)

    async def again(self, name: str) -> None:
        """Ask a provider again because of a key that is not known, a bounded number of times; wait up to WAIT_S."""
        health = self.health.get(name)
        if health is None:
            return
        lock, began_s = self._locks.setdefault(name, asyncio.Lock()), time.time()
        try:
            async with asyncio.timeout(WAIT_S), lock:
                if health.tried_s > began_s or not health.take(time.time()):
                    return
                found, published = await self._database.reading(
                    lambda connection: (providers.find(connection, name), providers.published(connection))
                )
                if found is not None:
                    await self._ask(found, published.get(name))
        except TimeoutError:
            return

    async def _ask(self, provider: IdentityProvider, known: Published | None) -> None:
        """Ask one; keep what it says, or why it says nothing."""
        name, health = provider.metadata.name, self.health.setdefault(provider.metadata.name, Health())
        health.tried_s = time.time()
        try:
            made = await asyncio.to_thread(_published, provider, health.tried_s, self._reading.keys)
        except NotReachable as failed:
            self._failed(name, health, failed.message)
            self._show(name, health)
            return
        is_new = known is None or (known.issuer, known.discovery, known.keys) != (
            made.issuer, made.discovery, made.keys,
        )  # fmt: skip
        await self._database.writing(lambda connection: _keep(connection, made))
        if health.problem:
            _log.info("an identity provider answers again", extra={"provider": name})
        health.problem, health.failures, health.failing_since_s = "", 0, 0.0
        health.next_s = health.tried_s + REFRESH_S
        self._show(name, health)
        if is_new:
            _log.info("an identity provider has other keys", extra={"provider": name, "keys": len(made.keys)})
        self._changed()

    def _failed(self, name: str, health: Health, why: str) -> None:
        if not health.problem:
            health.failing_since_s = health.tried_s
            _log.warning("an identity provider cannot be asked", extra={"provider": name, "reason": why})
        health.problem = why
        health.next_s = health.tried_s + min(RETRY_S * 2.0 ** min(health.failures, 8), REFRESH_S)
        health.failures += 1

    def _tell(self, name: str, known: Published | None, now_s: float) -> None:
        self._show(name, self.health[name])
        age_s = now_s - known.fetched_at_s if known is not None else 0.0
        self._metrics.gauge("stoker_identity_keys_age_seconds", provider=name).set(max(age_s, 0.0))

    def _show(self, name: str, health: Health) -> None:
        failing = 1.0 if health.problem else 0.0
        self._metrics.gauge("stoker_identity_provider_failing", provider=name).set(failing)


def _keep(connection: Connection, made: Published) -> None:
    if providers.find(connection, made.name) is not None:  # it may have been deleted meanwhile
        providers.publish(connection, made)


def _published(provider: IdentityProvider, now_s: float, keys_of: Callable[[bytes], tuple[Jwk, ...]]) -> Published:
    """Return what a provider publishes. Raises NotReachable; blocks for up to two exchanges."""
    issuer = provider.spec.issuer
    found, document = oidc.discover(issuer)
    try:
        keys = keys_of(document)
    except ValueError as wrong:
        raise NotReachable(f"the keys of {issuer} cannot be read: {wrong}") from wrong
    if not keys:
        raise NotReachable(f"{issuer} has no key that signatures can be verified with")
    return Published(provider.metadata.name, issuer, msgspec.json.encode(found).decode(), keys, now_s)


def discovery(published: Published) -> Discovery:
    """Return what a provider said of itself."""
    return msgspec.json.decode(published.discovery, type=Discovery)
