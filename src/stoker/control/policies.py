"""Changes under admission policies: asked before a change is stored, told and written down after it.

A change is tried first, inside its own transaction. If some policy looks at what it did, the transaction is undone, the
policies are asked outside of it (control/judge.py), and the change is made again, only if what they were asked about is
still so: nothing waits for an expression while it holds the database, and nothing slips in between.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from stoker.blob.port import BlobStore
from stoker.control import facts, judge
from stoker.control.changes import Change
from stoker.control.facts import Known
from stoker.control.observe import Observer
from stoker.core import policy
from stoker.store import journal
from stoker.store.engine import Connection, Database
from stoker.store.keys import KeyRow
from stoker.telemetry.metrics import Registry
from stoker.types.access import Grant
from stoker.types.errors import Busy, Conflict, PolicyDenied
from stoker.types.models import ModelVersion
from stoker.types.policies import PLATFORM, Actor, Verdict
from stoker.types.resources import Endpoint, Policy

JUDGES_AT_ONCE: Final = 2  # each is a process
JUDGES_WAITING_MAX: Final = 32
TRIES_MAX: Final = 5  # of one change whose surroundings change while policies are asked

T = TypeVar("T")


class Denied(PolicyDenied):
    """A change that policies refuse; `denials` has each with what was changed."""

    def __init__(self, denials: Sequence[tuple[Change, Verdict]]) -> None:
        self.denials = tuple(denials)
        self.lines: list[int] = []  # of the manifest, where there is one
        super().__init__(
            "\n".join(f"{change.named}: {policy.said(verdict)}" for change, verdict in denials),
            field=denials[0][1].field or None,
        )


class Made(msgspec.Struct, Generic[T], frozen=True):
    """A change that was made: what it returned, and what policies say of each thing it changed."""

    value: T
    told: tuple[tuple[Change, tuple[Verdict, ...]], ...] = ()

    def warnings(self, kind: str, project: str, name: str) -> tuple[str, ...]:
        """Return what whoever changed that resource is to be told."""
        return tuple(
            policy.said(verdict)
            for change, found in self.told
            if (change.kind, change.project, change.name) == (kind, project, name)
            for verdict in policy.warnings(found)
        )


class _Unasked(Exception):
    """Policies look at what a change did, and were asked about something else or nothing yet."""

    def __init__(self, known: tuple[Known, ...]) -> None:
        self.known = known


class Admission:
    """The one door through which changes are stored that policies may look at."""

    def __init__(self, database: Database, blobs: BlobStore, observer: Observer, metrics: Registry) -> None:
        self._database = database
        self._blobs = blobs
        self._observer = observer
        self._metrics = metrics
        self._slots = asyncio.Semaphore(JUDGES_AT_ONCE)
        self._asked = 0

    async def make(
        self, change: Callable[[Connection], tuple[T, list[Change]]], actor: Actor, *, is_trial: bool = False
    ) -> Made[T]:
        """Store a change, unless a policy denies it; a trial stores nothing and says what would be.

        Args:
            change: makes it and returns its value and what it changed; it is called again after each look at policies.
        Raises PolicyDenied; Busy when too many wait; Conflict when it cannot be asked about for other changes; and
        whatever `change` raises.
        """
        known: tuple[Known, ...] = ()
        told: tuple[tuple[Change, tuple[Verdict, ...]], ...] = ()
        for _ in range(TRIES_MAX):

            def tried(connection: Connection, known: tuple[Known, ...] = known, told: object = told) -> T:
                value, changes = change(connection)
                found = facts.gather(connection, changes)
                if found != known:
                    raise _Unasked(found)
                if not is_trial:
                    self._write_down(connection, told)  # type: ignore[arg-type]
                return value

            try:
                if is_trial:
                    return Made(await asyncio.to_thread(self._database.trying, tried), told)
                made = Made(await self._database.writing(tried), told)
            except _Unasked as unasked:
                known = unasked.known
                told = await self._judged(known, actor, is_trial=is_trial)
            else:
                self._count(told)
                return made
        raise Conflict("what policies look at keeps changing; try again")

    async def release(
        self, endpoint: Endpoint, version: ModelVersion | None, dossier: dict[str, Any]
    ) -> tuple[Verdict, ...]:
        """Return what policies say of the release of `version` on an endpoint, given what its gates found.

        Nothing is written down: the verdicts belong into the dossier. A rollback is no release: never ask for one.
        """
        change = Change("release", endpoint, endpoint, version, dossier)
        known = await self._database.reading(lambda connection: facts.gather(connection, [change]))
        return tuple(verdict for _, found in await self._ask(known, PLATFORM) for verdict in found)

    async def look(self, policies: Sequence[Policy]) -> list[tuple[Change, tuple[Verdict, ...]]]:
        """Return what `policies` would say of everything that is there now, if it were asked for again."""
        known = await self._database.reading(lambda connection: facts.everything(connection, policies))
        return list(await self._ask(known, PLATFORM))

    async def check(self, policies: Sequence[Policy]) -> list[list[tuple[str, str]]]:
        """Return what is wrong with the expressions of each policy, by field."""
        return await self._in_turn(lambda: judge.flaws(policies))

    async def _judged(
        self, known: tuple[Known, ...], actor: Actor, *, is_trial: bool
    ) -> tuple[tuple[Change, tuple[Verdict, ...]], ...]:
        """Return what policies say. Raises Denied, after the journal has it."""
        told = await self._ask(known, actor)
        denials = [(change, verdict) for change, found in told for verdict in policy.denials(found)]
        if denials:
            if not is_trial:
                await self._database.writing(lambda connection: self._write_down(connection, told, is_refused=True))
                self._count(told)
            raise Denied(denials)
        return told

    async def _ask(self, known: Sequence[Known], actor: Actor) -> tuple[tuple[Change, tuple[Verdict, ...]], ...]:
        if not known:
            return ()
        pool = facts.pool(self._observer.statuses)
        now_s = time.time()

        def ask() -> list[tuple[Verdict, ...]]:
            documents = [facts.document(one, actor, pool, self._blobs, now_s) for one in known]
            return judge.verdicts(known[0].policies, documents)

        found = await self._in_turn(ask)
        return tuple((one.change, verdicts) for one, verdicts in zip(known, found, strict=True))

    async def _in_turn(self, ask: Callable[[], T]) -> T:
        if self._asked >= JUDGES_WAITING_MAX:
            raise Busy(f"{self._asked} changes wait for policies", retry_after_s=2.0)
        self._asked += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(ask)
        finally:
            self._asked -= 1

    def _write_down(
        self,
        connection: Connection,
        told: Iterable[tuple[Change, tuple[Verdict, ...]]],
        *,
        is_refused: bool = False,
    ) -> None:
        now_s = time.time()
        for change, found in told:
            endpoint = change.name if change.kind == "Endpoint" else ""
            for verdict in policy.remarks(found):
                if is_refused and verdict.enforcement != "deny":
                    continue  # the change is not made: nobody was warned
                action = {"deny": "PolicyDeny", "warn": "PolicyWarn", "audit": "PolicyAudit"}[verdict.enforcement]
                because = f"{change.operation} of {change.named}: {verdict.message}"
                subject = f"{verdict.project}/{verdict.policy}/{verdict.rule}"
                journal.add(connection, journal.Entry(now_s, action, because, change.project, endpoint, subject[:180]))

    def _count(self, told: Iterable[tuple[Change, tuple[Verdict, ...]]]) -> None:
        for _, found in told:
            for verdict in policy.remarks(found):
                named = f"{verdict.project}/{verdict.policy}"
                self._metrics.counter(
                    "stoker_policy_verdicts_total", policy=named, rule=verdict.rule, enforcement=verdict.enforcement
                ).add()


def actor(key: KeyRow | None, grant: Grant) -> Actor:
    """Return who a key is; None: the platform's own user, over the socket."""
    if key is None:
        return PLATFORM
    return Actor(key.id, key.project, grant.is_admin)
