"""Which route table each gateway follows, by its own word: it asks for the next one when it has and keeps the last.

Who makes a key hears the answer when the gateways know it: so a key that is just made is never taken for a guess, and
nobody has to be asked on the way of a request.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from stoker.control.bell import Bell

GATEWAYS_MAX: Final = 256
LOST_S: Final = 10.0  # one that took a table and asks for none since then is dead, and nobody waits for it


class Follower(msgspec.Struct):
    """One gateway, since it asked last. taken_s: when it took its answer; None while it waits for that."""

    version: int
    taken_s: float | None = None


class Followers:
    """The gateways of one control process, by name. Made in a running event loop; times are that loop's."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self._now = now or (lambda: asyncio.get_running_loop().time())
        self._known: OrderedDict[str, Follower] = OrderedDict()
        self._asked = Bell()

    def asks(self, gateway: str, version: int) -> Follower:
        """Note that a gateway follows `version` and asks for a newer one; return what `takes` is told of."""
        found = self._known[gateway] = Follower(version)
        self._known.move_to_end(gateway)
        if len(self._known) > GATEWAYS_MAX:
            self._known.popitem(last=False)
        self._asked.ring()
        return found

    def takes(self, asked: Follower) -> None:
        """Note that a gateway has its answer, and asks nothing for now. One that asked again meanwhile still asks."""
        asked.taken_s = self._now()

    def behind(self, version: int) -> tuple[str, ...]:
        """Return the connected gateways that follow an older table than `version`."""
        now_s = self._now()
        for name in [name for name, each in self._known.items() if each.taken_s is not None]:
            if now_s - (self._known[name].taken_s or 0.0) > LOST_S:
                del self._known[name]
        return tuple(sorted(name for name, each in self._known.items() if each.version < version))

    async def follow(self, version: int, wait_s: float) -> tuple[str, ...]:
        """Return when every connected gateway follows `version`, or after `wait_s`: those that do not."""
        end_s = self._now() + wait_s
        while found := self.behind(version):
            if not await self._asked.wait(end_s - self._now()):
                return found
        return ()

    def release(self) -> None:
        """Let everybody who waits go on: this process ends."""
        self._asked.shatter()
