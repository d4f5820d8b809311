"""Which node gets a replica, or the arithmetic of why none can take it.

Cores and memory are promises: the sum over a node's replicas never exceeds what the node has, so that one replica's
load cannot starve another. Counted in thousandths of a core, so that 0.1 + 0.2 fits 0.3.
"""

from collections.abc import Iterable

import msgspec

from stoker.types.ids import NodeName
from stoker.types.units import format_bytes

MILLI = 1000


class Demand(msgspec.Struct, frozen=True):
    """What one replica needs, and whom it should be spread from."""

    cores: float
    memory_bytes: int
    revision: str
    endpoint: str  # "<project>.<name>"


class Held(msgspec.Struct, frozen=True):
    """A demand that already has its node."""

    node: NodeName
    demand: Demand


class Capacity(msgspec.Struct, frozen=True):
    """What a node has for replicas, all of it."""

    node: NodeName
    cores: float
    memory_bytes: int


class Placement(msgspec.Struct, frozen=True):
    """The node, and why it."""

    node: NodeName
    because: str


class NoRoom(msgspec.Struct, frozen=True):
    """Nothing fits; the message holds the arithmetic."""

    message: str


class _Room(msgspec.Struct):
    node: NodeName
    free_milli: int
    free_bytes: int
    same_revision: int = 0
    same_endpoint: int = 0


def milli(cores: float) -> int:
    """Return thousandths of a core, at least 1 for anything above 0."""
    return max(1, round(cores * MILLI)) if cores > 0 else 0


def choose(demand: Demand, nodes: Iterable[Capacity], held: Iterable[Held]) -> Placement | NoRoom:
    """Return the node for `demand`: one where it fits, with the fewest of its own kind, then the most free cores.

    The order of `nodes` and `held` does not matter; equal nodes are taken by name.
    """
    rooms = _rooms(demand, nodes, held)
    if not rooms:
        return NoRoom("no node reports; replicas start when one does")
    wanted_milli = milli(demand.cores)
    fitting = [room for room in rooms if room.free_milli >= wanted_milli and room.free_bytes >= demand.memory_bytes]
    if not fitting:
        return NoRoom(_arithmetic(demand, rooms))
    best = min(fitting, key=lambda room: (room.same_revision, room.same_endpoint, -room.free_milli, room.node))
    free = best.free_milli / MILLI
    return Placement(
        node=best.node,
        because=f"node {best.node} has {_cores(free)} and {format_bytes(best.free_bytes)} free, "
        f"{best.same_revision} of this revision",
    )


def _rooms(demand: Demand, nodes: Iterable[Capacity], held: Iterable[Held]) -> list[_Room]:
    rooms = {node.node: _Room(node.node, milli(node.cores), node.memory_bytes) for node in nodes}
    for item in held:
        room = rooms.get(item.node)
        if room is None:
            continue
        room.free_milli -= milli(item.demand.cores)
        room.free_bytes -= item.demand.memory_bytes
        room.same_revision += item.demand.revision == demand.revision
        room.same_endpoint += item.demand.endpoint == demand.endpoint
    return list(rooms.values())


def _arithmetic(demand: Demand, rooms: list[_Room]) -> str:
    wanted_milli = milli(demand.cores)
    by_cores = max(rooms, key=lambda room: (room.free_milli, room.node))
    by_memory = max(rooms, key=lambda room: (room.free_bytes, room.node))
    if by_cores.free_milli < wanted_milli:
        largest = _bare(max(by_cores.free_milli, 0) / MILLI)
        return f"needs {_cores(demand.cores)}, largest free is {largest} on node {by_cores.node}"
    if by_memory.free_bytes < demand.memory_bytes:
        largest = format_bytes(max(by_memory.free_bytes, 0))
        return f"needs {format_bytes(demand.memory_bytes)} memory, largest free is {largest} on node {by_memory.node}"
    free = f"{_cores(by_cores.free_milli / MILLI)} and {format_bytes(max(by_cores.free_bytes, 0))}"
    return (
        f"needs {_cores(demand.cores)} and {format_bytes(demand.memory_bytes)} memory on one node; "
        f"node {by_cores.node} has {free} free"
    )


def _cores(count: float) -> str:
    return f"{_bare(count)} {'core' if count == 1 else 'cores'}"


def _bare(count: float) -> str:
    text = f"{count:.3f}".rstrip("0")
    return text + "0" if text.endswith(".") else text
