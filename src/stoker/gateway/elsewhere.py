"""What the other gateways told of one endpoint: what its tenants hold and were given there, and whether somebody waits.

Parts and turns past full places are of all gateways together (core/occupants.py, core/fairness.py); who tells whom and
when is telling.py. What is not heard again within HEARD_S is forgotten: then this gateway judges by itself alone.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

import msgspec

from stoker.core.occupants import TOLD_MAX, Occupants
from stoker.gateway.fleet.replica import Replica

HEARD_S: Final = 1.0  # twice what a telling takes where one of the others does not answer (siblings.py)
LANES_MAX: Final = 64  # endpoints told of at once; the others wait their turn


class Standing(msgspec.Struct, frozen=True, array_like=True):
    """One endpoint in one gateway.

    tenants: by name the places held, the weight (0 where nothing is held), and the units of service by weight that were
    given since the gateway began to count. At most TOLD_MAX.
    """

    project: str
    endpoint: str
    waiting: int
    tenants: dict[str, tuple[int, float, float]]


class Told(msgspec.Struct, frozen=True, array_like=True):
    """What one gateway says to another, and is answered (CALL `standing`)."""

    gateway: str
    lanes: list[Standing]


class Elsewhere:
    """All other gateways, of one endpoint. Bounded by their number, and TOLD_MAX tenants of each."""

    __slots__ = ("_told", "is_heard", "waiting")

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, Standing]] = {}  # when, by gateway
        self.is_heard = False
        self.waiting = 0  # in how many of them somebody waits

    def hear(self, gateway: str, standing: Standing, now_s: float) -> dict[str, float]:
        """Take what `gateway` says; return the units by weight that it gave to tenants since it spoke last."""
        last = self._told.get(gateway)
        self._told[gateway] = (now_s, standing)
        self._look()
        if last is None:
            return {}
        before, given = last[1].tenants, {}
        for name, (_, _, units) in islice(standing.tenants.items(), 2 * TOLD_MAX):
            if name in before:
                was = before[name][2]
                given[name] = units - was if units >= was else units  # fewer: it began to count anew
        return given

    def fade(self, now_s: float) -> bool:
        """Forget who was silent for too long; return whether anybody was."""
        silent = [name for name, (heard_s, _) in self._told.items() if now_s - heard_s > HEARD_S]
        for name in silent:
            del self._told[name]
        if silent:
            self._look()
        return bool(silent)

    def held(self) -> dict[str, tuple[int, float]]:
        """Return the places that tenants hold there together, and their weights."""
        found: dict[str, tuple[int, float]] = {}
        for _, standing in self._told.values():
            for name, (count, weight, _) in islice(standing.tenants.items(), 2 * TOLD_MAX):
                if count > 0:
                    found[name] = (found[name][0] + count if name in found else count, weight)
        return found

    def _look(self) -> None:
        self.is_heard = bool(self._told)
        self.waiting = sum(standing.waiting > 0 for _, standing in self._told.values())


def tenants(occupants: Occupants, given: Mapping[str, float]) -> dict[str, tuple[int, float, float]]:
    """Return what is told of tenants: those that hold places first, then others that were given service."""
    held = occupants.held()
    found = {name: (count, weight, given.get(name, 0.0)) for name, (count, weight) in held.items()}
    rest = (name for name in given if name not in held)
    return found | {name: (0, 0.0, given[name]) for name in islice(rest, TOLD_MAX - len(found))}


def places_of_all(replicas: Iterable[Replica], most: int) -> int:
    """Return how many requests `replicas` may hold for all gateways together, each `most` at the most."""
    return sum(min(each.stats.slots or each.learned.limit, most) for each in replicas)
