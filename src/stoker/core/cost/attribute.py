"""Whose money it was: what machines cost over a window, as lines that add up to it to the nano-dollar.

1. A node's cost goes to the replicas on it by what they hold of it (the larger of their shares of cores and memory, for
   what one holds no other can have) and how long; the rest is `unallocated`. GPUs go by what is held of each.
2. A replica's cost goes to its time: starting, busy, kept warm, idle.
3. What its revision was busy with goes to requests by their service units, measured by the engine or by tokens
   (`units`); each kind of overhead is a line of its own.
4. Who pays for what nobody asked for is the pool's policy (core/cost/payers.py).

Source: allocation by the larger of request and usage, and idle as what is left of an asset, are OpenCost's
(specification 0.1); requests are held here because they are never overcommitted.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from stoker.core.capacity import MILLI, Capacity
from stoker.core.cost.machines import NodeCost, PoolCost
from stoker.core.cost.money import split
from stoker.types.costs import CostLine, LineKind

PARTS = 1_000_000  # of a node
PREFILL_UNITS, DECODE_UNITS, CACHED_UNITS = 10, 20, 1  # per token: reading 1, writing 2, known already 0.1


class ReplicaTime(msgspec.Struct, frozen=True):
    """What a replica held in the window, and what it did with its time there, in milliseconds.

    gpus: those of which it holds gpu_milli thousandths each. extra: what it costs besides its machine.
    """

    replica: str
    node: str
    project: str
    endpoint: str
    revision: str
    cores: float
    memory_bytes: int
    starting_ms: int = 0
    busy_ms: int = 0
    warm_ms: int = 0
    idle_ms: int = 0
    gpus: tuple[int, ...] = ()
    gpu_milli: int = 0
    extra: int = 0

    @property
    def held_ms(self) -> int:
        """Return how long it was there."""
        return self.starting_ms + self.busy_ms + self.warm_ms + self.idle_ms


class Work(msgspec.Struct, frozen=True):
    """Service units that a revision did for one key and one combination of tags. payer: the key's project."""

    revision: str
    kind: LineKind
    units: int
    payer: str
    key: str = ""
    tags: tuple[tuple[str, str], ...] = ()


class Window(msgspec.Struct, frozen=True):
    """What there was in one pool over a window. nodes: each that is in `cost`."""

    pool: str
    cost: PoolCost
    nodes: tuple[Capacity, ...]
    replicas: tuple[ReplicaTime, ...]
    works: tuple[Work, ...]


def units(input_tokens: int, output_tokens: int, cached_tokens: int) -> int:
    """Return a language model's service units: what an input token that is not known yet costs is 10."""
    return (
        PREFILL_UNITS * max(0, input_tokens - cached_tokens)
        + CACHED_UNITS * cached_tokens
        + DECODE_UNITS * output_tokens
    )


class _Spent:
    """Money, and the machine time it was for."""

    __slots__ = ("ms", "nano_usd")

    def __init__(self) -> None:
        self.nano_usd = 0
        self.ms = 0

    def add(self, nano_usd: int, ms: int) -> None:
        self.nano_usd += nano_usd
        self.ms += ms


def attribute(window: Window) -> list[CostLine]:
    """Return the lines of the window. They add up to its pool's cost and its replicas' `extra`, whatever was measured.

    The payer of work is who asked; of all other lines nobody yet (payers.assign).
    """
    by_node: dict[str, list[ReplicaTime]] = defaultdict(list)
    for each in window.replicas:
        by_node[each.node].append(each)
    capacities: dict[str, Capacity] = {each.node: each for each in window.nodes}
    amounts = {each.replica: each.extra for each in window.replicas}
    unallocated, unused = _Spent(), _Spent()
    for cost in window.cost.nodes:
        _onto(amounts, unallocated, cost, capacities[cost.node], by_node.get(cost.node, []))
    unused.add(window.cost.reserved_unused, window.cost.reserved_unused_ms)
    lines = list(_of_time(window, amounts))
    lines += _line(window.pool, "unallocated", unallocated)
    lines += _line(window.pool, "reserved_unused", unused)
    return lines


def _onto(
    amounts: dict[str, int], unallocated: _Spent, cost: NodeCost, node: Capacity, replicas: Sequence[ReplicaTime]
) -> None:
    """Add what the node cost to the amounts of its replicas, and what none of them held to `unallocated`."""
    held = [_part(each, node) * each.held_ms for each in replicas]
    free_ms = max(0, cost.present_ms - sum(held) // PARTS)
    unallocated.add(_share(amounts, cost.machine, replicas, held, PARTS * cost.present_ms), free_ms)
    for gpu, price in enumerate(cost.gpus):
        held = [each.gpu_milli * each.held_ms if gpu in each.gpus else 0 for each in replicas]
        unallocated.add(_share(amounts, price, replicas, held, MILLI * cost.present_ms), 0)


def _share(
    amounts: dict[str, int], price: int, replicas: Sequence[ReplicaTime], held: Sequence[int], whole: int
) -> int:
    """Add to each replica's amount its part of `price` by what it held of `whole`; return what is left of it."""
    free = max(0, whole - sum(held))
    *parts, left = split(price, [*held, free or int(not any(held))])
    for each, part in zip(replicas, parts, strict=True):
        amounts[each.replica] += part
    return left


def _part(replica: ReplicaTime, node: Capacity) -> int:
    """Return the millionths of the node that nobody else can have while the replica is there."""
    cores = replica.cores / node.cores if node.cores > 0 else 0.0
    memory = replica.memory_bytes / node.memory_bytes if node.memory_bytes > 0 else 0.0
    return max(1, round(PARTS * min(1.0, max(cores, memory))))


def _of_time(window: Window, amounts: dict[str, int]) -> Iterable[CostLine]:
    """Yield the lines of replicas by what they did with their time; busy time by what it was for."""
    sums: dict[tuple[str, str, str], dict[LineKind, _Spent]] = defaultdict(lambda: defaultdict(_Spent))
    for each in window.replicas:
        times = [each.starting_ms, each.busy_ms, each.warm_ms, each.idle_ms]
        parts = split(amounts[each.replica], times if any(times) else [0, 0, 0, 1])
        whose = sums[each.project, each.endpoint, each.revision]
        kinds: tuple[LineKind, ...] = ("cold_start", "requests", "keep_warm", "idle")
        for kind, part, time_ms in zip(kinds, parts, times, strict=True):
            whose[kind].add(part, time_ms)
    works: dict[str, list[Work]] = defaultdict(list)
    for work in window.works:
        works[work.revision].append(work)
    for (project, endpoint, revision), whose in sums.items():
        busy = whose.pop("requests", _Spent())
        for kind, spent in whose.items():
            yield from _line(window.pool, kind, spent, project, endpoint, revision)
        done = works.get(revision, [])
        if not any(each.units for each in done):
            yield from _line(window.pool, "unmetered", busy, project, endpoint, revision)
            continue
        yield from _of_work(window.pool, busy, done, project, endpoint)


def _of_work(pool: str, busy: _Spent, done: Sequence[Work], project: str, endpoint: str) -> Iterable[CostLine]:
    """Yield the lines of what a revision was busy with."""
    weights = [each.units for each in done]
    for each, part, time_ms in zip(done, split(busy.nano_usd, weights), split(busy.ms, weights), strict=True):
        if part or time_ms:
            yield CostLine(
                each.kind, pool, part, time_ms, each.payer, project, endpoint, each.revision, each.key, each.tags
            )


def _line(
    pool: str, kind: LineKind, spent: _Spent, project: str = "", endpoint: str = "", revision: str = ""
) -> Iterable[CostLine]:
    """Yield the line of what nobody asked for, if there is any."""
    if spent.nano_usd or spent.ms:
        yield CostLine(kind, pool, spent.nano_usd, spent.ms, project=project, endpoint=endpoint, revision=revision)
