"""Virtual time: events in a heap, each a call at a moment; of equal moments the one that was asked for first."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

Call = Callable[..., None]


class Clock:
    """The time that has been reached, and what is to come."""

    __slots__ = ("_asked", "_heap", "now_s")

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Call, tuple[Any, ...]]] = []
        self._asked = 0

    def at(self, when_s: float, call: Call, *arguments: Any) -> None:
        """Call at `when_s`, now at the earliest. Nothing is taken back: who is called looks whether it still holds."""
        self._asked += 1
        heappush(self._heap, (max(when_s, self.now_s), self._asked, call, arguments))

    def run(self, until_s: float) -> None:
        """Handle every event before `until_s`, and be there."""
        heap = self._heap
        while heap and heap[0][0] < until_s:
            self.now_s, _, call, arguments = heappop(heap)
            call(*arguments)
        self.now_s = until_s
