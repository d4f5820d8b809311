"""Why a replica has no node: the arithmetic, as an operator needs it to act."""

from collections.abc import Callable, Iterable

import msgspec

from stoker.core.capacity import MILLI, Capacity, Demand, Room, gpus, has, milli, room
from stoker.types.placement import DEFAULT_POOL
from stoker.types.units import format_bytes


class NoRoom(msgspec.Struct, frozen=True):
    """Nothing fits; the message holds the arithmetic. `is_never`: nor would it were every node empty."""

    message: str
    is_never: bool = False


def shortage(demand: Demand, nodes: Iterable[Capacity], rooms: list[Room]) -> NoRoom:
    """Return why none of `rooms`, the nodes of the demand's pool, takes it. `nodes` are those of all pools."""
    pools: dict[str, int] = {}
    for each in nodes:
        pools[each.pool] = pools.get(each.pool, 0) + 1
    if not pools:
        return NoRoom("no node reports; replicas start when one does")
    if demand.pool not in pools:
        known = ", ".join(f"{pool} ({_nodes(count)})" for pool, count in sorted(pools.items()))
        return NoRoom(f"no node is in pool {demand.pool}; there is {known}", is_never=True)
    where = "" if demand.pool == DEFAULT_POOL and len(pools) == 1 else f" in pool {demand.pool}"
    empty = [room(demand, each.capacity, ()) for each in rooms]
    if not any(has(demand, each) for each in empty):
        return NoRoom(f"{_missing(demand, empty, 'the most any node has is')}{where}", is_never=True)
    able = [each for each in rooms if has(demand, each)]
    if able:
        return NoRoom(f"{_apart(able)}{where}")
    return NoRoom(f"{_missing(demand, rooms, 'largest free is')}{where}")


def cores(count: float) -> str:
    """Return `1.5 cores`."""
    return f"{bare(count)} {'core' if count == 1 else 'cores'}"


def bare(count: float) -> str:
    """Return a number with at least one and at most three places."""
    text = f"{count:.3f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def gpu_words(count: float) -> str:
    """Return `0.5 of a GPU`, `2 GPUs`."""
    if count < 1:
        return f"{bare(count)} of a GPU"
    return f"{count:g} {'GPU' if count == 1 else 'GPUs'}"


def free(there: Room, demand: Demand) -> str:
    """Return what is free on a node of that which `demand` needs."""
    words = f"{cores(max(there.free_milli, 0) / MILLI)} and {format_bytes(max(there.free_bytes, 0))}"
    return words if not demand.gpu else f"{words} and {gpu_words(_free_gpu(demand, there) / MILLI)}"


def _free_gpu(demand: Demand, there: Room) -> int:
    return MILLI * there.whole_gpus if milli(demand.gpu) >= MILLI else max(there.free_gpus, default=0)


def _missing(demand: Demand, rooms: list[Room], how: str) -> str:
    """Return the first kind of thing of which no node has enough; else that none has enough of all."""

    def most(amount: Callable[[Room], int]) -> Room:
        return max(rooms, key=lambda each: (amount(each), each.node))

    by_cores = most(lambda each: each.free_milli)
    if by_cores.free_milli < milli(demand.cores):
        largest = bare(max(by_cores.free_milli, 0) / MILLI)
        return f"needs {cores(demand.cores)}, {how} {largest} on node {by_cores.node}"
    by_memory = most(lambda each: each.free_bytes)
    if by_memory.free_bytes < demand.memory_bytes:
        largest = format_bytes(max(by_memory.free_bytes, 0))
        return f"needs {format_bytes(demand.memory_bytes)} memory, {how} {largest} on node {by_memory.node}"
    by_gpu = most(lambda each: _free_gpu(demand, each))
    if gpus(demand, by_gpu) is None:
        largest = bare(_free_gpu(demand, by_gpu) / MILLI)
        return f"needs {gpu_words(demand.gpu)}, {how} {largest} on node {by_gpu.node}"
    nearest = by_gpu if demand.gpu else by_cores
    needs = f"{cores(demand.cores)} and {format_bytes(demand.memory_bytes)} memory"
    if demand.gpu:
        needs += f" and {gpu_words(demand.gpu)}"
    return f"needs {needs} on one node; node {nearest.node} has {free(nearest, demand)} free"


def _apart(able: list[Room]) -> str:
    """Return who is in the way where everything that is needed is free."""
    others = sorted({name for each in able for name in each.apart})
    names = ", ".join(sorted(each.node for each in able))
    if others:
        return f"has room on node {names}, but is kept apart from {', '.join(others)} there"
    return f"has room on node {names}, but spread is required and a replica of it is there"


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
