"""Predictive requests: tensors in, batches through the engine, each its own rows back.

A request with more rows than a batch may have goes through in parts, one part in the queue at a time, so that a large
request takes turns with the small ones.
"""

import asyncio
import logging
import math
from collections.abc import Mapping
from time import monotonic
from typing import Final

import numpy as np

from stoker.core import batch
from stoker.protocol.frames import EndHead
from stoker.protocol.link import Exchange, refuse
from stoker.protocol.oip import BINARY_CONTENT_TYPE
from stoker.protocol.oip_binary import DTYPES
from stoker.protocol.oip_reply import BatchReply, ReplyWriter
from stoker.protocol.oip_request import InferReader, InferRequest
from stoker.runtime.batcher import Batcher, Job, Spent
from stoker.runtime.engines.port import Array, PredictEngine
from stoker.runtime.sending import Sender
from stoker.runtime.work import WorkStats
from stoker.types.errors import EngineFailed, StokerError
from stoker.types.replica import ReplicaSpec, Usage

# A gateway sends at most `concurrency` at once, and there may be a few gateways.
QUEUE_FACTOR: Final = 4
WARM_UP_CALL_S: Final = 0.1

_log = logging.getLogger(__name__)
Outputs = dict[str, Array]


class _Part:
    """What a job carries: a request, and the rows of it that go through the engine this time."""

    __slots__ = ("done", "inputs", "next_row", "request")

    def __init__(self, request: InferRequest) -> None:
        self.request = request
        self.inputs: Mapping[str, Array] = request.inputs
        self.next_row = 0  # of a large request: where its next part begins; 0 for one that goes in one piece
        self.done: list[Outputs] = []


class PredictWork:
    """Serves `infer` with a PredictEngine."""

    def __init__(self, spec: ReplicaSpec, engine: PredictEngine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._batches = engine.batches
        self._max_rows = spec.max_rows if engine.batches else 1
        self._names = tuple(tensor.name for tensor in engine.signature.inputs)
        self._reader = InferReader(engine.signature, batches=engine.batches)
        self._writer = ReplyWriter(spec.endpoint, spec.version, batches=engine.batches)
        self._sender = Sender(loop)
        self._batcher: Batcher[Outputs] = Batcher(
            self._run,
            self._deliver,
            max_rows=self._max_rows,
            queue_max=spec.concurrency * QUEUE_FACTOR,
            may_inline=engine.may_inline,
            loop=loop,
        )

    @property
    def is_idle(self) -> bool:
        """See Work."""
        return self._batcher.is_idle and self._sender.is_idle

    def warm_up(self) -> None:
        """See Work. A model that refuses zeros is still served; what it says is in the log.

        Batches grow until one takes WARM_UP_CALL_S, so that the engine's buffers and the fitted line are there before
        the first request.
        """
        rows = 1
        self._warm_call(rows)  # the first call is no measure of the others
        while rows <= self._max_rows:
            took_s = self._warm_call(rows)
            if took_s > WARM_UP_CALL_S:
                return
            rows = min(rows * 2, self._max_rows) if rows < self._max_rows else rows + 1

    def _warm_call(self, rows: int) -> float:
        """Call the engine with zeros; return the seconds it took, infinity when it refused."""
        inputs: dict[str, Array] = {}
        for tensor in self._engine.signature.inputs:
            shape = [max(1, size) for size in tensor.shape]
            if self._batches:
                shape[0] = rows
            is_text = tensor.datatype == "BYTES"
            inputs[tensor.name] = np.full(shape, b"", object) if is_text else np.zeros(shape, DTYPES[tensor.datatype])
        start_s = monotonic()
        try:
            self._engine.predict(inputs, ())
        except StokerError as problem:
            _log.warning("the model does not take zeros, so it was not warmed up: %s", problem)
            return math.inf
        end_s = monotonic()
        self._batcher.line = batch.learned(self._batcher.line, rows, end_s - start_s, end_s)
        return end_s - start_s

    def take(self, exchange: Exchange) -> None:
        """See Work."""
        if exchange.head.method != "infer":
            raise refuse(exchange.head.method)
        request = self._reader.read(exchange.body, exchange.head.header_bytes)
        exchange.body = b""  # its tensors hold what they need of it
        part = _Part(request)
        rows = request.rows
        if rows > self._max_rows and self._batches:
            rows = self._cut(part)
        self._batcher.put(Job(exchange, part, rows, request.key, monotonic()))

    def stats(self) -> WorkStats:
        """See Work."""
        batcher = self._batcher
        return WorkStats(
            queued=batcher.queued,
            running=batcher.running,
            slots=batcher.holdable,
            finished=batcher.finished,
            batch_rows_mean=batcher.rows_mean,
        )

    def close(self) -> None:
        """See Work."""
        self._batcher.close()
        self._engine.close()

    def _cut(self, part: _Part) -> int:
        """Make the next rows of a large request its inputs; return how many."""
        start = part.next_row
        part.next_row = min(start + self._max_rows, part.request.rows)
        part.inputs = {name: array[start : part.next_row] for name, array in part.request.inputs.items()}
        return part.next_row - start

    def _run(self, jobs: list[Job]) -> Outputs:
        """Make one engine call (see Batcher)."""
        if len(jobs) == 1:
            part = jobs[0].payload
            inputs, wanted = part.inputs, part.request.outputs
        else:
            inputs = {name: np.concatenate([job.payload.inputs[name] for job in jobs]) for name in self._names}
            wanted = _wanted(jobs)
        outputs = self._engine.predict(inputs, wanted)
        if self._batches:
            rows = sum([job.rows for job in jobs])
            for name, array in outputs.items():
                if array.ndim == 0 or array.shape[0] != rows:
                    raise EngineFailed(
                        f"output {name!r} has the shape {list(array.shape)} for {rows} rows, so no batch dimension; "
                        "set the engine option `batch: false`"
                    )
        return outputs

    def _deliver(self, jobs: list[Job], outputs: Outputs, spent: Spent) -> None:
        """Answer the jobs of one engine call (see Batcher)."""
        replies = self._writer.batch(outputs)
        start = 0
        for job in jobs:
            if not job.exchange.is_done:
                try:
                    self._deliver_one(job, outputs, replies, start, spent)
                except StokerError as problem:  # what cannot be written concerns this request only
                    job.exchange.fail(problem)
            start += job.rows

    def _deliver_one(self, job: Job, outputs: Outputs, replies: BatchReply, start: int, spent: Spent) -> None:
        part = job.payload
        if part.next_row:
            rows = slice(start, start + job.rows)
            self._deliver_part(job, {name: array[rows] for name, array in outputs.items()}, spent)
        else:
            body, header_bytes = replies.write(part.request, start)
            self._end(job, body, header_bytes, spent)

    def _reply(self, job: Job, replies: BatchReply, start: int, spent: Spent) -> None:
        try:
            body, header_bytes = replies.write(job.payload.request, start)
        except StokerError as problem:  # its own rows cannot be written; the others' can
            job.exchange.fail(problem)
        else:
            self._end(job, body, header_bytes, spent)

    def _deliver_part(self, job: Job, outputs: Outputs, spent: Spent) -> None:
        part = job.payload
        # Copies: a view would keep the arrays of the whole batch alive.
        part.done.append({name: array.copy() for name, array in outputs.items()})
        if part.next_row < part.request.rows:
            job.rows = self._cut(part)
            self._batcher.put_next_part(job)
            return
        whole = {name: np.concatenate([piece[name] for piece in part.done]) for name in outputs}
        body, header_bytes = self._writer.batch(whole).write(part.request, 0)
        self._end(job, body, header_bytes, spent)

    def _end(self, job: Job, body: bytes, header_bytes: int, spent: Spent) -> None:
        usage = Usage(rows=job.payload.request.rows)
        if header_bytes < 0:
            head = EndHead(usage=usage, timings=spent.timings(job))
        else:
            head = EndHead(BINARY_CONTENT_TYPE, header_bytes, usage, spent.timings(job))
        self._sender.end(job.exchange, head, body)


def _wanted(jobs: list[Job]) -> tuple[str, ...]:
    """Return the outputs that some job asked for; empty (all) when one asked for all."""
    names: dict[str, None] = {}
    for job in jobs:
        wanted = job.payload.request.outputs
        if not wanted:
            return ()
        names.update(dict.fromkeys(wanted))
    return tuple(names)
