"""Which tenants hold the places of an endpoint, and who of those that wait is owed one although none is free.

A replica that makes calls of many requests holds one call that runs and one that waits, so that it never idles. Whoever
comes when a busy tenant has filled both would wait for both, and then for its own: three calls, however little it asks
for. So a tenant that holds less than its part of the places may go past them while others hold more than theirs: its
request joins the call that waits, in front of what is there (core/turns.py), and waits for two.

What is lost is nothing: calls stay as full as they were. What is at most in a replica so: PAST_MAX times its places.
"""

from typing import Final

PAST_MAX: Final = 2
KEPT_MAX: Final = 64  # of tenants that hold nothing now: most come again, and making one takes longer than all else
NOBODY: Final = 0.005  # half of the least weight of a key: a sum of nobody's, whose floats have drifted


class Occupant:
    """A tenant: how many places it holds, and its weight when it took the first of them."""

    __slots__ = ("count", "name", "weight")

    def __init__(self, name: str) -> None:
        self.name = name
        self.weight = 0.0
        self.count = 0


class Occupants:
    """Those that hold places now. Bounded by the places, and KEPT_MAX besides."""

    __slots__ = ("_by_name", "_idle", "_weight")

    def __init__(self) -> None:
        self._by_name: dict[str, Occupant] = {}
        self._idle = 0  # of them, hold nothing
        self._weight = 0.0  # of the others together

    def __len__(self) -> int:
        return len(self._by_name) - self._idle

    def took(self, name: str, weight: float) -> Occupant:
        """Count a place taken by the tenant `name`; return what gives it back."""
        found = self._by_name.get(name)
        if found is None:
            found = self._by_name[name] = Occupant(name)
            self._idle += 1
        if not found.count:
            found.weight = weight
            self._weight += weight
            self._idle -= 1
        found.count += 1
        return found

    def left(self, occupant: Occupant) -> None:
        """Count a place given back."""
        occupant.count -= 1
        if not occupant.count:
            self._weight -= occupant.weight
            if self._weight < NOBODY:
                self._weight = 0.0
            self._idle += 1
            if self._idle > KEPT_MAX:
                self._by_name = {name: each for name, each in self._by_name.items() if each.count}
                self._idle = 0

    def may_be_below(self, places: int) -> bool:
        """Return whether to ask `is_below` of those that wait, who may be hundreds.

        With as many tenants as places nobody's part is more than the one that each has: then turns alone decide.
        """
        return len(self) < places

    def is_below(self, name: str, weight: float, places: int) -> bool:
        """Return whether one more place leaves the tenant in its part of `places`, by weight, of all that hold any."""
        found = self._by_name.get(name)
        if found is None or not found.count:
            return places * weight >= self._weight + weight
        return (found.count + 1) * self._weight <= places * found.weight
