"""How long work takes inside a replica: independent places, one batch after the other, or tokens in steps."""

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final, Protocol

from stoker.core import batch, concurrency
from stoker.core.latency import Lines
from stoker.sim.platform import plan
from stoker.sim.platform.cache import BLOCK_TOKENS, PrefixCache
from stoker.sim.platform.clock import Clock
from stoker.sim.platform.request import Request

BATCH_BYTES_MAX: Final = 1 << 40  # requests here have no bytes

Done = Callable[[Request], None]
Dropped = Callable[[Request], None]


class Engine(Protocol):
    """The work of one replica. What it was given ends by `done` (or `dropped`), unless the engine is stopped before."""

    slots: int  # how many requests it works on, or clears at once, as it tells gateways

    def submit(self, request: Request) -> None:
        """Take a request."""
        ...

    def stop(self) -> list[Request]:
        """Stop for good, and return what it had."""
        ...


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


class GeneratingEngine:
    """Continuous batching as a fluid: every running sequence writes at the same pace, prompts are read in turn.

    The pace holds until a prompt is read, a sequence ends or one comes; only then is there an event, so that an answer
    of a thousand tokens costs as much to simulate as one of ten.
    """

    def __init__(self, kind: plan.Generating, clock: Clock, done: Done, slower: float) -> None:
        self.slots = kind.slots
        self._kind, self._clock, self._done, self._slower = kind, clock, done, slower
        self._cache = PrefixCache(kind.cache_blocks)
        self._waiting: deque[Request] = deque()
        self._reading: deque[Request] = deque()
        self._left_tokens = 0.0  # of the first prompt that is read
        self._writing: list[tuple[float, int, Request]] = []  # by the count of steps at which each ends
        self._steps = 0.0
        self._at_s = 0.0
        self._pace_s = 1.0  # what one step takes, and how much of a prompt it reads
        self._chunk_tokens = 1.0
        self._turn = 0  # grows when the pace changes: events asked for before do not hold
        self._is_stopped = False

    def submit(self, request: Request) -> None:
        """See Engine."""
        if len(self._writing) + len(self._reading) >= self.slots:
            self._waiting.append(request)
            return
        self._go_on()
        self._read(request)
        self._ask()

    def stop(self) -> list[Request]:
        """See Engine."""
        self._is_stopped = True
        return [*(each for _, _, each in sorted(self._writing)), *self._reading, *self._waiting]

    def _read(self, request: Request) -> None:
        request.begun_s = self._clock.now_s
        if not self._reading:
            self._open(request)
        self._reading.append(request)

    def _open(self, request: Request) -> None:
        """Begin to read a prompt, behind what is known of it; its last token is always read."""
        known = self._cache.read(request.blocks) * BLOCK_TOKENS if request.blocks else 0
        request.cached_tokens = max(min(known, request.input_tokens - 1), 0)
        self._left_tokens = float(max(request.input_tokens - request.cached_tokens, 1))

    def _go_on(self) -> None:
        """Let steps pass until now, at the pace that held since the last change."""
        steps = (self._clock.now_s - self._at_s) / self._pace_s if self._is_busy else 0.0
        self._at_s = self._clock.now_s
        self._steps += steps
        if self._reading:
            self._left_tokens -= steps * self._chunk_tokens

    @property
    def _is_busy(self) -> bool:
        return bool(self._writing or self._reading)

    def _ask(self) -> None:
        """Fix the pace, and ask for the next event."""
        self._turn += 1
        if not self._is_busy:
            return
        kind = self._kind
        # A whole chunk while there is one, so that the pace is the same until the prompt is read.
        self._chunk_tokens = max(min(self._left_tokens, float(kind.chunk_tokens)), 1.0)
        read_s = kind.read_token_s * self._chunk_tokens if self._reading else 0.0
        self._pace_s = (kind.pace_s(len(self._writing)) + read_s) * self._slower
        steps = self._writing[0][0] - self._steps if self._writing else float("inf")
        if self._reading:
            steps = min(steps, self._left_tokens / self._chunk_tokens)
        self._clock.at(self._at_s + max(steps, 0.0) * self._pace_s, self._pass, self._turn)

    def _pass(self, turn: int) -> None:
        if turn != self._turn or self._is_stopped:
            return
        self._go_on()
        now_s = self._clock.now_s
        ended: list[Request] = []
        if self._reading and self._left_tokens <= 1e-6:
            read = self._reading.popleft()
            read.first_s = now_s
            if read.output_tokens <= 1:
                ended.append(read)
            else:
                heappush(self._writing, (self._steps + read.output_tokens - 1, read.number, read))
            if self._reading:
                self._open(self._reading[0])
        while self._writing and self._writing[0][0] <= self._steps + 1e-6:
            ended.append(heappop(self._writing)[2])
        while self._waiting and len(self._writing) + len(self._reading) < self.slots:
            self._read(self._waiting.popleft())
        self._ask()
        for each in ended:
            self._done(each)
