"""A line that is slow and loses pieces, as a bad network is to whoever sends over it: all comes, in order, but late.

On one machine processes speak over Unix sockets, which no queueing discipline of the kernel (netem) touches; so the
end that is told to does it itself.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

HELD_BYTES_MAX: Final = 64 << 20  # on their way in one direction; of more the oldest arrive sooner
RESENT_S: Final = 0.3  # until TCP sends again what was lost: 0.2 s at least, and the way there once more


class Impairment(msgspec.Struct, frozen=True):
    """How bad it is, each way."""

    delay_s: float
    loss_ratio: float


class Late:
    """One direction. `is_busy`: something is on its way, and what comes next has to wait behind it."""

    __slots__ = ("_deliver", "_due_s", "_held", "_held_bytes", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[bytes], object]) -> None:
        self._loop = loop
        self._deliver = deliver
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._due_s = 0.0

    @property
    def is_busy(self) -> bool:
        """See the class."""
        return bool(self._held)

    def carry(self, data: bytes, how: Impairment | None) -> None:
        """Deliver `data` late by what `how` says; None: as soon as what is on its way has arrived."""
        now_s = self._loop.time()
        late_s = 0.0
        if how is not None:
            late_s = how.delay_s + (RESENT_S if random.random() < how.loss_ratio else 0.0)
        self._due_s = max(self._due_s, now_s + late_s)
        self._held.append(data)
        self._held_bytes += len(data)
        # Timers that are due together may fire in any order: each delivers the oldest piece, whosever it is.
        self._loop.call_later(self._due_s - now_s, self._next)
        while self._held_bytes > HELD_BYTES_MAX:
            self._next()

    def flush(self) -> None:
        """Deliver at once what is on its way."""
        while self._held:
            self._next()

    def drop(self) -> None:
        """Lose what is on its way: the connection is gone."""
        self._held.clear()
        self._held_bytes = 0

    def _next(self) -> None:
        if self._held:
            data = self._held.popleft()
            self._held_bytes -= len(data)
            self._deliver(data)
