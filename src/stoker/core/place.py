"""Which node gets a replica, and which of its GPUs; or the arithmetic of why none can take it.

Over nodes first, then packed: of the nodes with the fewest replicas of its own kind the one that is left with the
least, so that large holes stay whole for large replicas; nodes with free GPUs last for what needs none.
"""

from collections.abc import Iterable

import msgspec

from stoker.core import shortage
from stoker.core.capacity import Capacity, Demand, Held, Room, fits, gpus, milli, rooms
from stoker.core.shortage import NoRoom
from stoker.types.ids import NodeName


class Placement(msgspec.Struct, frozen=True):
    """The node, its GPUs that the replica gets, and why it."""

    node: NodeName
    because: str
    gpus: tuple[int, ...] = ()


def choose(demand: Demand, nodes: Iterable[Capacity], held: Iterable[Held]) -> Placement | NoRoom:
    """Return the node for `demand`: one where it fits, with the fewest of its own kind, then the tightest fit.

    The order of `nodes` and `held` does not matter; equal nodes are taken by name.
    """
    nodes = list(nodes)
    known = rooms(demand, nodes, held)
    able = [each for each in known if fits(demand, each)]
    if not able:
        return shortage.shortage(demand, nodes, known)
    least = min((each.same_revision, each.same_endpoint) for each in able)
    spread = [each for each in able if (each.same_revision, each.same_endpoint) == least]
    best = min(spread, key=lambda each: (*_waste(demand, each, spread), each.node))
    found = gpus(demand, best) or ()
    words = f"node {best.node} has {shortage.free(best, demand)} free, {best.same_revision} of this revision"
    if found:
        words += f"; GPU {', '.join(map(str, found))}"
    if len(spread) > 1:
        words += f"; the tightest fit of {len(spread)}"
    return Placement(best.node, words, found)


def _waste(demand: Demand, there: Room, able: list[Room]) -> tuple[int, float]:
    """Return GPUs that would lie idle beside it, and what would be left, of the most that any of `able` has free."""
    idle = 0 if demand.gpu else there.whole_gpus
    most_milli = max(each.free_milli for each in able) or 1
    most_bytes = max(each.free_bytes for each in able) or 1
    left = (there.free_milli - milli(demand.cores)) / most_milli + (there.free_bytes - demand.memory_bytes) / most_bytes
    if demand.gpu:
        left += (sum(there.free_gpus) - milli(demand.gpu)) / max(sum(each.free_gpus) for each in able)
    return idle, left
