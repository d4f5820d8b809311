"""How long a request may take: `x-request-timeout-ms`, within TIMEOUT_MAX_S, or the endpoint's own.

Outside of everything that waits. Deadlines lie in slots of TICK_S rather than in one timer each, because a timer of the
event loop costs 1.9 µs a request and this 0.3.
"""

import asyncio
import time
from typing import Final

from stoker.gateway.exchange import Exchange, Handler
from stoker.types.errors import DeadlineExceeded, InvalidInput

TIMEOUT_MAX_S: Final = 3600.0
TICK_S: Final = 0.01


class Deadlines:
    """Interrupts exchanges when their time is over; at most TICK_S late. Ticks only while there are any."""

    def __init__(self) -> None:
        self._slots: dict[int, set[Exchange]] = {}
        self._next = 0
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, exchange: Exchange) -> int:
        """Watch `exchange`; return the slot it is in."""
        slot = int(exchange.deadline_s / TICK_S) + 1
        found = self._slots.get(slot)
        if found is None:
            found = self._slots[slot] = set()
        found.add(exchange)
        self._count += 1
        if self._timer is None:
            self._next = int(time.monotonic() / TICK_S)
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        return slot

    def discard(self, exchange: Exchange, slot: int) -> None:
        """Watch `exchange` no more."""
        self._count -= 1
        found = self._slots.get(slot)
        if found is not None:
            found.discard(exchange)
            if not found:
                del self._slots[slot]

    def _tick(self) -> None:
        now = int(time.monotonic() / TICK_S)
        if now - self._next > len(self._slots):  # after a pause: look at what is there rather than at every slot
            due = [slot for slot in self._slots if slot <= now]
        else:
            due = [slot for slot in range(self._next, now + 1) if slot in self._slots]
        self._next = now + 1
        for slot in due:
            for exchange in self._slots.pop(slot):
                exchange.interrupt(late(exchange))
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick) if self._count else None


def deadline(deadlines: Deadlines, inner: Handler) -> Handler:
    """Set the exchange's deadline and hold it."""

    async def handle(exchange: Exchange) -> None:
        assert exchange.lane is not None
        timeout_s = exchange.lane.route.timeout_s
        wanted = exchange.request.headers.get(b"x-request-timeout-ms")
        if wanted is not None:
            timeout_s = _timeout_s(wanted)
        exchange.deadline_s = exchange.request.started_s + timeout_s
        slot = deadlines.add(exchange)
        try:
            await inner(exchange)
        finally:
            deadlines.discard(exchange, slot)

    return handle


def late(exchange: Exchange) -> DeadlineExceeded:
    """Return what is told when the deadline has passed."""
    timeout_s = exchange.deadline_s - exchange.request.started_s
    what = "no replica was free" if exchange.relay is None else "not finished"
    return DeadlineExceeded(f"{what} in {timeout_s:g} s; x-request-timeout-ms or the endpoint's timeout can allow more")


def _timeout_s(text: bytes) -> float:
    if not text.isdigit() or len(text) > 12 or int(text) == 0:
        raise InvalidInput(
            f"{text[:40].decode('latin-1')!r} is no timeout; send whole milliseconds", field="x-request-timeout-ms"
        )
    return min(int(text) / 1000, TIMEOUT_MAX_S)
