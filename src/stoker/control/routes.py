"""The route table as gateways get it: made from the stored state, numbered, and handed to whoever waits for the next.

The number is stored in the transaction that changed the state, so it only grows, over restarts and changes of the
acting control too; an unchanged table keeps its number.
"""

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from stoker.control import quotas
from stoker.control.bell import Bell
from stoker.control.followers import Followers
from stoker.control.identity import providing
from stoker.control.observe import State
from stoker.control.secrets import with_secrets
from stoker.control.usage import price_book
from stoker.core import identity as rules
from stoker.core.access import allows
from stoker.core.pricing import cards_of
from stoker.core.scale.bounds import Closed
from stoker.core.secrets import Rules
from stoker.core.snapshot import EndpointKey
from stoker.core.traffic import route_table
from stoker.protocol.budgets import route
from stoker.store import alerts, budgets, keys, projects, providers, roles, sessions, settings
from stoker.store.engine import Connection
from stoker.store.keys import KeyRow
from stoker.types.access import EVERYWHERE, Grant
from stoker.types.budgets import BudgetRoute
from stoker.types.ids import ReplicaId
from stoker.types.loading import Usual
from stoker.types.models import sha256_digest
from stoker.types.prices import DatedCard, PriceBook
from stoker.types.routes import EndpointRoute, KeyRoute, RouteTable
from stoker.types.tuning import Kept, Tuning, read


def next_table(
    connection: Connection,
    state: State,
    address: Callable[[ReplicaId], str],
    now_s: float,
    starts: Mapping[EndpointKey, Usual],
    rules: Rules,
    closed: Mapping[EndpointKey, Closed],
    tuning: Tuning,
) -> tuple[RouteTable, bytes]:
    """Return the table of `state` and its JSON, numbered; stores a new number when its content is new."""
    known = _known(connection)
    table = route_table(
        endpoints=state.endpoints,
        revisions=state.revisions,
        assignments=state.assignments,
        keys=(*_keys(connection, now_s, known), *_sessions(connection, now_s, known)),
        signatures={where: version.manifest.signature for where, version in state.versions.items()},
        address=address,
        rollouts=(each.state for each in state.rollouts),
        judged=alerts.followed(connection),
    )
    prices = _prices(state, price_book(connection))
    timed = (
        msgspec.structs.replace(
            _closing(each, closed.get((each.project, each.endpoint))),
            start=starts.get((each.project, each.endpoint), ()),
            prices=prices.get((each.project, each.endpoint), ()),
        )
        for each in table.endpoints
    )
    trusted = providing.routes(connection, known.rights, known.unsampled)
    table = msgspec.structs.replace(
        table,
        endpoints=tuple(timed),
        budgets=_budgets(connection),
        quotas=quotas.routes(connection),
        providers=trusted,
        tuning=tuning,
    )
    table = with_secrets(connection, table, state, rules)
    digest = sha256_digest(msgspec.json.encode(table))
    version = int(settings.get(connection, settings.ROUTE_VERSION) or 0)
    if digest != settings.get(connection, settings.ROUTE_DIGEST):
        version += 1
        settings.put(connection, settings.ROUTE_VERSION, str(version))
        settings.put(connection, settings.ROUTE_DIGEST, digest)
    table = msgspec.structs.replace(table, version=version)
    return table, msgspec.json.encode(table)


def _closing(route: EndpointRoute, closed: Closed | None) -> EndpointRoute:
    """Return the route of an endpoint whose requests are not waited for while it is closed."""
    if closed is None:
        return route
    return msgspec.structs.replace(route, holds=False, closed=closed.words, opens_at_s=closed.opens_at_s)


def tuned(connection: Connection, before: Tuning) -> Kept:
    """Return the settings that are kept. before: those that were in force until now (types/tuning.read)."""
    return read(settings.get(connection, settings.TUNING), before)


def _budgets(connection: Connection) -> tuple[BudgetRoute, ...]:
    return tuple(route(row.id, row.resource) for row in budgets.everything(connection))


def _prices(state: State, book: PriceBook) -> dict[EndpointKey, tuple[DatedCard, ...]]:
    """Return what requests cost of each endpoint that has a price: its own, or the default of what it runs."""
    newest = {(each.project, each.endpoint): each for each in sorted(state.revisions, key=lambda each: each.number)}
    found: dict[EndpointKey, tuple[DatedCard, ...]] = {}
    for endpoint in state.endpoints:
        spec, revision = endpoint.resource.spec, newest.get(endpoint.key)
        if spec.price is not None:
            found[endpoint.key] = (DatedCard(spec.price.card()),)
        elif revision is not None and not spec.backends:  # what serves for it has its own price
            config = revision.config
            models = (str(config.model), str(config.options.get("model", "")))
            found[endpoint.key] = cards_of(book.prices, models=models, engine=config.engine, task=config.task)
    return found


class _Known(msgspec.Struct, frozen=True):
    """What projects say of callers. unsampled: (project, tenant)."""

    rights: roles.Rights
    unsampled: frozenset[tuple[str, str]]


def _known(connection: Connection) -> _Known:
    every = projects.everything(connection)
    unsampled = frozenset((each.name, tenant) for each in every for tenant in each.resource.spec.unsampled_tenants)
    members = {str(each.name): each.resource.spec.members for each in every}
    return _Known(roles.Rights(members, roles.known(connection)), unsampled)


def _sessions(connection: Connection, now_s: float, known: _Known) -> list[KeyRoute]:
    """Return the sessions of command lines, which call endpoints as keys do; a browser's never comes here."""
    by_name = {each.metadata.name: each for each in providers.everything(connection)}
    unsampled = {f"{project}/{tenant}" for project, tenant in known.unsampled}
    found = []
    for row in sessions.everything(connection) if by_name else ():
        provider = by_name.get(row.provider)
        if row.kind != "cli" or row.ends_s() <= now_s or provider is None:
            continue
        grants = providing.standing(known.rights, provider, row.subject, row.email, row.said())
        where = [each.project for each in grants if "endpoints:call" in each.permissions]
        sees = any(allows(each, "metrics:read", EVERYWHERE) for each in grants)
        route = rules.caller(
            row.subject, where, sees=sees, limits=provider.spec.limits, unsampled=unsampled, ends_s=row.expires_at_s
        )
        found.append(msgspec.structs.replace(route, sha256=row.sha256))
    return found


def _keys(connection: Connection, now_s: float, known: _Known) -> list[KeyRoute]:
    """Return the keys that hold, one that was rotated twice while its old text works."""
    rights, unsampled = known.rights, known.unsampled
    found = []
    for key in keys.everything(connection):
        if 0 < key.expires_at_s <= now_s:
            continue
        route = _key(key, rights.of(key), is_sampled=(key.project, key.limits.tenant or key.id) not in unsampled)
        found.append(route)
        if now_s < key.old_until_s:
            ends_at_s = min(filter(None, (key.expires_at_s, key.old_until_s)))
            found.append(msgspec.structs.replace(route, sha256=key.old_sha256, expires_at_s=ends_at_s))
    return found


def _key(key: KeyRow, grant: Grant, *, is_sampled: bool) -> KeyRoute:
    """Return a key as gateways know it. One of a tenant that is never sampled allows no samples."""
    return KeyRoute(
        key.sha256,
        key.id,
        key.project,
        is_admin=grant.is_everywhere,
        expires_at_s=key.expires_at_s,
        limits=key.limits if is_sampled else msgspec.structs.replace(key.limits, samples=False),
        calls="endpoints:call" in grant.permissions,
        endpoints=grant.endpoints,
        sees=allows(grant, "metrics:read", EVERYWHERE),
    )


class RoutePublisher:
    """The newest table, and those who wait for a newer one."""

    def __init__(self) -> None:
        self.table = RouteTable(version=0)
        self.encoded = b""
        self.followers = Followers()
        self._published = Bell()

    @property
    def is_ready(self) -> bool:
        """Whether there is a table yet."""
        return self.table.version > 0

    def publish(self, table: RouteTable, encoded: bytes) -> None:
        """Hand out `table` from now on. An older one is ignored."""
        if table.version <= self.table.version:
            return
        self.table, self.encoded = table, encoded
        self._published.ring()

    async def wait(self, after: int, wait_s: float, gateway: str = "") -> bytes | None:
        """Return the table's JSON as soon as it is newer than `after`; None when `wait_s` passed, or too many wait.

        gateway: the name of the one that asks, which follows `after`.
        """
        if not gateway:
            return await self._newer(after, wait_s)
        asked = self.followers.asks(gateway, after)
        try:
            return await self._newer(after, wait_s)
        finally:
            self.followers.takes(asked)

    async def _newer(self, after: int, wait_s: float) -> bytes | None:
        end_s = asyncio.get_running_loop().time() + wait_s
        while self.table.version <= after or not self.is_ready:
            if not await self._published.wait(end_s - asyncio.get_running_loop().time()):
                return None
        return self.encoded

    def release(self) -> None:
        """Let everybody who waits go on: this process ends."""
        self._published.shatter()
        self.followers.release()
