"""Drives one blocking engine: holds what waits, lets `core.batch` choose, runs the call in the loop or in a thread.

One engine call at a time. A call that is short enough runs in the event loop itself, because handing it to a thread
and back costs more than the call; a longer one runs in the worker thread while the loop reads and answers sockets.
"""

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final, Generic, TypeVar

from stoker.core import batch, concurrency, latency, turns
from stoker.runtime import caller
from stoker.runtime.busy import BusyClock
from stoker.runtime.calls import Call, Job, Spent
from stoker.runtime.work import room
from stoker.types.errors import Busy, DeadlineExceeded, EngineFailed, StokerError
from stoker.types.replica import EngineCalls, ReplicaSpec, Timings

MEAN_STEP: Final = 0.05  # weight of the newest batch in the mean size shown
BUSY_RETRY_S: Final = 0.1  # gateways send nothing meanwhile, and one that is full has work for longer than this

_R = TypeVar("_R")
_log = logging.getLogger(__name__)


class Batcher(Generic[_R]):
    """Joins jobs into engine calls.

    run: makes one engine call of the jobs' payloads; blocks; in the loop or in the worker thread, never twice at once.
    deliver: answers the jobs with the call's result, in the loop.
    max_rows: of one call, where the engine may take less than `spec` says.
    may_inline: whether the engine may run in the event loop at all.
    """

    def __init__(
        self,
        spec: ReplicaSpec,
        run: Callable[[list[Job]], _R],
        deliver: Callable[[list[Job], _R, Spent], None],
        *,
        max_rows: int,
        may_inline: bool,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.finished = 0
        self.running = 0
        self.rows_mean = 0.0
        self.busy = BusyClock()
        self.lines = latency.Lines()
        self.is_inline = False
        self._run = run
        self._deliver = deliver
        self._max_rows = max_rows
        self._max_bytes = spec.max_bytes
        self._queue_max, self._queue_max_bytes = room(spec)
        self._may_inline = may_inline
        self._loop = loop
        self._queue: list[Job] = []
        self._queue_bytes = 0
        self._calls_seen: EngineCalls | None = None  # what no answer has carried yet
        self._free_s = 0.0  # the last engine call ended
        self._is_scheduled = False
        self._is_sweeping = False
        self._is_busy = False  # the worker thread has a call
        self._has_turns = False  # some that wait may go before others
        self._calls: queue.SimpleQueue[Call[_R] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="engine", daemon=True).start()

    @property
    def holdable(self) -> int:
        """Requests worth having here at once (core/concurrency.py); until the line is known, two full batches."""
        line = self.lines.overall()
        if line.calls < latency.LEARNED_CALLS:
            return 2 * self._max_rows
        return concurrency.holdable(line.base_s, line.row_s, self._max_rows)

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
        if self._queue and self._queue_bytes + job.held_bytes > self._queue_max_bytes:
            raise Busy(
                f"requests of {self._queue_bytes} bytes wait for this replica already; "
                f"it holds {self._queue_max_bytes}, a part of its memory",
                retry_after_s=BUSY_RETRY_S,
            )
        job.exchange.on_cancel = self._on_cancel
        self._queue.append(job)
        if job.turn:
            self._has_turns = True
        self._queue_bytes += job.held_bytes
        if not self._is_scheduled:
            self._schedule()

    def put_next_part(self, job: Job) -> None:
        """Queue the next part of a request that was taken already; never refused."""
        self._queue.append(job)
        if job.turn:
            self._has_turns = True
        self._queue_bytes += job.held_bytes
        self._schedule()

    def timings(self, job: Job, spent: Spent) -> Timings:
        """Return what the answer of `job` says of its call; the first answer carries the report of all calls."""
        calls, self._calls_seen = self._calls_seen, None
        waited_s = spent.start_s - job.arrived_s
        queue_s = spent.free_s - job.arrived_s  # negative: the engine was free when it came
        queue_s = max(queue_s, 0.0)
        return Timings(
            queue_s=queue_s,
            batch_wait_s=waited_s - queue_s if waited_s > queue_s else 0.0,
            compute_s=spent.end_s - spent.start_s,
            batch_rows=spent.rows,
            calls=calls,
        )

    def count_padding(self, values: int, padding: int) -> None:
        """Count how many values went into a call, and how many of them were padding."""
        seen = self._seen()
        seen.values += values
        seen.padding += padding

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
        self._set_queue([job for job in self._queue if not job.exchange.is_done])

    def _set_queue(self, jobs: list[Job]) -> None:
        self._queue = jobs
        self._queue_bytes = sum([job.held_bytes for job in jobs])

    def _turn(self) -> None:
        """Make one engine call of what waits: here when it is short, else give it to the worker."""
        self._is_scheduled = False
        if self._is_busy or not self._queue:
            return
        jobs, rows = self._take()
        if not jobs:
            return
        call: Call[_R] = Call(jobs, rows, self._free_s)
        if not self._choose_place(jobs[0], rows):
            self._is_busy = True
            self.running = len(jobs)
            self.busy.begin()
            self._calls.put(call)
            return
        call.execute(self._run)
        self.busy.add(call.spent.end_s - call.spent.start_s)
        self._learn(call)
        self._answer(call)
        if self._queue:
            self._schedule()

    def _choose_place(self, first: Job, rows: int) -> bool:
        """Return whether a call over `rows` rows like `first` runs in the loop."""
        if self._may_inline:
            line = self.lines.of(first.shapes)
            self.is_inline = latency.runs_inline(line, rows, was_inline=self.is_inline)
        return self.is_inline

    def _take(self) -> tuple[list[Job], int]:
        """Take the next batch off the queue and refuse what is too late; return it and its rows."""
        waiting = self._queue
        now_s = monotonic()
        planned = self._plan_turns(now_s) if self._has_turns else self._plan(waiting, now_s)
        if planned.take:
            by_reason = self._seen().by_reason
            by_reason[planned.because] = by_reason.get(planned.because, 0) + 1
        if len(planned.take) == len(waiting):
            self._queue = []
            self._queue_bytes = 0
            return waiting, planned.rows
        gone = {*planned.take, *planned.drop}
        self._set_queue([job for at, job in enumerate(waiting) if at not in gone])
        if planned.drop:
            self._refuse([waiting[at] for at in planned.drop], now_s)
        return [waiting[at] for at in planned.take], planned.rows

    def _plan(self, jobs: list[Job], now_s: float) -> batch.Plan:
        return batch.plan(jobs, self.lines, max_rows=self._max_rows, max_bytes=self._max_bytes, now_s=now_s)

    def _plan_turns(self, now_s: float) -> batch.Plan:
        """Plan with those first whose turn it is, and count who was passed over for them."""
        waiting = self._queue
        self._has_turns = any(job.turn for job in waiting)
        order = turns.line_up(waiting, self.rows_mean)
        if order is None:
            return self._plan(waiting, now_s)
        planned = self._plan([waiting[at] for at in order], now_s)
        take, drop = sorted([order[at] for at in planned.take]), sorted([order[at] for at in planned.drop])
        for at in turns.passed_over(len(waiting), {*order}, {*take}):
            waiting[at].passed += 1
        return batch.Plan(tuple(take), tuple(drop), planned.rows, planned.because)

    def _refuse(self, late: list[Job], now_s: float) -> None:
        again_s = batch.drain_s(self._queue, self.lines, max_rows=self._max_rows)
        for job in late:
            limit_s = job.exchange.head.timeout_s
            if now_s >= job.deadline_s:
                message = f"the deadline of {limit_s:.3f} s has passed"
            else:
                message = f"the deadline of {limit_s:.3f} s would pass before the engine can finish"
            # Coming back helps when it was the queue that took the time, and not the engine itself.
            alone_s = latency.expected_s(self.lines.of(job.shapes), job.rows)
            retry_s = None if alone_s >= limit_s else max(again_s, BUSY_RETRY_S)
            self._fail(job, DeadlineExceeded(message, retry_after_s=retry_s))

    def _seen(self) -> EngineCalls:
        if self._calls_seen is None:
            self._calls_seen = EngineCalls()
        return self._calls_seen

    def _work(self) -> None:
        """Run calls one after the other (the worker thread)."""
        while (call := self._calls.get()) is not None:
            call.execute(self._run)
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(self._back, call)

    def _back(self, call: Call[_R]) -> None:
        self._is_busy = False
        self.running = 0
        self.busy.end()
        self._learn(call)
        if self._queue and not self._choose_place(self._queue[0], min(len(self._queue), self._max_rows)):
            self._turn()  # keep the engine at work while the answers are written
        self._answer(call)
        if self._queue:
            self._schedule()

    def _learn(self, call: Call[_R]) -> None:
        spent = call.spent
        self._free_s = spent.end_s
        if call.failure is None:
            self.lines.learn(call.jobs[0].shapes, spent.rows, spent.end_s - spent.start_s, spent.end_s)
            self.rows_mean += (spent.rows - self.rows_mean) * (MEAN_STEP if self.rows_mean else 1.0)
        elif len(call.jobs) > 1:
            # One of them did it; each goes again by itself, so that only that one fails.
            for job in call.jobs:
                job.alone = True
            self._set_queue([*[job for job in call.jobs if not job.exchange.is_done], *self._queue])

    def _answer(self, call: Call[_R]) -> None:
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
        _log.error("the engine failed", exc_info=problem, extra=caller.names(job.exchange.head))
        job.exchange.fail(EngineFailed(f"{type(problem).__name__}: {problem}"))
