"""Makes decisions true: first all rows of a plan in one fenced transaction, then the agents, then the files.

A crash anywhere between leaves rows that the next turn completes: starting, stopping and forgetting again change
nothing that is done already.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, assert_never

import msgspec

from stoker.blob.port import BlobStore
from stoker.control import replicas
from stoker.control.nodes import FarSite
from stoker.control.observe import Observer, State
from stoker.control.ports import Folders
from stoker.core import actions
from stoker.core.actions import Action, ChangeRollout, StartReplica
from stoker.core.reconcile import Plan
from stoker.core.snapshot import Assignment, Revision
from stoker.placement.port import Driver
from stoker.protocol.signing import demand
from stoker.registry.layout import folder_of, lay_out
from stoker.store import endpoints, journal, releases, revisions, rollouts
from stoker.store.engine import Connection
from stoker.store.leases import Lease
from stoker.types.errors import StokerError
from stoker.types.models import ModelVersion
from stoker.types.process import ProcessStatus
from stoker.types.replica import ReplicaSpec
from stoker.types.shapes import Shape
from stoker.types.signing import SignedVersion

EFFECTS_AT_ONCE: Final = 4
RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 60.0


class StartFacts(msgspec.Struct, frozen=True):
    """What is looked up at each start of a replica.

    signed: what its version is held to before it is opened. shapes: of engine calls, that it is warmed up with.
    """

    signed: SignedVersion
    shapes: tuple[Shape, ...] = ()


LookUp = Callable[[Revision], Awaitable[StartFacts]]

log = logging.getLogger(__name__)


class Failure(msgspec.Struct, frozen=True):
    """A start that got no further than control or its agent."""

    message: str
    count: int
    next_try_s: float


def write(connection: Connection, plan: Plan, now_s: float) -> None:
    """Store everything that `plan` decides, with why. The caller guards the transaction."""
    for action in plan.actions:
        _write_action(connection, action, now_s)
        entry = _entry(action, now_s)
        if entry is not None:
            journal.add(connection, entry)
    for (project, name), status in plan.statuses:
        endpoints.set_status(connection, project, name, status)


def _write_action(connection: Connection, action: Action, now_s: float) -> None:
    match action:
        case actions.CreateRevision():
            _create(connection, action, now_s)
        case actions.StartReplica():
            if action.is_new:
                revisions.assign(connection, _assignment(action, now_s))
        case actions.SetServing():
            endpoints.set_serving(connection, action.project, action.endpoint, action.revision)
            releases.mark_served(connection, action.revision)
        case actions.DrainReplica():
            revisions.set_phase(connection, action.replica, "draining", now_s)
        case actions.StopReplica():
            revisions.set_phase(connection, action.replica, "stopping", now_s)
        case actions.ForgetReplica():
            revisions.unassign(connection, action.replica)
        case actions.ForgetRevision():
            revisions.remove(connection, action.revision)
        case actions.RemoveEndpoint():
            endpoints.remove(connection, action.project, action.endpoint)
        case actions.BeginRollout() | actions.ChangeRollout():
            _keep(connection, action)
        case actions.StopStray() | actions.BeginMove() | actions.EndMove():
            pass  # the status that the plan stores has the moves
        case _:
            assert_never(action)


def _keep(connection: Connection, action: actions.BeginRollout | actions.ChangeRollout) -> None:
    rollouts.keep(connection, action.state, action.entries)
    if action.state.phase in ("returning", "rolled-back"):
        releases.mark_taken_back(connection, action.state.canary)


def _create(connection: Connection, action: actions.CreateRevision, now_s: float) -> None:
    revision = Revision(
        action.revision, action.project, action.endpoint, action.number, action.digest, action.config, now_s
    )
    revisions.add(connection, revision)
    endpoints.set_last_number(connection, action.project, action.endpoint, action.number)


def _assignment(action: StartReplica, now_s: float) -> Assignment:
    return Assignment(
        replica=action.replica,
        revision=action.revision,
        project=action.project,
        endpoint=action.endpoint,
        node=action.node,
        phase="wanted",
        since_s=now_s,
        created_at_s=now_s,
        gpus=action.gpus,
    )


def _entry(action: Action, now_s: float) -> journal.Entry | None:
    if isinstance(action, StartReplica) and not action.is_new:
        return None  # the same start again, until its agent shows it
    if isinstance(action, ChangeRollout) and not action.is_news:
        return None
    named = (getattr(action, name, "") for name in ("replica", "revision", "move"))
    subject = next((name for name in named if name), "")
    return journal.Entry(
        at_s=now_s,
        action=type(action).__name__,
        because=action.because,
        project=getattr(action, "project", ""),
        endpoint=getattr(action, "endpoint", ""),
        subject=subject,
    )


class Effects:
    """What a plan does outside the database. Failures are kept, told in conditions, and tried again later."""

    def __init__(
        self,
        driver: Driver,
        observer: Observer,
        blobs: BlobStore,
        folders: Folders,
        clock: Callable[[], float],
        look_up: LookUp,
    ) -> None:
        self._driver = driver
        self._observer = observer
        self._blobs = blobs
        self._folders = folders
        self._clock = clock
        self._look_up = look_up
        self.site: Callable[[str], FarSite | None] = lambda _: None  # of nodes that joined
        self._failures: dict[str, Failure] = {}  # by replica; at most one for each that is assigned
        self._slots = asyncio.Semaphore(EFFECTS_AT_ONCE)

    def failures(self) -> dict[str, str]:
        """Return why starts failed, by replica."""
        return {replica: failure.message for replica, failure in self._failures.items()}

    def due_in_s(self) -> float | None:
        """Return when the next failed start is to be tried again."""
        if not self._failures:
            return None
        return max(min(failure.next_try_s for failure in self._failures.values()) - self._clock(), 0.0)

    async def run(self, plan: Plan, state: State, lease: Lease) -> None:
        """Do it all, several at once; returns when all ended, well or not."""
        known: dict[str, Revision] = {revision.revision: revision for revision in state.revisions}
        for action in plan.actions:
            if isinstance(action, actions.ForgetReplica | actions.DrainReplica):
                self._failures.pop(action.replica, None)
        await asyncio.gather(*(self._one(action, known, state, lease) for action in plan.actions))

    async def _one(self, action: Action, known: dict[str, Revision], state: State, lease: Lease) -> None:
        async with self._slots:
            match action:
                case actions.StartReplica():
                    revision = known[action.revision]
                    version = state.versions[(revision.config.model, revision.config.number)]
                    port = next((each.port for each in state.assignments if each.replica == action.replica), 0)
                    await self._start(action, revision, version, lease, port)
                case actions.StopReplica():
                    await self._stop(action.node, action.replica, action.drain_s, lease)
                case actions.StopStray():
                    await self._stop(action.node, action.replica, 0.0, lease)
                case actions.ForgetReplica():
                    await asyncio.to_thread(replicas.remove_files, action.replica, self._folders)
                case _:
                    pass

    async def _start(
        self, action: StartReplica, revision: Revision, version: ModelVersion, lease: Lease, port: int
    ) -> None:
        failure = self._failures.get(action.replica)
        if failure is not None and failure.next_try_s > self._clock():
            return
        try:
            facts = await self._look_up(revision)
            site, told = self.site(action.node), None
            folders = self._folders if site is None else site.folders
            if site is None:
                await asyncio.to_thread(self._prepare, action, revision, version, facts)
            else:
                told = self._far_spec(action, revision, version, facts, site, port)
            spec = replicas.process_spec(action.replica, revision, version, action.drain_s, folders, action.gpus)
            if site is not None:
                spec = msgspec.structs.replace(spec, argv=(site.python, *spec.argv[1:]))
            status: ProcessStatus = await self._driver.start(action.node, spec, lease.token, told)
        except (StokerError, OSError) as problem:
            self._failed(action.replica, str(problem))
        else:
            self._failures.pop(action.replica, None)
            self._observer.started(action.node, status)

    def _prepare(self, action: StartReplica, revision: Revision, version: ModelVersion, facts: StartFacts) -> None:
        # The replica looks again before each load, also when its agent restarts it without control.
        if said := demand(version.ref, version.manifest.files, facts.signed):
            log.warning("a version that no trusted key signed", extra={"replica": action.replica, "reason": said})
        folder = lay_out(version.manifest, self._blobs, self._folders.models)
        spec = replicas.replica_spec(action.replica, revision, version, folder, self._folders, facts.signed)
        replicas.write_files(msgspec.structs.replace(spec, shapes=facts.shapes), self._folders)

    def _far_spec(
        self,
        action: StartReplica,
        revision: Revision,
        version: ModelVersion,
        facts: StartFacts,
        site: FarSite,
        port: int,
    ) -> ReplicaSpec:
        """Return what a replica on a node that joined is told; that node gets the files itself."""
        folder = folder_of(version.manifest, site.folders.models)
        spec = replicas.replica_spec(action.replica, revision, version, folder, site.folders, facts.signed)
        listen = f"[{site.host}]:{port}" if ":" in site.host else f"{site.host}:{port}"
        return msgspec.structs.replace(spec, shapes=facts.shapes, listen=listen, identity=site.identity)

    async def _stop(self, node: str, replica: str, drain_s: float, lease: Lease) -> None:
        try:
            await self._driver.stop(node, replica, drain_s, lease.token)
        except StokerError as problem:  # the next turn sees that it still runs, and tells again
            log.warning("a replica could not be stopped", extra={"replica": replica, "reason": str(problem)})

    def _failed(self, replica: str, message: str) -> None:
        before = self._failures.get(replica)
        count = 1 if before is None else before.count + 1
        wait_s = min(RETRY_FIRST_S * 2.0 ** min(count - 1, 10), RETRY_MAX_S)
        self._failures[replica] = Failure(message, count, self._clock() + wait_s)
        log.warning("a replica could not be started", extra={"replica": replica, "reason": message, "tries": count})
