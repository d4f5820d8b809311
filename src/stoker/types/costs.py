"""What machines cost, as an operator writes it, and the lines that say where the money went."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from stoker.types.days import parse_day
from stoker.types.fields import Name
from stoker.types.placement import DEFAULT_POOL
from stoker.types.prices import Dollars, parse_dollars

Payer = Literal["none", "owner", "proportional"]

# Where the money of a machine went. "requests" are answers to who asked; all else is what it took besides.
LineKind = Literal[
    "requests",
    "failed",  # work whose answer was an error, or that its caller left
    "retries",  # tries of requests that were tried again
    "hedges",  # second tries whose answer was not needed
    "canary",  # requests that a version on trial answered
    "shadow",  # copies for a version on trial
    "unmetered",  # work that no request is known for: probes, warm-up, a record that was lost
    "cold_start",  # replicas on their way to be ready
    "keep_warm",  # replicas kept although nobody called, because waiting would have cost more
    "idle",  # ready replicas without work
    "unallocated",  # what of a node no replica held
    "reserved_unused",  # machines that are paid for and not there
]
OVERHEAD: Final[frozenset[LineKind]] = frozenset(("failed", "retries", "hedges", "canary", "shadow", "unmetered"))
POOLS_MAX: Final = 64
NOBODY: Final = ""  # the project of what the platform itself pays


class Reserved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Machines that are paid for whether they are there or not."""

    nodes: Annotated[int, Meta(ge=1, le=100_000)]
    node_hour: Dollars


class MachinePrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a pool's machines cost from a date on, in dollars."""

    since: Annotated[
        str,
        Meta(
            pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(?!\n)$",
            description="the first day, in UTC, on which it holds; by default always",
        ),
    ] = "1970-01-01"
    node_hour: Annotated[Dollars, Meta(description="a machine, without its GPUs, for an hour")] = 0
    gpu_hour: Annotated[Dollars, Meta(description="one GPU for an hour")] = 0
    replica_hour: Annotated[Dollars, Meta(description="one replica for an hour, where replicas are what is billed")] = (
        "0"
    )
    reserved: Annotated[
        Reserved | None, Meta(description="of the pool's machines, those with a commitment; the others cost node_hour")
    ] = None


class PoolPrices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The prices of one pool, and who pays for what of it nobody used."""

    prices: Annotated[tuple[MachinePrice, ...], Meta(min_length=1, max_length=64)]
    pool: Name = DEFAULT_POOL
    idle: Annotated[
        Payer,
        Meta(
            description="who pays for cold starts, idle replicas and free machines: none (the platform; shown all the "
            "same), owner (the endpoint's project) or proportional (who called the endpoint, by what was done for them)"
        ),
    ] = "owner"
    overhead: Annotated[
        Payer,
        Meta(description="who pays for failed answers, retries, hedges, canaries and shadow copies; as for idle"),
    ] = "owner"

    def check(self) -> None:
        """Raise ValueError, with what is wrong, for a price or a day that cannot be read."""
        for each in self.prices:
            dollars = [each.node_hour, each.gpu_hour, each.replica_hour]
            for amount in dollars if each.reserved is None else [*dollars, each.reserved.node_hour]:
                parse_dollars(amount)
            parse_day(each.since)


class PriceList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the machines of all pools cost; one that is not in it costs nothing."""

    pools: Annotated[tuple[PoolPrices, ...], Meta(max_length=POOLS_MAX)] = ()

    def check(self) -> None:
        """Raise ValueError, with what is wrong, for one that cannot be read or has a pool twice."""
        names = [each.pool for each in self.pools]
        if len(set(names)) < len(names):
            raise ValueError(f"a pool has one list of prices; twice there is {max(names, key=names.count)!r}")
        for each in self.pools:
            each.check()


class CostLine(msgspec.Struct, frozen=True):
    """An amount of nano-dollars and where it went.

    ms: the machine time it is for: of replicas; of a node where nothing held it, or where it was missing. payer: the
    project that pays; NOBODY: the platform. key and tags name whose work it was, where it was somebody's.
    """

    kind: LineKind
    pool: str
    nano_usd: int
    ms: int
    payer: str = NOBODY
    project: str = ""
    endpoint: str = ""
    revision: str = ""
    key: str = ""
    tags: tuple[tuple[str, str], ...] = ()
