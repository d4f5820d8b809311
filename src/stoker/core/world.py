"""What one plan looks at, by name, and what it has added so far. Pure, but for what it remembers of its own plan."""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from stoker.core.actions import Action
from stoker.core.capacity import Capacity, Demand, Held
from stoker.core.revisions import ServingConfig
from stoker.core.snapshot import Assignment, EndpointKey, Node, Revision, Snapshot
from stoker.types.process import ProcessStatus
from stoker.types.resources import Endpoint

_Owned = TypeVar("_Owned", Revision, Assignment)


class World:
    """The snapshot by name, and what this plan has added to it so far."""

    def __init__(self, snapshot: Snapshot, now_s: float) -> None:
        self.now_s = now_s
        self.snapshot = snapshot
        self.nodes: dict[str, Node] = {node.name: node for node in snapshot.nodes}
        self.revisions: dict[str, Revision] = {revision.revision: revision for revision in snapshot.revisions}
        self._revisions = _by_endpoint(snapshot.revisions)
        self._assignments = _by_endpoint(snapshot.assignments)
        self.endpoints = {each.key: each.resource for each in snapshot.endpoints}
        self.capacities = [capacity(node) for node in snapshot.nodes]
        self.held = [
            Held(each.node, self.demand(self.revisions[each.revision]), each.gpus, each.replica)
            for each in snapshot.assignments
            if each.revision in self.revisions
        ]
        self.known = {each.key: each.status for each in snapshot.endpoints if not each.is_deleting}
        self.rollouts = {(each.project, each.endpoint): each for each in snapshot.rollouts}
        self.actions: list[Action] = []
        self.drained: set[str] = set()  # replicas, by this plan
        self.preempted: dict[EndpointKey, str] = {}  # for whom replicas of an endpoint go, by this plan
        self.again_s: float | None = None

    def assigned(self, endpoint: EndpointKey) -> list[Assignment]:
        """Return an endpoint's replicas; those that this plan has drained already, for another one, are draining."""
        mine = self._assignments.get(endpoint, [])
        left = {"phase": "draining", "since_s": self.now_s}
        return [msgspec.structs.replace(each, **left) if each.replica in self.drained else each for each in mine]

    def revisions_of(self, endpoint: EndpointKey) -> list[Revision]:
        """Return an endpoint's revisions."""
        return list(self._revisions.get(endpoint, ()))

    def process(self, assignment: Assignment) -> ProcessStatus | None:
        """Return what its node says of it; None when it does not run."""
        node = self.nodes.get(assignment.node)
        process = node.processes.get(assignment.replica) if node is not None else None
        return None if process is None or process.phase == "stopped" else process

    def is_seen(self, assignment: Assignment) -> bool:
        """Return whether its node answers."""
        return assignment.node in self.nodes

    def is_staying(self, assignment: Assignment) -> bool:
        """Whether it is wanted, by this plan too."""
        return assignment.phase == "wanted" and assignment.replica not in self.drained

    def is_ready(self, assignment: Assignment) -> bool:
        """Return whether it can take requests."""
        process = self.process(assignment)
        return process is not None and process.phase == "ready"

    def demand(self, revision: Revision) -> Demand:
        """Return what a replica of `revision` takes of its node, and beside whom it may be now."""
        return demand(revision.config, self.endpoints[revision.project, revision.endpoint], revision.revision)

    def is_after(self, moment_s: float, since_s: float) -> bool:
        """Return whether `moment_s` is past `since_s`; a mark in the future (the clock was set back) counts as past."""
        return moment_s > since_s or since_s > self.now_s

    def wake_at(self, due_s: float) -> None:
        """Have the next plan made no later than at `due_s`."""
        wait_s = max(due_s - self.now_s, 0.0)
        self.again_s = wait_s if self.again_s is None else min(self.again_s, wait_s)


def _by_endpoint(every: Iterable[_Owned]) -> dict[EndpointKey, list[_Owned]]:
    found: dict[EndpointKey, list[_Owned]] = {}
    for each in every:
        found.setdefault((each.project, each.endpoint), []).append(each)
    return found


def capacity(node: Node) -> Capacity:
    """Return what a node has, as placement sees it."""
    return Capacity(node.name, node.cores, node.memory_bytes, node.pool, node.gpus)


def demand(config: ServingConfig, endpoint: Endpoint, revision: str) -> Demand:
    """Return what a replica of `revision` of an endpoint needs."""
    who, placement = endpoint.metadata, endpoint.spec.placement
    return Demand(
        cores=config.cpu,
        memory_bytes=config.memory_bytes,
        revision=revision,
        endpoint=f"{who.project}.{who.name}",
        gpu=config.gpu,
        pool=config.pool,
        spread=placement.spread,
        apart=tuple(f"{who.project}.{each}" for each in placement.apart),
    )
