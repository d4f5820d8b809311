"""Wakes everybody who waits for one thing to change; whoever waits looks for themselves whether it has."""

import asyncio
from typing import Final

WAITERS_MAX: Final = 256  # of one bell, far more than a machine has gateways; one more does not wait


class Bell:
    """Used within one event loop."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()
        self._is_broken = False

    def ring(self) -> None:
        """Wake all who wait now."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def shatter(self) -> None:
        """Wake all who wait, and let nobody wait any more: this process ends."""
        self._is_broken = True
        self.ring()

    async def wait(self, timeout_s: float) -> bool:
        """Return True when it rang; False when the time was over, nobody may wait any more, or too many do."""
        if timeout_s <= 0 or self._is_broken or len(self._waiters) >= WAITERS_MAX:
            return False
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait((waiter,), timeout=timeout_s)
        finally:
            self._waiters.discard(waiter)
        return waiter.done() and not self._is_broken
