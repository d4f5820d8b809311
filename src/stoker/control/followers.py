"""Which route table each gateway follows, by its own word: it asks for the next one when it has and keeps the last.

Who makes a key hears the answer when the gateways know it: so a key that is just made is never taken for a guess, and
nobody has to be asked on the way of a request.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

GATEWAYS_MAX: Final = 256
LOST_S: Final = 10.0  # one that took a table and asks for none since then is dead, and nobody waits for it


class _Follower(msgspec.Struct):
    """One gateway. taken_s: when it took its last answer; None while it asks."""

    version: int
    taken_s: float | None = None


class Followers:
    """The gateways of one control process, by name. Made in a running event loop; times are that loop's."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self._now = now or (lambda: asyncio.get_running_loop().time())
        self._known: OrderedDict[str, _Follower] = OrderedDict()
        self._waiters: set[asyncio.Future[None]] = set()

    def asks(self, gateway: str, version: int) -> None:
        """Note that a gateway follows `version` and asks for a newer one."""
        self._known[gateway] = _Follower(version)
        self._known.move_to_end(gateway)
        if len(self._known) > GATEWAYS_MAX:
            self._known.popitem(last=False)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def takes(self, gateway: str) -> None:
        """Note that a gateway has its answer, and asks nothing for now."""
        found = self._known.get(gateway)
        if found is not None:
            found.taken_s = self._now()

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
            left_s = end_s - self._now()
            if left_s <= 0:
                return found
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await asyncio.wait((waiter,), timeout=left_s)
            finally:
                self._waiters.discard(waiter)
                waiter.cancel()
        return ()
