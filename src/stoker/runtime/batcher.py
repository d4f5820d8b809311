"""Drives one blocking engine: holds what waits, lets `core.batch` choose, runs the call in the loop or in a thread.

One engine call at a time. A call that is short enough runs in the event loop itself, because handing it to a thread
and back costs more than the call; a longer one runs in the worker thread while the loop reads and answers sockets.
"""

import asyncio
import contextlib
import logging
import math
import queue
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Generic, TypeVar

import msgspec

from stoker.core import batch, concurrency
from stoker.protocol.link import Exchange
from stoker.types.errors import Busy, DeadlineExceeded, EngineFailed, StokerError
from stoker.types.replica import Timings

MEAN_STEP: Final = 0.05  # weight of the newest batch in the mean size shown
BUSY_RETRY_S: Final = 1.0

_R = TypeVar("_R")
_log = logging.getLogger(__name__)


class Job:
    """One request, or one part of a large one, in the shape `core.batch.Waiting` asks for."""

    __slots__ = ("alone", "arrived_s", "deadline_s", "exchange", "key", "payload", "rows")

    def __init__(self, exchange: Exchange, payload: Any, rows: int, key: Any, arrived_s: float) -> None:
        head = exchange.head
        self.exchange = exchange
        self.payload = payload
        self.rows = rows
        self.key = key
        self.alone = head.alone
        self.arrived_s = arrived_s
        self.deadline_s = arrived_s + head.timeout_s if head.timeout_s > 0 else math.inf


class Spent(msgspec.Struct, frozen=True):
    """When an engine call began and ended (monotonic), and how many rows it had."""

    start_s: float
    end_s: float
    rows: int

    def timings(self, job: Job) -> Timings:
        """Return the call as `job` saw it."""
        return Timings(
            queue_s=max(0.0, self.start_s - job.arrived_s),
            compute_s=self.end_s - self.start_s,
            batch_rows=self.rows,
        )


class _Call(Generic[_R]):
    """One engine call: what went in, and what came of it."""

    __slots__ = ("failure", "jobs", "result", "spent")

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs = jobs
        self.result: _R | None = None
        self.failure: Exception | None = None
        self.spent = Spent(0.0, 0.0, sum([job.rows for job in jobs]))

    def execute(self, run: Callable[[list[Job]], _R]) -> None:
        start_s = monotonic()
        try:
            self.result = run(self.jobs)
        except Exception as problem:  # the boundary to the engine: whatever it raises belongs to these requests
            self.failure = problem
        self.spent = Spent(start_s, monotonic(), self.spent.rows)


class Batcher(Generic[_R]):
    """Joins jobs into engine calls.

    run: makes one engine call of the jobs' payloads; blocks; in the loop or in the worker thread, never twice at once.
    deliver: answers the jobs with the call's result, in the loop.
    may_inline: whether the engine may run in the event loop at all.
    """

    def __init__(
        self,
        run: Callable[[list[Job]], _R],
        deliver: Callable[[list[Job], _R, Spent], None],
        *,
        max_rows: int,
        queue_max: int,
        may_inline: bool,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.finished = 0
        self.running = 0
        self.rows_mean = 0.0
        self.line = batch.Line()
        self.is_inline = False
        self._run = run
        self._deliver = deliver
        self._max_rows = max_rows
        self._queue_max = queue_max
        self._may_inline = may_inline
        self._loop = loop
        self._queue: list[Job] = []
        self._is_scheduled = False
        self._is_sweeping = False
        self._is_busy = False  # the worker thread has a call
        self._calls: queue.SimpleQueue[_Call[_R] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="engine", daemon=True).start()

    @property
    def holdable(self) -> int:
        """Requests worth having here at once (core/concurrency.py); until the line is known, two full batches."""
        if self.line.calls < batch.LEARNED_CALLS:
            return 2 * self._max_rows
        return concurrency.holdable(self.line.base_s, self.line.row_s, self._max_rows)

    @property
    def queued(self) -> int:
        """Jobs that wait."""
        return len(self._queue)

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not self._queue and not self._is_busy

    def put(self, job: Job) -> None:
        """Queue a new request; raises Busy when the queue is full."""
        if len(self._queue) >= self._queue_max:
            raise Busy(f"{self._queue_max} requests wait for this replica already", retry_after_s=BUSY_RETRY_S)
        job.exchange.on_cancel = self._on_cancel
        self.put_next_part(job)

    def put_next_part(self, job: Job) -> None:
        """Queue the next part of a request that was taken already; never refused."""
        self._queue.append(job)
        self._schedule()

    def close(self) -> None:
        """End the worker thread once its call is done."""
        self._calls.put(None)

    def _schedule(self) -> None:
        # call_soon, not at once: all requests that the sockets delivered in this turn of the loop go together.
        if not self._is_scheduled and not self._is_busy:
            self._is_scheduled = True
            self._loop.call_soon(self._turn)

    def _on_cancel(self) -> None:
        # A lost connection cancels thousands at once: sweep the queue once for all of them.
        if not self._is_sweeping:
            self._is_sweeping = True
            self._loop.call_soon(self._sweep)

    def _sweep(self) -> None:
        self._is_sweeping = False
        self._queue = [job for job in self._queue if not job.exchange.is_done]

    def _turn(self) -> None:
        """Make one engine call of what waits: here when it is short, else give it to the worker."""
        self._is_scheduled = False
        if self._is_busy or not self._queue:
            return
        is_inline = self._choose_place()
        jobs = self._take()
        if not jobs:
            return
        call: _Call[_R] = _Call(jobs)
        if not is_inline:
            self._is_busy = True
            self.running = len(jobs)
            self._calls.put(call)
            return
        call.execute(self._run)
        self._learn(call)
        self._answer(call)
        if self._queue:
            self._schedule()

    def _choose_place(self) -> bool:
        if self._may_inline:
            rows = min(len(self._queue), self._max_rows)
            self.is_inline = batch.runs_inline(self.line, rows, was_inline=self.is_inline)
        return self.is_inline

    def _take(self) -> list[Job]:
        """Take the next batch off the queue and refuse what is too late."""
        waiting = self._queue
        now_s = monotonic()
        planned = batch.plan(waiting, self.line, max_rows=self._max_rows, now_s=now_s)
        if len(planned.take) == len(waiting):
            self._queue = []
            return waiting
        gone = {*planned.take, *planned.drop}
        self._queue = [job for at, job in enumerate(waiting) if at not in gone]
        for at in planned.drop:
            job = waiting[at]
            late = "has passed" if now_s >= job.deadline_s else "would pass before the engine can finish"
            limit_s = job.exchange.head.timeout_s
            self._fail(job, DeadlineExceeded(f"the deadline of {limit_s:.3f} s {late}"))
        return [waiting[at] for at in planned.take]

    def _work(self) -> None:
        """Run calls one after the other (the worker thread)."""
        while (call := self._calls.get()) is not None:
            call.execute(self._run)
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(self._back, call)

    def _back(self, call: _Call[_R]) -> None:
        self._is_busy = False
        self.running = 0
        self._learn(call)
        if not self._choose_place():
            self._turn()  # keep the engine at work while the answers are written
        self._answer(call)
        if self._queue:
            self._schedule()

    def _learn(self, call: _Call[_R]) -> None:
        spent = call.spent
        if call.failure is None:
            self.line = batch.learned(self.line, spent.rows, spent.end_s - spent.start_s, spent.end_s)
            self.rows_mean += (spent.rows - self.rows_mean) * (MEAN_STEP if self.rows_mean else 1.0)
        elif len(call.jobs) > 1:
            # One of them did it; each goes again by itself, so that only that one fails.
            for job in call.jobs:
                job.alone = True
            self._queue[:0] = [job for job in call.jobs if not job.exchange.is_done]

    def _answer(self, call: _Call[_R]) -> None:
        if call.failure is None:
            self.finished += len(call.jobs)
            try:
                self._deliver(call.jobs, call.result, call.spent)  # type: ignore[arg-type]  # no failure: a result
            except Exception as problem:  # an answer that cannot be written fails its own requests only
                self.finished -= len(call.jobs)
                for job in call.jobs:
                    self._fail(job, problem)
        elif len(call.jobs) == 1:
            self._fail(call.jobs[0], call.failure)

    def _fail(self, job: Job, problem: Exception) -> None:
        self.finished += 1
        if isinstance(problem, StokerError):
            job.exchange.fail(problem)
            return
        _log.error("the engine failed", exc_info=problem)
        job.exchange.fail(EngineFailed(f"{type(problem).__name__}: {problem}"))
