"""What a node has for replicas, what of it is promised already, and whether one replica more fits.

Cores, memory and GPUs are promises: the sum over a node's replicas never exceeds what the node has, so that one
replica's load cannot starve another. Cores and GPUs are counted in thousandths, so that 0.1 + 0.2 fits 0.3.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from stoker.types.ids import NodeName
from stoker.types.placement import DEFAULT_POOL, Spread

MILLI: Final = 1000


class Demand(msgspec.Struct, frozen=True):
    """What one replica needs, and beside whom it may not be.

    gpu: below 1 a share of one GPU, from 1 on so many whole ones. apart: endpoints that it shares no node with.
    """

    cores: float
    memory_bytes: int
    revision: str
    endpoint: str  # "<project>.<name>"
    gpu: float = 0.0
    pool: str = DEFAULT_POOL
    spread: Spread = "preferred"
    apart: tuple[str, ...] = ()


class Held(msgspec.Struct, frozen=True):
    """A demand that already has its node, and its GPUs there. `replica` names it, where somebody asks."""

    node: NodeName
    demand: Demand
    gpus: tuple[int, ...] = ()
    replica: str = ""


class Capacity(msgspec.Struct, frozen=True):
    """What a node has for replicas, all of it. Its GPUs are numbered from 0."""

    node: NodeName
    cores: float
    memory_bytes: int
    pool: str = DEFAULT_POOL
    gpus: int = 0


class Room(msgspec.Struct):
    """What is free on a node, and who of a demand's kind is there.

    free_gpus: thousandths of each GPU. apart: endpoints there beside which the demand may not be.
    """

    capacity: Capacity
    free_milli: int
    free_bytes: int
    free_gpus: list[int]
    same_revision: int = 0
    same_endpoint: int = 0
    apart: tuple[str, ...] = ()

    @property
    def node(self) -> NodeName:
        """The node's name."""
        return self.capacity.node

    @property
    def whole_gpus(self) -> int:
        """How many GPUs nobody has a share of."""
        return sum(free == MILLI for free in self.free_gpus)


def milli(count: float) -> int:
    """Return thousandths of a core or of a GPU, at least 1 for anything above 0."""
    return max(1, round(count * MILLI)) if count > 0 else 0


def room(demand: Demand, capacity: Capacity, held: Iterable[Held]) -> Room:
    """Return what is free on a node that has `held`, as `demand` sees it."""
    found = Room(capacity, milli(capacity.cores), capacity.memory_bytes, [MILLI] * capacity.gpus)
    apart = set()
    for item in held:
        there = item.demand
        found.free_milli -= milli(there.cores)
        found.free_bytes -= there.memory_bytes
        for index in item.gpus:
            if index < capacity.gpus:  # it may have lost one since
                found.free_gpus[index] -= min(milli(there.gpu), MILLI)
        found.same_revision += there.revision == demand.revision
        found.same_endpoint += there.endpoint == demand.endpoint
        if there.endpoint in demand.apart or demand.endpoint in there.apart:
            apart.add(there.endpoint)
    found.apart = tuple(sorted(apart))
    return found


def rooms(demand: Demand, nodes: Iterable[Capacity], held: Iterable[Held]) -> list[Room]:
    """Return the nodes of the demand's pool, with what is free there."""
    on = by_node(held)
    return [room(demand, each, on.get(each.node, ())) for each in nodes if each.pool == demand.pool]


def by_node(held: Iterable[Held]) -> Mapping[NodeName, list[Held]]:
    """Return what each node has."""
    found: dict[NodeName, list[Held]] = {}
    for item in held:
        found.setdefault(item.node, []).append(item)
    return found


def fits(demand: Demand, there: Room) -> bool:
    """Return whether `demand` may be put there: it has what is needed, and nobody to be kept apart from."""
    return has(demand, there) and may_share(demand, there)


def has(demand: Demand, there: Room) -> bool:
    """Return whether what is needed is free."""
    has_rest = there.free_milli >= milli(demand.cores) and there.free_bytes >= demand.memory_bytes
    return has_rest and gpus(demand, there) is not None


def may_share(demand: Demand, there: Room) -> bool:
    """Return whether nobody is there that the demand is to be kept apart from.

    Replicas of one revision are: the next revision's may stand beside the last one's, or as many nodes as replicas
    could never change revisions.
    """
    return not there.apart and (demand.spread != "required" or not there.same_revision)


def gpus(demand: Demand, there: Room) -> tuple[int, ...] | None:
    """Return which GPUs `demand` gets there, () for none needed; None when they are not free.

    A share goes where the least is left that will do, so that whole GPUs stay whole.
    """
    wanted = milli(demand.gpu)
    if not wanted:
        return ()
    if wanted < MILLI:
        able = [(free, index) for index, free in enumerate(there.free_gpus) if free >= wanted]
        return (min(able)[1],) if able else None
    count = -(-wanted // MILLI)
    whole = [index for index, free in enumerate(there.free_gpus) if free == MILLI]
    return tuple(whole[:count]) if len(whole) >= count else None
