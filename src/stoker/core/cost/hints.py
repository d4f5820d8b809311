"""What would make serving cost less beside the settings of one endpoint: pools, engines, and who answers for whom.

Each hint is reckoned from what was measured or written down, in whole micro-dollars a month, and says what it takes for
granted. Where a number is missing nothing is said. Nothing here is tried live: that is for who follows it.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from stoker.core.engines import TIE_RATIO
from stoker.core.pricing import Work, price
from stoker.types.costs import MachinePrice
from stoker.types.engines import EngineChoice, EngineMeasurement
from stoker.types.prices import Card, parse_dollars

HOURS_OF_MONTH: Final = 730
MONTH_S: Final = HOURS_OF_MONTH * 3600
STEP_S: Final = 600  # between two looks at which nodes were there; of a week these are 1,008, and a chart has 2,000
NANO_PER_MICRO: Final = 1000
WORTH_SHARE: Final = 20  # a twentieth of what it costs now; less is not worth a change
SEEN_S_MIN: Final = 24 * 3600  # that a pool was looked at; less says nothing of a month
REQUESTS_MIN: Final = 50
IDLE_RATIO: Final = 0.5  # of its replicas' time without work: there is room for what went elsewhere


class Hint(msgspec.Struct, frozen=True):
    """One change. about: a pool, or project/endpoint. saves_micro_usd: a month.

    because: what it rests on, as it was measured. assuming: what nobody measured.
    """

    kind: Literal["pool", "engine", "fallback"]
    about: str
    change: str
    saves_micro_usd: int
    because: str
    assuming: str


class Size(msgspec.Struct, frozen=True):
    """What a node has, or a replica needs."""

    cores: float
    memory_bytes: int
    gpus: float = 0.0

    def fits(self, room: "Size") -> bool:
        """Return whether it fits in `room`."""
        return (
            self.cores <= room.cores + 1e-9 and self.memory_bytes <= room.memory_bytes and self.gpus <= room.gpus + 1e-9
        )

    def without(self, other: "Size") -> "Size":
        """Return what is left when `other` has its part."""
        return Size(self.cores - other.cores, self.memory_bytes - other.memory_bytes, self.gpus - other.gpus)


class Pool(msgspec.Struct, frozen=True):
    """A pool: its nodes now, the replicas that it had at the most, what it costs. there: how many, each STEP_S."""

    name: str
    price: MachinePrice
    nodes: tuple[Size, ...]
    replicas: tuple[Size, ...] = ()
    there: tuple[int, ...] = ()
    is_whole: bool = True  # all its replicas are known, and none must be apart from others


class Other(msgspec.Struct, frozen=True):
    """An endpoint that answers for another one, and is paid by what it does."""

    name: str
    card: Card
    p95_s: float | None = None  # of its answers, where it gave enough


class Own(msgspec.Struct, frozen=True):
    """An endpoint that has another one to fall back to, in a time of so many seconds.

    spent_micro_usd: on its replicas, idle or not. requests: that these answered. sent: that the other one answered
    because of too much load or time. mean: a request of it.
    """

    name: str
    seen_s: int
    requests: int
    sent: int
    mean: Work
    spent_micro_usd: int
    idle_ratio: float
    under_s: float | None = None  # its objective of latency


def pools(known: Sequence[Pool]) -> list[Hint]:
    """Return what to change about pools: their commitments, fewer of their nodes, or another pool's instead."""
    found = []
    for pool in known:
        hints = [reserved(pool), fewer(pool), *(elsewhere(pool, other) for other in known if other.name != pool.name)]
        found += sorted((each for each in hints if each is not None), key=lambda each: -each.saves_micro_usd)[:2]
    return found


def reserved(pool: Pool) -> Hint | None:
    """Return how many nodes a commitment should be for, by what the time until now would have cost with it."""
    held = pool.price.reserved
    if held is None or len(pool.there) * STEP_S < SEEN_S_MIN:
        return None
    node, less = parse_dollars(pool.price.node_hour), parse_dollars(held.node_hour)

    def cost(count: int) -> int:
        return sum(count * less + max(there - count, 0) * node for there in pool.there)

    best = min(range(max(*pool.there, held.nodes) + 1), key=lambda count: (cost(count), abs(count - held.nodes)))
    saved = _monthly(cost(held.nodes) - cost(best), len(pool.there) * 3600)
    if best == held.nodes or not _is_worth(saved, _monthly(cost(held.nodes), len(pool.there) * 3600)):
        return None
    used = sum(min(there, held.nodes) for there in pool.there) / (held.nodes * len(pool.there))
    mean = sum(pool.there) / len(pool.there)
    return Hint(
        "pool",
        pool.name,
        f"reserved.nodes {held.nodes} → {best or 'none'}",
        saved,
        because=(
            f"{mean:.1f} nodes were there on average in {_hours(len(pool.there) * STEP_S)}, {min(pool.there)} to "
            f"{max(pool.there)}; "
            f"a reserved hour that was used cost {_usd(int(less / used)) if used else 'everything'}, one on demand "
            f"{_usd(node)}"
        ),
        assuming=("that the next month is as that time, and that the commitment can be changed at these prices"),
    )


def fewer(pool: Pool) -> Hint | None:
    """Return how many of the pool's own nodes its replicas fit on, where that are fewer."""
    on_demand = len(pool.nodes) - (pool.price.reserved.nodes if pool.price.reserved is not None else 0)
    if on_demand <= 0 or not pool.is_whole:
        return None
    needed = packed(pool.replicas, pool.nodes)
    gone = 0 if needed is None else min(len(pool.nodes) - max(needed, 1), on_demand)
    if gone <= 0:
        return None
    smallest = sorted(pool.nodes, key=_largest)[:gone]
    saved = sum(_node_hour(pool.price, each) for each in smallest) * HOURS_OF_MONTH // NANO_PER_MICRO
    if not _is_worth(saved, _now(pool)):
        return None
    return Hint(
        "pool",
        pool.name,
        f"nodes {len(pool.nodes)} → {len(pool.nodes) - gone}",
        saved,
        because=(
            f"its {len(pool.replicas)} replicas, the most there were, fit on {needed} of its {len(pool.nodes)} nodes"
        ),
        assuming=("that no room is kept for rollouts, bursts or the loss of a node beyond that"),
    )


def elsewhere(pool: Pool, other: Pool) -> Hint | None:
    """Return that the pool's replicas fit on cheaper nodes of the kind that another pool has, if they do."""
    if not (pool.is_whole and pool.replicas and pool.nodes and other.nodes) or not _now(pool):
        return None
    kind = min(other.nodes, key=_largest)  # the least that a node of it has
    needed = packed(pool.replicas, [kind] * len(pool.replicas))
    rate = _node_hour(other.price, kind)
    if needed is None or not rate:
        return None
    saved = _now(pool) - needed * rate * HOURS_OF_MONTH // NANO_PER_MICRO
    if not _is_worth(saved, _now(pool)):
        return None
    return Hint(
        "pool",
        pool.name,
        f"its replicas onto {needed} nodes as pool {other.name} has",
        saved,
        because=(
            f"its {len(pool.replicas)} replicas, the most there were, fit on {needed} nodes of {kind.cores:g} cores "
            f"and {kind.memory_bytes >> 30} GiB for {_usd(rate)} an hour each, on demand"
        ),
        assuming=(
            "that a core there is as fast as one here (no measurement says so), and that this pool's nodes on demand go"
        ),
    )


def packed(replicas: Sequence[Size], nodes: Sequence[Size]) -> int | None:
    """Return on how many of `nodes` the replicas fit, the largest first onto the largest; None: not on all of them."""
    rooms: list[Size] = []
    left = sorted(nodes, key=_largest, reverse=True)
    for replica in sorted(replicas, key=_largest, reverse=True):
        at = next((at for at, room in enumerate(rooms) if replica.fits(room)), None)
        if at is None:
            node = next((node for node in left if replica.fits(node)), None)
            if node is None:
                return None
            left.remove(node)
            rooms.append(node)
            at = len(rooms) - 1
        rooms[at] = rooms[at].without(replica)
    return len(rooms)


def engine(about: str, choice: EngineChoice, under_s: Mapping[str, float], busy_micro_usd: int) -> Hint | None:
    """Return the engine that makes more tokens of the same machine and keeps to what is promised, if there is one.

    Args:
        choice: the engine that runs, and the table that was measured for it.
        under_s: the limits of the objectives `latency` and `ttft`, where there are such.
        busy_micro_usd: what the time in which replicas worked costs a month.
    """
    able = {row.engine: row for row in choice.rows if not row.error and row.tokens_per_s > 0}
    now = able.get(choice.engine)
    kept = [row for row in able.values() if _holds(row, under_s)]
    if now is None or not kept:
        return None
    best = max(kept, key=lambda row: row.tokens_per_s)
    if best.tokens_per_s * (1 - TIE_RATIO) <= now.tokens_per_s:
        return None
    saved = busy_micro_usd - int(busy_micro_usd * now.tokens_per_s / best.tokens_per_s)
    if saved <= 0:
        return None
    return Hint(
        "engine",
        about,
        f"engine {now.engine} → {best.engine}",
        saved,
        because=(
            f"as measured here with {best.slots} at once: {best.engine} {best.tokens_per_s:.0f} tokens/s, an answer in "
            f"{_loaded_s(best):.2f} s, first token {best.first_token_s:.3f} s alone; {now.engine} "
            f"{now.tokens_per_s:.0f} tokens/s"
        ),
        assuming=("that the time in which replicas work shrinks by as much, and that requests are as those measured"),
    )


def idle_own(own: Own, other: Other) -> Hint | None:
    """Return that what went to another one could have been answered here, where replicas stood idle meanwhile."""
    if own.sent < REQUESTS_MIN or own.idle_ratio < IDLE_RATIO or not own.seen_s:
        return None
    saved = _monthly(own.sent * price(other.card, own.mean), own.seen_s)
    if saved <= 0:
        return None
    return Hint(
        "fallback",
        own.name,
        f"answer here what goes to {other.name}: a longer queue, or a later fallback_after",
        saved,
        because=(
            f"{own.sent:,} requests in {_hours(own.seen_s)} went to {other.name} for too much load or time, beside "
            f"{own.requests:,} that were answered here, for {_usd(price(other.card, own.mean))} each; its own replicas "
            f"had no work {own.idle_ratio * 100:.0f} % of the time"
        ),
        assuming=(
            f"that the provider of {other.name} takes the price that is written for it, and that who came in a "
            "burst would have waited"
        ),
    )


def rented(own: Own, other: Other) -> Hint | None:
    """Return that another one answers for less than the own replicas cost at this load, if it is fast enough."""
    if own.requests < REQUESTS_MIN or own.spent_micro_usd <= 0 or not own.seen_s:
        return None
    is_slow = own.under_s is not None and other.p95_s is not None and other.p95_s > own.under_s
    each = price(other.card, own.mean)
    own_month = _monthly(own.spent_micro_usd * NANO_PER_MICRO, own.seen_s)
    there = _monthly(own.requests * each, own.seen_s)
    if is_slow or not each or not _is_worth(own_month - there, own_month):
        return None
    fast = "its latency was not measured" if other.p95_s is None else f"its p95 was {other.p95_s:.3g} s"
    return Hint(
        "fallback",
        own.name,
        f"replicas.min=0, and {other.name} answers",
        own_month - there,
        because=(
            f"{own.requests:,} requests in {_hours(own.seen_s)} cost "
            f"{_usd(own.spent_micro_usd * NANO_PER_MICRO // own.requests)} each on own replicas, idle "
            f"{own.idle_ratio * 100:.0f} % of the time; {other.name} {_usd(each)}; {fast}"
        ),
        assuming=(
            f"that the provider of {other.name} takes the price that is written for it, that its answers do as "
            "well, and that machines go when they are empty"
        ),
    )


def _holds(row: EngineMeasurement, under_s: Mapping[str, float]) -> bool:
    latency_s, ttft_s = under_s.get("latency"), under_s.get("ttft")
    return (latency_s is None or _loaded_s(row) <= latency_s) and (ttft_s is None or row.first_token_s <= ttft_s)


def _loaded_s(row: EngineMeasurement) -> float:
    """Return how long an answer takes with all slots busy."""
    return max(row.slots * row.answer_tokens / row.tokens_per_s, row.answer_s)


def _largest(size: Size) -> tuple[float, float, int]:
    return size.gpus, size.cores, size.memory_bytes


def _node_hour(machine: MachinePrice, node: Size) -> int:
    """Return what such a node costs an hour on demand, with its GPUs, in nano-dollars."""
    return parse_dollars(machine.node_hour) + int(node.gpus) * parse_dollars(machine.gpu_hour)


def _now(pool: Pool) -> int:
    """Return what the pool's nodes on demand cost a month, in micro-dollars: what is reserved is paid in any case."""
    held = pool.price.reserved.nodes if pool.price.reserved is not None else 0
    free = sorted(pool.nodes, key=_largest)[: max(len(pool.nodes) - held, 0)]
    return sum(_node_hour(pool.price, each) for each in free) * HOURS_OF_MONTH // NANO_PER_MICRO


def _monthly(nano_usd: int, seen_s: int) -> int:
    """Return what comes to so much in so many seconds, in micro-dollars a month."""
    return nano_usd * MONTH_S // (seen_s * NANO_PER_MICRO)


def _hours(seen_s: int) -> str:
    return f"{seen_s / 3600:.0f} h" if seen_s >= 7200 else f"{seen_s // 60} min"


def _is_worth(saved_micro_usd: int, now: int) -> bool:
    return saved_micro_usd > 0 and saved_micro_usd * WORTH_SHARE >= now


def _usd(nano_usd: int) -> str:
    amount = nano_usd / 1e9
    return f"${amount:,.2f}" if amount >= 0.1 else f"${amount:.3g}"
