"""How what nobody wants any more ends: replicas out of traffic, then stopped, then forgotten; old revisions; endpoints.

Each step waits for the one before, whatever a crash left behind, so that nothing that was admitted is lost.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from stoker.core.actions import DrainReplica, ForgetReplica, ForgetRevision, RemoveEndpoint, StopReplica, StopStray
from stoker.core.snapshot import Assignment, EndpointState, Revision
from stoker.core.world import World
from stoker.types.ids import ReplicaId, RevisionId
from stoker.types.process import ProcessStatus
from stoker.types.units import parse_seconds

# How long gateways have to hear that a replica takes no more traffic before it is told to drain. They long-poll and
# hear within milliseconds; one that hears later is refused by the draining replica with an error it retries.
SETTLE_S: Final = 1.0
# Somebody waits for its room: what comes meanwhile waits in the gateway, refused by the replica or not.
SWAP_SETTLE_S: Final = 0.1
# A replica may finish what it admitted: the endpoint's own deadline, within these bounds.
DRAIN_MIN_S: Final = 2.0
DRAIN_MAX_S: Final = 600.0
REVISIONS_KEPT: Final = 10  # newest ones, besides those in use: what a rollback can return to
SERVED_KEPT: Final = 5  # newest ones of those that served, however many were refused or taken back since


def drain_seconds(endpoint: EndpointState) -> float:
    """Return how long a replica of `endpoint` may take to finish what it admitted."""
    return min(max(parse_seconds(endpoint.resource.spec.limits.timeout), DRAIN_MIN_S), DRAIN_MAX_S)


def drain(world: World, each: Assignment, because: str) -> None:
    """Take a replica out of the route table."""
    world.drained.add(each.replica)
    world.actions.append(DrainReplica(each.project, each.endpoint, each.replica, because))


def finish(world: World, endpoint: EndpointState, mine: Sequence[Assignment]) -> None:
    """Take draining replicas to stopping, and stopping ones out of the books, each when it is time."""
    for each in mine:
        if each.phase == "wanted" or not world.is_seen(each):
            continue
        process = world.process(each)
        if each.phase == "draining":
            is_swap = endpoint.key in world.snapshot.rests
            due_s = each.since_s + (SWAP_SETTLE_S if is_swap else SETTLE_S)
            if process is None or world.now_s >= due_s or each.since_s > world.now_s:
                _stop(world, endpoint, each, "it takes no traffic any more and may finish what it holds")
            else:
                world.wake_at(due_s)
        elif process is not None and process.phase not in ("draining", "stopping", "stopped"):
            _stop(world, endpoint, each, "its agent has not begun to stop it")
        elif process is None and world.is_after(world.nodes[each.node].observed_at_s, each.since_s):
            gone = ForgetReplica(each.project, each.endpoint, each.replica, because="its process is gone")
            world.actions.append(gone)


def delete(world: World, endpoint: EndpointState, mine: Sequence[Assignment]) -> None:
    """Drain what a deleted endpoint has, and drop it when nothing is left."""
    for each in mine:
        if each.phase == "wanted":
            drain(world, each, "the endpoint is deleted")
    if not mine:
        because = "it was deleted and its replicas are gone"
        world.actions.append(RemoveEndpoint(endpoint.project, endpoint.name, because))


def forget_history(
    world: World,
    endpoint: EndpointState,
    mine: Sequence[Assignment],
    revisions: Sequence[Revision],
    target: Revision | None,
) -> None:
    """Drop revisions that are old, not in use and not the way back."""
    used = {each.revision for each in mine} | {endpoint.serving, endpoint.status.revision}
    if target is not None:
        used.add(target.revision)
    newest_first = sorted(revisions, key=lambda each: -each.number)
    # Not by age: what served until now may be older than ten that were tried in vain.
    dossiers, rollout = world.snapshot.dossiers, world.rollouts.get(endpoint.key)
    past = [each.revision for each in newest_first if each.revision in dossiers]
    served = [each for each in past if dossiers[each].has_served]
    used.update(served[:SERVED_KEPT])
    if rollout is not None:
        used.add(RevisionId(rollout.baseline))
    for each in newest_first[REVISIONS_KEPT:]:
        if each.revision not in used:
            because = f"{REVISIONS_KEPT} newer revisions are kept"
            world.actions.append(ForgetRevision(each.project, each.endpoint, each.revision, because))


def stop_strays(world: World) -> None:
    """End replica processes that no assignment accounts for."""
    known = {each.replica for each in world.snapshot.assignments}
    for node in world.snapshot.nodes:
        for name in _running(node.processes.values()):
            if name not in known:
                world.actions.append(StopStray(name, node.name, because="no assignment accounts for it"))


def _running(processes: Iterable[ProcessStatus]) -> list[ReplicaId]:
    ending = ("draining", "stopping", "stopped")
    return [ReplicaId(each.name) for each in processes if each.kind == "replica" and each.phase not in ending]


def _stop(world: World, endpoint: EndpointState, each: Assignment, because: str) -> None:
    drain_s = drain_seconds(endpoint)
    world.actions.append(StopReplica(each.project, each.endpoint, each.replica, each.node, drain_s, because))
