"""Looks each minute at whether the platform keeps its duties about every endpoint, and says so in a condition.

What is asked of runbooks is one GET each, with a bound on how many and how often: their addresses are somebody else's.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from stoker.control import signatures
from stoker.control.observe import Observer
from stoker.core import alerts, boundary, conditions, slo
from stoker.core.boundary import Facts
from stoker.core.refs import ModelRef
from stoker.core.scale.record import Record
from stoker.core.snapshot import EndpointKey, EndpointState, Revision
from stoker.observe.notify import reach
from stoker.observe.objectives.judge import Standing
from stoker.store import endpoints, leases, models, notifiers, releases, revisions, signing
from stoker.store.engine import Connection, Database
from stoker.store.leases import Lease, LeaseLost
from stoker.types.boundary import Boundary
from stoker.types.errors import NotFound, StokerError
from stoker.types.ids import ModelName
from stoker.types.resources import Notifier
from stoker.types.signing import SignaturePolicy
from stoker.types.statuses import Condition

LOOK_S: Final = 60.0
RUNBOOKS_S: Final = 600.0
RUNBOOKS_MAX: Final = 500  # addresses that are asked for; those over it stay unknown
ASKED_MAX: Final = 40  # at one look: AT_ONCE at a time, 25 s where none of them answers
AT_ONCE: Final = 8

log = logging.getLogger(__name__)


class _Stored(msgspec.Struct, frozen=True):
    """What the database says of one endpoint."""

    state: EndpointState
    version: str
    signatures: SignaturePolicy
    signer: str
    has_files: bool
    earlier: int
    golden_rows: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is seen of all endpoints at once. measured: objectives that are, by endpoint. gateways: as in Facts."""

    measured: Mapping[tuple[str, str], set[str]]
    gateways: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Sources:
    """Who knows what the database does not say.

    written_s: the end of the newest minute in the history. backed_up_s: when the last backup was made. scaled: the
    newest decision about an endpoint. gateways: how many there should be.
    """

    observer: Observer
    standings: Callable[[], Sequence[Standing]]
    scaled: Callable[[EndpointKey], Record | None]
    written_s: Callable[[], float | None]
    backed_up_s: Callable[[], float | None]
    gateways: int


class BoundaryWatch:
    """One in a control process."""

    def __init__(
        self,
        database: Database,
        sources: Sources,
        lease: Callable[[], Lease | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._sources = sources
        self._lease = lease
        self._clock = clock
        self._runbooks: dict[str, str] = {}
        self._asked_s: dict[str, float] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except LeaseLost:
                pass  # another control looks
            except StokerError as problem:
                log.warning("the duties about endpoints could not be looked at", extra={"reason": problem.message})

    async def look(self) -> None:
        """Look once, and write the conditions that changed. Raises LeaseLost or Unavailable."""
        lease = self._lease()
        if lease is None:
            return
        stored, receivers = await self._database.reading(_read)
        await self._ask(stored)
        now_s = self._clock()
        seen = self._seen()
        news = {}
        for one in stored:
            said = boundary.condition(boundary.duties(one.state.resource, self._facts(one, receivers, seen)), now_s)
            if boundary.is_news(conditions.find(one.state.status.conditions, conditions.BOUNDARY), said):
                news[one.state.key] = said
        if news:

            def write(connection: Connection) -> None:
                leases.guard(connection, lease)
                for key, condition in news.items():
                    _put(connection, key, condition)

            await self._database.writing(write)

    async def view(self, project: str, name: str) -> Boundary:
        """Return the duties about an endpoint as they stand now. Raises NotFound."""

        def read(connection: Connection) -> tuple[list[_Stored], list[Notifier]]:
            endpoints.get(connection, project, name)
            return _read(connection, project, name)

        stored, receivers = await self._database.reading(read)
        if not stored:
            raise NotFound(f"endpoint {name!r} in project {project!r} is being deleted")
        facts = self._facts(stored[0], receivers, self._seen())
        return Boundary(project, name, facts.at_s, boundary.duties(stored[0].state.resource, facts))

    def _seen(self) -> _Seen:
        """Return what is seen of all endpoints at once."""
        measured: dict[tuple[str, str], set[str]] = {}
        for each in self._sources.standings():
            measured.setdefault((each.project, each.endpoint), set()).add(slo.label(each.objective))
        answering = sum(
            process.kind == "gateway" and process.phase == "ready"
            for status in self._sources.observer.statuses
            for process in status.processes
        )
        return _Seen(measured, (answering, self._sources.gateways))

    def _facts(self, stored: _Stored, receivers: Sequence[Notifier], seen: _Seen) -> Facts:
        state, sources = stored.state, self._sources
        promised = {slo.label(each) for each in state.resource.spec.slos}
        return Facts(
            at_s=self._clock(),
            status=state.status,
            version=stored.version,
            signatures=stored.signatures,
            signer=stored.signer,
            has_files=stored.has_files,
            scaled=sources.scaled(state.key),
            measured=len(promised & seen.measured.get(state.key, set())),
            told=tuple(_hearing(receivers, state.key)),
            gateways=seen.gateways,
            history_s=sources.written_s(),
            backup_s=sources.backed_up_s(),
            earlier=stored.earlier,
            runbooks=self._runbooks,
            golden_rows=stored.golden_rows,
        )

    async def _ask(self, stored: Iterable[_Stored]) -> None:
        """Ask for runbooks: those that nobody asked for yet, then those that were asked for longest ago.

        A few at each look, so that servers that hang hold up neither the look nor, for long, other addresses.
        """
        named = dict.fromkeys(address for one in stored for address in boundary.runbooks(one.state.resource))
        addresses = list(named)[:RUNBOOKS_MAX]
        now_s = self._clock()
        asked_s = self._asked_s  # a moment in the future is of a clock that was set back, and counts for nothing
        self._asked_s = {each: asked_s[each] for each in addresses if each in asked_s and asked_s[each] <= now_s}
        due = [each for each in addresses if now_s - self._asked_s.get(each, -math.inf) >= RUNBOOKS_S]
        due = sorted(due, key=lambda each: self._asked_s.get(each, -math.inf))[:ASKED_MAX]
        slots = asyncio.Semaphore(AT_ONCE)

        async def ask(address: str) -> str:
            async with slots:
                return await reach.problem(address)

        answers = await asyncio.gather(*(ask(address) for address in due))
        self._asked_s |= dict.fromkeys(due, now_s)
        known = self._runbooks | dict(zip(due, answers, strict=True))
        self._runbooks = {address: known[address] for address in addresses if address in known}


def _read(
    connection: Connection, project: str | None = None, name: str | None = None
) -> tuple[list[_Stored], list[Notifier]]:
    """Return what is stored of the endpoints, and the receivers of alerts."""
    history: dict[EndpointKey, dict[str, Revision]] = {}
    for each in revisions.everything(connection, project, name):
        history.setdefault((each.project, each.endpoint), {})[each.revision] = each
    states = [each for each in endpoints.everything(connection, project) if name in (None, each.name)]
    found = [_stored(connection, each, history.get(each.key, {})) for each in states if not each.is_deleting]
    return found, notifiers.everything(connection)


def _stored(connection: Connection, state: EndpointState, history: Mapping[str, Revision]) -> _Stored:
    golden = releases.golden(connection, state.project, state.name)
    trust = signing.trust(connection, state.project)
    serving = history.get(state.serving)
    version = signer = ""
    has_files = False
    if serving is not None and serving.config.model:
        ref = ModelRef(name=ModelName(serving.config.model), number=serving.config.number)
        version = serving.config.ref
        has_files = bool(models.get(connection, ref).manifest.files)
        if signing.bundles(connection, ref.name, serving.config.number):
            views = signatures.views(connection, ref, state.project)
            signer = next((each.signer for each in views if each.state == "verified"), "")
    return _Stored(
        state=state,
        version=version,
        signatures=trust.policy,
        signer=signer,
        has_files=has_files,
        earlier=sum(each.number < serving.number for each in history.values()) if serving is not None else 0,
        golden_rows=golden.rows if golden is not None else 0,
    )


def _hearing(receivers: Iterable[Notifier], key: EndpointKey) -> Iterable[str]:
    """Yield the receivers that hear every page about an endpoint, whatever it is."""
    labels = {"project": str(key[0]), "endpoint": str(key[1]), "severity": "page"}
    for each in receivers:
        if (each.spec.all_projects or each.metadata.project == key[0]) and alerts.matches(labels, each.spec.match):
            yield each.metadata.name


def _put(connection: Connection, key: EndpointKey, said: Condition) -> None:
    now = endpoints.find(connection, *key)
    if now is not None and not now.is_deleting:
        status = msgspec.structs.replace(now.status, conditions=conditions.put(now.status.conditions, said))
        endpoints.set_status(connection, *key, status)
