"""Who of many is worth a line of its own in a table that has few: the busiest, and everybody else together.

Source: Space-Saving (Metwally, Agrawal, El Abbadi 2005): whoever comes when the table is full takes the place of the
least busy of those without a line and inherits its count, so that nobody who is really busy is overlooked. Counts halve
with every turn, and a line changes hands only for SWAP_RATIO of its holder's count: lines that flicker show nothing.
"""

from typing import Final

SWAP_RATIO: Final = 2.0
FADE: Final = 0.5
FORGOTTEN: Final = 0.01  # a count this low is none


class Leaders:
    """At most `most` names with a line, and as many that are watched for one."""

    __slots__ = ("_leading", "_most", "_others")

    def __init__(self, most: int) -> None:
        self._most = most
        self._leading: dict[str, float] = {}
        self._others: dict[str, float] = {}

    def see(self, name: str, count: float = 1.0) -> bool:
        """Count `name` so many times more; return whether it has a line."""
        if name in self._leading:
            self._leading[name] += count
            return True
        if len(self._leading) < self._most:
            self._leading[name] = self._others.pop(name, 0.0) + count
            return True
        if name in self._others:
            self._others[name] += count
        elif len(self._others) < self._most:
            self._others[name] = count
        else:
            least = min(self._others, key=self._others.__getitem__)
            self._others[name] = self._others.pop(least) + count
        return False

    def turn(self) -> list[str]:
        """Give lines to who is busier than their holders, let the past fade, and return who lost a line."""
        lost: list[str] = []
        while self._others:
            rising = max(self._others, key=self._others.__getitem__)
            least = min(self._leading, key=self._leading.__getitem__)
            if self._others[rising] <= SWAP_RATIO * self._leading[least]:
                break
            self._leading[rising], self._others[least] = self._others.pop(rising), self._leading.pop(least)
            lost.append(least)
        self._leading = {name: count * FADE for name, count in self._leading.items()}
        self._others = {name: count * FADE for name, count in self._others.items() if count * FADE > FORGOTTEN}
        return lost
