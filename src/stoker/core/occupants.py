"""Which tenants hold the places of an endpoint, and who of those that wait is owed one although none is free.

A replica that makes calls of many requests holds one call that runs and one that waits, so that it never idles. Whoever
comes when a busy tenant has filled both would wait for both, and then for its own: three calls, however little it asks
for. So a tenant that holds less than its part of the places may go past them while others hold more than theirs: its
request joins the call that waits, in front of what is there (core/turns.py), and waits for two.

What is lost is nothing: calls stay as full as they were. What is at most in a replica so: PAST_MAX times its places.

Several gateways share the places, and clients do not spread their requests evenly over them. Each tells the others what
its tenants hold, and a tenant's part is of all places. Of one gateway's alone, a quiet tenant whose connections were
mostly there had filled its part of that half with a fifth of the load, and waited up to six calls (measured).
"""

from collections.abc import Mapping
from typing import Final

PAST_MAX: Final = 2
KEPT_MAX: Final = 64  # of tenants that hold nothing now: most come again, and making one takes longer than all else
NOBODY: Final = 0.005  # half of the least weight of a key: a sum of nobody's, whose floats have drifted
TOLD_MAX: Final = 64  # tenants that one gateway is told of by another: those that hold most


class Occupant:
    """A tenant: how many places it holds here and in other gateways, and its weight when it took the first of them."""

    __slots__ = ("count", "elsewhere", "name", "weight")

    def __init__(self, name: str) -> None:
        self.name = name
        self.weight = 0.0
        self.count = self.elsewhere = 0


class Occupants:
    """Those that hold places now. Bounded by the places, KEPT_MAX, and what others may tell."""

    __slots__ = ("_by_name", "_elsewhere", "_idle", "_weight")

    def __init__(self) -> None:
        self._by_name: dict[str, Occupant] = {}
        self._elsewhere: list[Occupant] = []  # those that hold any in other gateways
        self._idle = 0  # of all, hold nothing
        self._weight = 0.0  # of the others together

    def __len__(self) -> int:
        return len(self._by_name) - self._idle

    def took(self, name: str, weight: float) -> Occupant:
        """Count a place taken by the tenant `name`; return what gives it back."""
        found = self._by_name.get(name)
        if found is None:
            found = self._add(name)
        if not found.count and not found.elsewhere:
            self._begins(found, weight)
        found.count += 1
        return found

    def left(self, occupant: Occupant) -> None:
        """Count a place given back."""
        occupant.count -= 1
        if not occupant.count and not occupant.elsewhere:
            self._ends(occupant)

    def held(self) -> dict[str, tuple[int, float]]:
        """Return how many places each tenant holds in this gateway, and its weight: TOLD_MAX of those with the most."""
        found = sorted((each for each in self._by_name.values() if each.count), key=lambda each: -each.count)
        return {each.name: (each.count, each.weight) for each in found[:TOLD_MAX]}

    def hear(self, elsewhere: Mapping[str, tuple[int, float]]) -> None:
        """Take what tenants hold in all other gateways, by name, with their weights, instead of what was heard before.

        Bounded by the caller, which hears TOLD_MAX of each.
        """
        before, self._elsewhere = self._elsewhere, []
        told = {name: each for name, each in elsewhere.items() if each[0] > 0 and each[1] > 0.0}
        for name, (count, weight) in told.items():
            found = self._by_name.get(name)
            if found is None:
                found = self._add(name)
            if not found.count and not found.elsewhere:
                self._begins(found, weight)
            found.elsewhere = count
            self._elsewhere.append(found)
        for each in before:
            if each.name not in told:
                each.elsewhere = 0
                if not each.count:
                    self._ends(each)

    def may_be_below(self, places: int) -> bool:
        """Return whether to ask `is_below` of those that wait, who may be hundreds.

        With as many tenants as places nobody's part is more than the one that each has: then turns alone decide.
        """
        return len(self) < places

    def is_below(self, name: str, weight: float, places: int) -> bool:
        """Return whether one more place leaves the tenant in its part of `places`, by weight, of all that hold any.

        Args:
            places: of all gateways, where what they hold was heard.
        """
        found = self._by_name.get(name)
        if found is None or not found.count + found.elsewhere:
            return places * weight >= self._weight + weight
        return (found.count + found.elsewhere + 1) * self._weight <= places * found.weight

    def _add(self, name: str) -> Occupant:
        found = self._by_name[name] = Occupant(name)
        self._idle += 1
        return found

    def _begins(self, occupant: Occupant, weight: float) -> None:
        occupant.weight = weight
        self._weight += weight
        self._idle -= 1

    def _ends(self, occupant: Occupant) -> None:
        self._weight -= occupant.weight
        if self._weight < NOBODY:
            self._weight = 0.0
        self._idle += 1
        if self._idle > KEPT_MAX:
            self._by_name = {name: each for name, each in self._by_name.items() if each.count or each.elsewhere}
            self._idle = 0
