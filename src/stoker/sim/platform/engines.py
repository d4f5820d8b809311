"""How long work takes inside a replica: independent places, or one batch after the other (generating.py: in steps)."""

from collections import deque
from typing import Final

from stoker.core import batch, concurrency
from stoker.core.latency import Lines
from stoker.sim.platform import plan
from stoker.sim.platform.clock import Clock
from stoker.sim.platform.engine import Done, Dropped, Engine
from stoker.sim.platform.generating import GeneratingEngine
from stoker.sim.platform.request import Request

BATCH_BYTES_MAX: Final = 1 << 40  # requests here have no bytes


def make(kind: plan.Engine, clock: Clock, done: Done, dropped: Dropped, slower: float) -> Engine:
    """Return an engine that takes `slower` times as long as `kind` says."""
    match kind:
        case plan.Places():
            return PlacesEngine(kind, clock, done, slower)
        case plan.Batching():
            return BatchingEngine(kind, clock, done, dropped, slower)
        case plan.Generating():
            return GeneratingEngine(kind, clock, done, slower)


class PlacesEngine:
    """So many requests at once, each for its own time; the rest waits in order."""

    def __init__(self, kind: plan.Places, clock: Clock, done: Done, slower: float) -> None:
        self.slots = kind.places
        self._clock, self._done, self._slower = clock, done, slower
        self._running: set[Request] = set()
        self._waiting: deque[Request] = deque()
        self._is_stopped = False

    def submit(self, request: Request) -> None:
        """See Engine."""
        if len(self._running) < self.slots:
            self._begin(request)
        else:
            self._waiting.append(request)

    def stop(self) -> list[Request]:
        """See Engine."""
        self._is_stopped = True
        return [*sorted(self._running, key=lambda each: each.number), *self._waiting]

    def _begin(self, request: Request) -> None:
        clock = self._clock
        request.begun_s = clock.now_s
        self._running.add(request)
        clock.at(clock.now_s + request.service_s * self._slower, self._end, request)

    def _end(self, request: Request) -> None:
        if self._is_stopped:
            return
        self._running.remove(request)
        if self._waiting:
            self._begin(self._waiting.popleft())
        request.first_s = self._clock.now_s
        self._done(request)


class BatchingEngine:
    """One batch after the other, composed by core/batch.py over lines that it learns as a live replica does."""

    def __init__(self, kind: plan.Batching, clock: Clock, done: Done, dropped: Dropped, slower: float) -> None:
        self.slots = concurrency.holdable(kind.base_s, kind.row_s, kind.max_rows)
        self._kind, self._clock, self._done, self._dropped, self._slower = kind, clock, done, dropped, slower
        self._lines = Lines()
        self._waiting: list[Request] = []
        self._running: list[Request] = []
        self._is_asked = self._is_stopped = False

    def submit(self, request: Request) -> None:
        """See Engine."""
        self._waiting.append(request)
        if not self._running and not self._is_asked:  # with all that comes in this moment
            self._is_asked = True
            self._clock.at(self._clock.now_s, self._begin)

    def stop(self) -> list[Request]:
        """See Engine."""
        self._is_stopped = True
        return [*self._running, *self._waiting]

    def _begin(self) -> None:
        self._is_asked = False
        if self._running or self._is_stopped:
            return
        now_s, kind, waiting = self._clock.now_s, self._kind, self._waiting
        planned = batch.plan(waiting, self._lines, max_rows=kind.max_rows, max_bytes=BATCH_BYTES_MAX, now_s=now_s)
        gone = {*planned.take, *planned.drop}
        self._running = [waiting[at] for at in planned.take]
        dropped = [waiting[at] for at in planned.drop]
        self._waiting = [each for at, each in enumerate(waiting) if at not in gone]
        if self._running:
            for each in self._running:
                each.begun_s = now_s
            took_s = kind.call_s(planned.rows) * self._slower * self._running[0].service_s
            self._clock.at(now_s + took_s, self._end, took_s)
        for each in dropped:
            self._dropped(each)

    def _end(self, took_s: float) -> None:
        if self._is_stopped:
            return
        ended, now_s = self._running, self._clock.now_s
        self._running = []
        self._lines.learn((), len(ended), took_s, now_s)
        if self._waiting:
            self._begin()
        for each in ended:
            each.first_s = now_s
            self._done(each)
