"""What is looked at of the fleet for its cost: which replica holds how much of which node, and what its engine did."""

from collections.abc import Iterable
from typing import Final

from stoker.control.observe import State
from stoker.core.capacity import MILLI, milli
from stoker.core.cost.attribute import ReplicaTime
from stoker.core.cost.timesheet import Look, SeenReplica
from stoker.core.snapshot import Assignment, Node, Revision
from stoker.core.world import capacity
from stoker.types.process import ProcessPhase

# What is drained or stopped still has its place, and was ready before: nothing of that is a start.
READY: Final[frozenset[ProcessPhase]] = frozenset(("ready", "draining", "stopping"))


def look(state: State, nodes: Iterable[Node], at_s: float) -> Look:
    """Return the fleet at one moment: every node that answers, and the replicas that were put there."""
    there = {node.name: node for node in nodes}
    revisions = {each.revision: each for each in state.revisions}
    sleepers = {each.key for each in state.endpoints if each.resource.spec.replicas.min == 0}
    replicas = []
    for each in state.assignments:
        node, revision = there.get(each.node), revisions.get(each.revision)
        if node is not None and revision is not None:
            may_sleep = (each.project, each.endpoint) in sleepers
            replicas.append(_seen(each, revision, node, may_sleep=may_sleep))
    return Look(int(at_s * 1000), tuple(capacity(node) for node in there.values()), tuple(replicas))


def _seen(placed: Assignment, revision: Revision, node: Node, *, may_sleep: bool) -> SeenReplica:
    config, process = revision.config, node.processes.get(placed.replica)
    holds = ReplicaTime(
        str(placed.replica),
        str(placed.node),
        str(placed.project),
        str(placed.endpoint),
        str(placed.revision),
        config.cpu,
        config.memory_bytes,
        gpus=placed.gpus,
        gpu_milli=milli(config.gpu) if config.gpu < 1 else MILLI,
    )
    if process is None:
        return SeenReplica(holds, is_ready=False, may_sleep=may_sleep)
    return SeenReplica(holds, process.phase in READY, may_sleep, process.started_at_s, process.busy_s)
