"""What a pool's machines cost over a window: each node, each of its GPUs, each replica, and unused commitments.

Which nodes fall under a commitment is decided by name, so that an answer does not depend on the order of a list. Only
the sum matters to the bill; the split between nodes decides which endpoint had the cheaper machine.
"""

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from stoker.core.cost.money import between
from stoker.types.costs import MachinePrice, PoolPrices
from stoker.types.days import DAY_S, parse_day
from stoker.types.prices import parse_dollars


class Present(msgspec.Struct, frozen=True):
    """A node of the pool and the parts of the window in which it was there, [from, to) each, in order."""

    node: str
    spans: tuple[tuple[int, int], ...]
    gpus: int = 0

    @property
    def present_ms(self) -> int:
        """Return how long it was there."""
        return sum(to_ms - from_ms for from_ms, to_ms in self.spans)

    def covers(self, from_ms: int, to_ms: int) -> bool:
        """Return whether it was there all of the time."""
        return any(begin <= from_ms and to_ms <= end for begin, end in self.spans)


class NodeCost(msgspec.Struct, frozen=True):
    """What one node cost in nano-dollars, the machine and each of its GPUs, in the part of the window it was there."""

    node: str
    machine: int
    present_ms: int
    gpus: tuple[int, ...] = ()


class PoolCost(msgspec.Struct, frozen=True):
    """What a pool's machines cost. reserved_unused: commitments for which no machine was there."""

    nodes: tuple[NodeCost, ...]
    reserved_unused: int
    reserved_unused_ms: int = 0  # of machines

    @property
    def total(self) -> int:
        """Return all of it."""
        return self.reserved_unused + sum(each.machine + sum(each.gpus) for each in self.nodes)


def since_ms(price: MachinePrice) -> int:
    """Return when the price begins to hold."""
    return parse_day(price.since) * DAY_S * 1000


def over(prices: PoolPrices, present: Sequence[Present], from_ms: int, to_ms: int) -> PoolCost:
    """Return what the pool cost over [from_ms, to_ms), in nano-dollars; nothing before its first price holds."""
    nodes = sorted(present, key=lambda each: each.node)
    machine = [0] * len(nodes)
    gpus = [[0] * each.gpus for each in nodes]
    unused = unused_ms = 0
    for start, end, price in _spans(prices, from_ms, to_ms):
        for begin, stop in _steady(nodes, start, end):
            there = [index for index, each in enumerate(nodes) if each.covers(begin, stop)]
            reserved = price.reserved.nodes if price.reserved is not None else 0
            for place, index in enumerate(there):
                machine[index] += between(_node_rate(price, is_reserved=place < reserved), begin, stop)
                gpu = between(parse_dollars(price.gpu_hour), begin, stop)
                gpus[index] = [sum_so_far + gpu for sum_so_far in gpus[index]]
            missing = max(0, reserved - len(there))
            unused_ms += missing * (stop - begin)
            if price.reserved is not None:
                unused += missing * between(parse_dollars(price.reserved.node_hour), begin, stop)
    costs = tuple(NodeCost(each.node, machine[i], each.present_ms, tuple(gpus[i])) for i, each in enumerate(nodes))
    return PoolCost(costs, unused, unused_ms)


def replica(prices: PoolPrices, from_ms: int, to_ms: int) -> int:
    """Return what one replica costs besides its machine over [from_ms, to_ms)."""
    return sum(
        between(parse_dollars(price.replica_hour), start, end) for start, end, price in _spans(prices, from_ms, to_ms)
    )


def _node_rate(price: MachinePrice, *, is_reserved: bool) -> int:
    if is_reserved and price.reserved is not None:
        return parse_dollars(price.reserved.node_hour)
    return parse_dollars(price.node_hour)


def _spans(prices: PoolPrices, from_ms: int, to_ms: int) -> list[tuple[int, int, MachinePrice]]:
    """Return the parts of the window with the price that holds in each; of two for one day the later written."""
    ordered = sorted(prices.prices, key=since_ms)
    found: list[tuple[int, int, MachinePrice]] = []
    for index, price in enumerate(ordered):
        start = max(from_ms, since_ms(price))
        end = min(to_ms, since_ms(ordered[index + 1]) if index + 1 < len(ordered) else to_ms)
        if start < end:
            found.append((start, end, price))
    return found


def _steady(nodes: Sequence[Present], from_ms: int, to_ms: int) -> list[tuple[int, int]]:
    """Return the parts of [from_ms, to_ms) in which the same nodes are there."""
    cuts = {from_ms, to_ms}
    for each in nodes:
        cuts |= {cut for span in each.spans for cut in span if from_ms < cut < to_ms}
    ordered = sorted(cuts)
    return list(pairwise(ordered))
