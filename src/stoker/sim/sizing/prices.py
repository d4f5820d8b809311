"""What replicas cost by the hour: pools of machines with a price of a node, a core, a GPU or a replica."""

import math
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from stoker.types.errors import InvalidInput
from stoker.types.fields import Name

HOURS_OF_MONTH: Final = 730.0

Usd = Annotated[float, Meta(ge=0, le=1_000_000)]


class Pool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of machine; all of its prices add up.

    replicas_per_node: how many fit on a node, whose price is paid whole. gpus: that a replica takes. speed: of its
    replicas, against the engine's numbers.
    """

    name: Name
    node_hour: Usd = 0.0
    replicas_per_node: Annotated[int, Meta(ge=1, le=1000)] = 1
    core_hour: Usd = 0.0
    gpu_hour: Usd = 0.0
    gpus: Annotated[int, Meta(ge=0, le=64)] = 1
    replica_hour: Usd = 0.0
    speed: Annotated[float, Meta(gt=0, le=1000)] = 1.0

    def usd_per_hour(self, replicas: int, cores: float) -> float:
        """Return what so many replicas of so many cores each cost an hour."""
        nodes = math.ceil(replicas / self.replicas_per_node)
        each = self.core_hour * cores + self.gpu_hour * self.gpus + self.replica_hour
        return nodes * self.node_hour + replicas * each


class PriceList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The pools to choose from."""

    pools: Annotated[tuple[Pool, ...], Meta(min_length=1, max_length=8)]


# Without prices the answer with the fewest replica-hours is the cheapest.
UNPRICED: Final = Pool("replicas", replica_hour=1.0)


def checked(said: PriceList) -> tuple[Pool, ...]:
    """Return the pools. Raises InvalidInput for two of a name, or one that costs nothing."""
    names = [each.name for each in said.pools]
    for each in said.pools:
        if names.count(each.name) > 1:
            raise InvalidInput(f"two pools are called {each.name}")
        if each.usd_per_hour(1, 1.0) <= 0.0:
            raise InvalidInput(
                f"pool {each.name} costs nothing; give it node_hour, core_hour, gpu_hour or replica_hour"
            )
    return said.pools
