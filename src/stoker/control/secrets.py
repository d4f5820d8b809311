"""What secrets are named where, who may name them, and how they stand in the processes that resolve them.

Gateways resolve what endpoints name, control what hooks and receivers of alerts do. Each is asked every few seconds;
what is wrong becomes a condition, a number and so an alarm, and each new value that was read is a row of the audit.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Final, Literal

import msgspec

from stoker.control.observe import State
from stoker.core import conditions
from stoker.core import secrets as core
from stoker.core.secrets import Rules
from stoker.core.snapshot import EndpointKey
from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import connect
from stoker.secrets import keeper
from stoker.secrets.keeper import Secrets
from stoker.store import endpoints, leases, notifiers, projects, recording, secrets
from stoker.store.engine import Connection, Database
from stoker.store.leases import Lease, LeaseLost
from stoker.store.recording import Actor
from stoker.telemetry.metrics import Registry
from stoker.types.audit import PLATFORM
from stoker.types.errors import ReplicaLost, SecretUnavailable, StokerError
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.resources import Endpoint, Notifier, Resource, Trigger
from stoker.types.rollouts import Hook
from stoker.types.routes import RevisionRoute, RouteTable
from stoker.types.secrets import SecretState, SecretUse, SecretView

LOOK_S: Final = 5.0
ASK_TIMEOUT_S: Final = 2.0
CHECK_TIMEOUT_S: Final = 20.0  # a gateway reads them all again: three requests of Vault's five seconds
SHOWN_MAX: Final = 900  # gauges

log = logging.getLogger(__name__)


class SecretWatch:
    """One in a control process. own: what resolves secrets in it. addresses: of gateways, by name."""

    def __init__(
        self,
        database: Database,
        own: Secrets,
        rules: Rules,
        addresses: Mapping[str, str],
        lease: Callable[[], Lease | None],
        state: Callable[[], State | None],
        metrics: Registry,
    ) -> None:
        self.rules = rules
        self._database = database
        self._own = own
        self._addresses = dict(addresses)
        self._lease = lease
        self._state = state
        self._metrics = metrics
        self._states: tuple[SecretState, ...] = ()
        self._shown: set[tuple[str, str]] = set()  # series

    async def run(self) -> None:
        """Look every LOOK_S; returns only by cancellation."""
        try:
            while True:
                try:
                    await self.look()
                except LeaseLost:
                    pass  # another control looks
                except Exception:  # a full disk, say: it is looked at again
                    log.exception("how secrets stand could not be looked at")
                self._own.look()
                await asyncio.sleep(LOOK_S)
        finally:
            await self._own.close()

    async def value(self, project: str, reference: str) -> str:
        """Return what a resource of `project` names. Raises SecretUnavailable, InvalidInput."""
        listed = await self._database.reading(lambda connection: _listed(connection, project))
        if refusal := self.rules.refusal(reference, project, listed):
            raise SecretUnavailable(refusal)
        return await self._own.get(reference)

    async def platforms(self, reference: str) -> str:
        """Return what a resource of the platform itself names, which may name anything. Raises as `value` does."""
        return await self._own.get(reference)

    async def view(self, *, insists: bool = False) -> list[SecretView]:
        """Return every place that names a secret, and how it stands; all are read again before if somebody `insists`.

        May take CHECK_TIMEOUT_S then.
        """
        uses = await self._database.reading(partial(self._uses, self._state()))
        if insists:
            mine = {each.reference for each in uses if core.is_controls(each) and not each.refusal}
            await asyncio.gather(*(self._checked(name) for name in mine))
        states, answered = await self._ask(insists=insists)
        views = [_view(each, states) for each in uses]
        if insists:
            with suppress(LeaseLost):  # another control looks
                await self._tell(views, states, answered)
        return views

    async def look(self) -> None:
        """Look once. Raises LeaseLost, Unavailable."""
        uses = await self._database.reading(partial(self._uses, self._state()))
        self._own.follow(each.reference for each in uses if core.is_controls(each) and not each.refusal)
        states, answered = await self._ask(insists=False)
        await self._tell([_view(each, states) for each in uses], states, answered)

    async def _tell(self, views: list[SecretView], states: list[SecretState], answered: list[str]) -> None:
        """Say how they stand: in numbers, in the audit, in conditions. Raises LeaseLost, Unavailable."""
        self._count(views)
        lease = self._lease()
        if lease is not None:
            await self._note(lease, states, answered)
            await self._condition(lease, views)

    async def _checked(self, reference: str) -> None:
        try:
            await self._own.get(reference)
            await self._own.reread(reference, insists=True)
        except StokerError:
            return  # its state says why

    async def _note(self, lease: Lease, states: list[SecretState], answered: list[str]) -> None:
        if not await self._database.reading(lambda connection: secrets.is_news(connection, states)):
            return

        def write(connection: Connection) -> None:
            leases.guard(connection, lease)
            secrets.note(connection, states, answered)

        with recording.acting(Actor(PLATFORM, "read secrets")):
            await self._database.writing(write)

    async def _condition(self, lease: Lease, views: Iterable[SecretView]) -> None:
        by_endpoint: dict[EndpointKey, list[SecretView]] = {}
        for each in views:
            if each.use.kind == "Endpoint":
                key = (ProjectName(each.use.project), EndpointName(each.use.name))
                by_endpoint.setdefault(key, []).append(each)
        state = self._state()
        before = {each.key: each.status.conditions for each in state.endpoints} if state is not None else {}
        now_s = time.time()
        news = {
            key: said
            for key, found in by_endpoint.items()
            if (said := core.condition(found, now_s)) is not None
            and core.is_news(conditions.find(before.get(key, ()), conditions.SECRETS), said)
        }
        gone = [
            key
            for key, found in before.items()
            if key not in by_endpoint and conditions.find(found, conditions.SECRETS)
        ]
        if not news and not gone:
            return

        def write(connection: Connection) -> None:
            leases.guard(connection, lease)
            for key in (*news, *gone):
                now = endpoints.find(connection, *key)
                if now is None or now.is_deleting:
                    continue
                kept = tuple(each for each in now.status.conditions if each.type != conditions.SECRETS)
                said = conditions.put(now.status.conditions, news[key]) if key in news else kept
                endpoints.set_status(connection, *key, msgspec.structs.replace(now.status, conditions=said))

        with recording.acting(None):  # whoever had them checked does not change an endpoint
            await self._database.writing(write)

    def _count(self, views: Iterable[SecretView]) -> None:
        found: dict[tuple[str, str], tuple[float, float]] = {}
        now_s = time.time()
        for each in views:
            series = (each.use.project, each.use.reference)
            is_bad = each.health in ("missing", "stale", "refused")
            read_s = min((state.read_at_s for state in each.states if state.read_at_s), default=now_s)
            was_bad, age_s = found.get(series, (0.0, 0.0))
            found[series] = (max(was_bad, float(is_bad)), max(age_s, now_s - read_s))
        found = dict(sorted(found.items())[:SHOWN_MAX])
        for project, reference in self._shown - found.keys():
            for name in ("stoker_secret_failing", "stoker_secret_age_seconds"):
                self._metrics.drop(name, project=project, secret=reference)
        for (project, reference), (bad, age_s) in found.items():
            self._metrics.gauge("stoker_secret_failing", project=project, secret=reference).set(bad)
            self._metrics.gauge("stoker_secret_age_seconds", project=project, secret=reference).set(age_s)
        self._shown = set(found)

    async def _ask(self, *, insists: bool) -> tuple[list[SecretState], list[str]]:
        """Return the states of all processes, and which of them told."""
        names = list(self._addresses)
        answers = await asyncio.gather(*(self._ask_one(name, insists=insists) for name in names))
        told = [(name, answer) for name, answer in zip(names, answers, strict=True) if answer is not None]
        states = [state for _, answer in told for state in answer] + self._own.states()
        return states, [name for name, _ in told] + [self._own.process]

    async def _ask_one(self, name: str, *, insists: bool) -> list[SecretState] | None:
        timeout_s = CHECK_TIMEOUT_S if insists else ASK_TIMEOUT_S
        try:
            async with asyncio.timeout(timeout_s):
                link = await connect(self._addresses[name], timeout_s=ASK_TIMEOUT_S)
                try:
                    body = b"again" if insists else b""
                    _, answer = await link.call(RequestHead(method="secrets"), body, kind=Kind.CALL).answer()
                finally:
                    link.close()
            return keeper.decode(answer)
        except (ReplicaLost, TimeoutError):
            return None  # it starts, or is gone
        except (StokerError, msgspec.DecodeError) as odd:
            log.warning("a gateway did not say how its secrets stand", extra={"worker": name, "reason": str(odd)})
            return None

    def _uses(self, state: State | None, connection: Connection) -> list[SecretUse]:
        listed = {each.name: each.resource.spec.secrets for each in projects.everything(connection)}
        found: list[tuple[Literal["Endpoint", "Notifier"], str, str, str, str]] = []
        newest = {(each.project, each.endpoint): each.config for each in state.revisions} if state is not None else {}
        for endpoint in state.endpoints if state is not None else ():
            if not endpoint.is_deleting:
                runs = newest.get(endpoint.key) or endpoint.resource.spec
                found += [
                    ("Endpoint", str(endpoint.project), str(endpoint.name), f"spec.{place}", reference)
                    for place, reference in core.named(runs.options, runs.env).items()
                ]
                where = (str(endpoint.project), str(endpoint.name))
                found += [("Endpoint", *where, field, name) for field, name in named_by_hooks(endpoint.resource)]
        for each in notifiers.everything(connection):
            where = (each.metadata.project, each.metadata.name)
            found += [("Notifier", *where, field, reference) for field, reference in named_by(each)]
        return [
            SecretUse(
                project, kind, name, field, reference, self.rules.refusal(reference, project, listed.get(project, ()))
            )
            for kind, project, name, field, reference in found
        ]


def named_by(notifier: Notifier) -> Iterable[tuple[str, str]]:
    """Yield fields of a receiver and the references in them."""
    spec = notifier.spec
    told = (("spec.url_from", spec.url_from), ("spec.sign_with", spec.sign_with))
    mail = (("spec.email.password", spec.email.password),) if spec.email is not None else ()
    yield from ((field, reference) for field, reference in (*told, *mail) if reference)


def named_by_hooks(endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    """Yield fields of an endpoint's hooks and the references in them."""
    drift = endpoint.spec.drift
    found: dict[str, Hook | Trigger] = {
        f"spec.rollout.hooks[{at}].": hook for at, hook in enumerate(endpoint.spec.rollout.hooks)
    }
    if drift is not None and drift.trigger is not None:
        found["spec.drift.trigger."] = drift.trigger
    for where, each in found.items():
        if each.webhook_from:
            yield f"{where}webhook_from", each.webhook_from
        if each.sign_with:
            yield f"{where}sign_with", each.sign_with


def refused_names(
    connection: Connection, resources: Iterable[Resource], rules: Rules | None
) -> Iterator[tuple[Endpoint | Notifier, str, str]]:
    """Yield resources with a field that names what their project may not name, and why."""
    for each in resources if rules is not None else ():
        if isinstance(each, Endpoint):
            spec = each.spec
            found = [(f"spec.{place}", name) for place, name in core.named(spec.options, spec.env).items()]
            found += named_by_hooks(each)
        elif isinstance(each, Notifier):
            found = list(named_by(each))
        else:
            continue
        listed = _listed(connection, each.metadata.project) if found else ()
        for field, reference in found:
            assert rules is not None
            if why := rules.refusal(reference, each.metadata.project, listed):
                yield each, field, why


def with_secrets(connection: Connection, table: RouteTable, state: State, rules: Rules) -> RouteTable:
    """Return a table that says which secrets replicas are handed; what a project may not name is left out."""
    needed = {}
    for each in state.revisions:
        if found := core.named(each.config.options, each.config.env):
            needed[str(each.revision)] = (str(each.project), found)
    if not needed:
        return table
    listed = {each.name: each.resource.spec.secrets for each in projects.everything(connection)}

    def revised(endpoint_revision: str) -> tuple[tuple[str, ...], str]:
        project, found = needed[endpoint_revision]
        may = {
            place: reference
            for place, reference in found.items()
            if not rules.refusal(reference, project, listed.get(project, ()))
        }
        return tuple(sorted(set(may.values()))), may.get(core.OPTION, "")

    def handed(one: RevisionRoute) -> RevisionRoute:
        if str(one.revision) not in needed:
            return one
        names, key = revised(str(one.revision))
        return msgspec.structs.replace(one, secrets=names, key=key)

    routes = (
        msgspec.structs.replace(each, revisions=tuple(map(handed, each.revisions)))
        if any(str(one.revision) in needed for one in each.revisions)
        else each
        for each in table.endpoints
    )
    return msgspec.structs.replace(table, endpoints=tuple(routes))


def _view(use: SecretUse, states: Iterable[SecretState]) -> SecretView:
    is_gateways = not core.is_controls(use)
    mine = tuple(
        each for each in states if each.reference == use.reference and each.process.startswith("gateway") == is_gateways
    )
    health, message = core.health(use, mine)
    return SecretView(use, health, message, () if use.refusal else mine)


def _listed(connection: Connection, project: str) -> tuple[str, ...]:
    found = projects.find(connection, project)
    return found.spec.secrets if found is not None else ()
