"""What is: the nodes as their agents report them, and the stored state at one moment."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from stoker.core.gate import law
from stoker.core.gate.law import DossierState
from stoker.core.refs import ModelRef, parse_ref
from stoker.core.snapshot import Assignment, EndpointKey, EndpointState, Node, Revision
from stoker.placement.port import Driver
from stoker.store import endpoints, models, releases, revisions, rollouts
from stoker.store.engine import Connection
from stoker.store.rollouts import Stored
from stoker.store.versions import Versions
from stoker.types.ids import ModelName, NodeName
from stoker.types.models import ModelVersion
from stoker.types.process import NodeStatus, ProcessStatus

RESYNC_S: Final = 2.0  # the longest that a change nobody told of stays unseen
RETRY_S: Final = 0.5
# What the platform's own processes take of a node; the rest is for replicas.
PLATFORM_MEMORY_BYTES: Final = 300 << 20

log = logging.getLogger(__name__)


class State(msgspec.Struct, frozen=True):
    """The stored state at one moment. `versions` has every version that a revision or an endpoint means."""

    endpoints: tuple[EndpointState, ...]
    revisions: tuple[Revision, ...]
    assignments: tuple[Assignment, ...]
    targets: dict[EndpointKey, ModelVersion | None]
    versions: dict[tuple[str, int], ModelVersion]
    rollouts: tuple[Stored, ...] = ()  # the newest of each endpoint
    dossiers: dict[str, DossierState] = {}  # of revisions that have gates to pass


def read_state(connection: Connection, kept: Versions) -> State:
    """Return the stored state. kept: the versions that were read before."""
    every = endpoints.everything(connection)
    history = revisions.everything(connection)
    meant = {each.key: _meant(each) for each in every}
    made = {_made(each) for each in history}
    found = kept.resolve(connection, made | {ref for ref in meant.values() if ref is not None})
    targets = {key: None if ref is None else found[ref] for key, ref in meant.items()}
    versions: dict[tuple[str, int], ModelVersion] = {
        (each.name, each.number): each for each in found.values() if each is not None
    }
    for lost in (ref for ref in made if found[ref] is None):
        models.get(connection, lost)  # raises: a version that a revision uses is never removed
    return State(
        tuple(every),
        tuple(history),
        tuple(revisions.assignments(connection)),
        targets,
        versions,
        tuple(rollouts.newest(connection)),
        standing(connection, every, history),
    )


def standing(
    connection: Connection, every: Iterable[EndpointState], history: Iterable[Revision]
) -> dict[str, DossierState]:
    """Return how every revision stands that has gates to pass."""
    known = {each.key: each for each in every}
    rows = releases.standing(connection)
    found = {}
    for each in history:
        state = known.get((each.project, each.endpoint))
        if state is not None and law.has_any(state.resource.spec.gates):
            begun = rows.get((each.revision, each.created_at_s))
            found[str(each.revision)] = law.stands(
                begun.kept if begun is not None else None,
                state.resource.spec.gates,
                serves=state.serving == each.revision,
            )
    return found


def target(connection: Connection, endpoint: EndpointState) -> ModelVersion | None:
    """Return the version that the endpoint's spec means now; None when there is none any more, or it has backends.

    An alias is followed. A bare name means the version that was newest when it was applied.
    """
    ref = _meant(endpoint)
    return None if ref is None else models.resolve(connection, ref)


def _meant(endpoint: EndpointState) -> ModelRef | None:
    if endpoint.resource.spec.backends:
        return None
    ref = parse_ref(endpoint.resource.spec.model)
    return ModelRef(name=ref.name, number=endpoint.pinned) if ref.is_newest and endpoint.pinned else ref


def _made(revision: Revision) -> ModelRef:
    return ModelRef(name=ModelName(revision.config.model), number=revision.config.number)


def as_node(status: NodeStatus, observed_at_s: float) -> Node:
    """Return a node as decisions see it."""
    return Node(
        name=NodeName(status.node),
        cores=status.cores,
        memory_bytes=max(status.memory_bytes - PLATFORM_MEMORY_BYTES, 0),
        observed_at_s=observed_at_s,
        processes={process.name: process for process in status.processes},
        pool=status.pool,
        gpus=status.gpus,
    )


class Observer:
    """Keeps the newest report of every node. `watch` runs for ever; the rest reads what it last saw."""

    def __init__(self, driver: Driver) -> None:
        self.on_change: Callable[[], None] | None = None
        self._driver = driver
        self._seen: dict[str, tuple[NodeStatus, float]] = {}

    @property
    def statuses(self) -> list[NodeStatus]:
        """The nodes that answered when last asked."""
        return [status for status, _ in self._seen.values()]

    def nodes(self) -> tuple[Node, ...]:
        """Return the nodes as decisions see them."""
        return tuple(as_node(status, at_s) for status, at_s in self._seen.values())

    def process(self, node: str, name: str) -> ProcessStatus | None:
        """Return what is known of one process."""
        seen = self._seen.get(node)
        return next((each for each in seen[0].processes if each.name == name), None) if seen is not None else None

    def serves(self, project: str, endpoint: str) -> bool:
        """Return whether a replica of an endpoint was ready when its node was asked last."""
        return any(
            process.phase == "ready"
            and (process.labels.get("project"), process.labels.get("endpoint")) == (project, endpoint)
            for status in self.statuses
            for process in status.processes
        )

    def forget(self, node: str) -> None:
        """Take a node for gone before the next look: it was removed."""
        self._seen.pop(node, None)

    def started(self, node: str, process: ProcessStatus) -> None:
        """Take note of what a start answered, until the node reports again."""
        if node in self._seen:
            status, at_s = self._seen[node]
            others = tuple(each for each in status.processes if each.name != process.name)
            self._seen[node] = (msgspec.structs.replace(status, processes=(*others, process)), at_s)

    async def look(self) -> None:
        """Ask every node once."""
        self._take(await self._driver.observe())

    async def watch(self) -> None:
        """Follow every node; returns only by cancellation."""
        while True:
            try:
                await self._driver.changed(
                    {name: status.sequence for name, (status, _) in self._seen.items()}, RESYNC_S
                )
                await self.look()
            except Exception:  # whatever an agent answers, the watch goes on
                log.exception("a node could not be observed")
                await asyncio.sleep(RETRY_S)

    def _take(self, statuses: Iterable[NodeStatus]) -> None:
        now_s = time.time()
        before = {name: (status.sequence, status.started_at_s) for name, (status, _) in self._seen.items()}
        self._seen = {status.node: (status, now_s) for status in statuses}
        after = {name: (status.sequence, status.started_at_s) for name, (status, _) in self._seen.items()}
        if before != after and self.on_change is not None:
            self.on_change()
