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

import msgspec
import numpy as np

from stoker.core import padding
from stoker.core.latency import Shapes
from stoker.core.shapes import WARM_S_MAX, Tally, sizes_for
from stoker.core.watched import planes_of
from stoker.protocol.frames import EndHead
from stoker.protocol.link import Exchange, refuse
from stoker.protocol.oip import BINARY_CONTENT_TYPE
from stoker.protocol.oip_binary import DTYPES
from stoker.protocol.oip_reply import BatchReply, ReplyWriter
from stoker.protocol.oip_request import InferReader, InferRequest
from stoker.runtime.batcher import Batcher
from stoker.runtime.calls import Job, Spent
from stoker.runtime.drift import Watch, asked
from stoker.runtime.engines.port import Array, NamesAxes, PredictEngine
from stoker.runtime.padding import Padder, Sizes, bytes_of
from stoker.runtime.predictions import Predictions, Rows
from stoker.runtime.sending import Sender
from stoker.runtime.work import WorkStats
from stoker.types.errors import EngineFailed, InvalidInput, StokerError
from stoker.types.feedback import Demand
from stoker.types.replica import ReplicaSpec, Usage

WARM_UP_CALL_S: Final = 0.1
_ONE_ROW: Final = Usage(rows=1)

_log = logging.getLogger(__name__)
Outputs = dict[str, Array]
_Ran = tuple[Mapping[str, Array] | None, Outputs]  # what was watched of an engine call's inputs, and what came out


class _Part:
    """What a job carries: a request, and the rows of it that go through the engine this time."""

    __slots__ = ("done", "inputs", "next_row", "request", "rows_max", "segment", "sizes")

    def __init__(self, request: InferRequest, sizes: Sizes, segment: str | None) -> None:
        self.request = request
        self.segment = segment  # that the request itself says
        self.sizes = sizes  # along the padded dimensions, before padding
        self.inputs: Mapping[str, Array] = request.inputs
        self.next_row = 0  # of a large request: where its next part begins; 0 for one that goes in one piece
        self.rows_max = 0  # and how many rows a part has
        self.done: list[Outputs] = []


class PredictWork:
    """Serves `infer` with a PredictEngine."""

    def __init__(self, spec: ReplicaSpec, engine: PredictEngine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._batches = engine.batches
        self._max_rows = spec.max_rows if engine.batches else 1
        self._max_bytes = spec.max_bytes
        self._item_bytes = [DTYPES[tensor.datatype].itemsize for tensor in engine.signature.inputs]
        self._has_text = any(tensor.datatype == "BYTES" for tensor in engine.signature.inputs)
        self._shapes = tuple(tensor.shape[1 if engine.batches else 0 :] for tensor in engine.signature.inputs)
        self._is_fixed = not any(-1 in shape for shape in self._shapes)
        self._row_bytes = bytes_of(self._shapes, self._item_bytes) if self._is_fixed and not self._has_text else 0
        self._padder = _padder(spec, engine)
        self._recorded = spec.shapes
        self._tally = Tally()
        self._names = tuple(tensor.name for tensor in engine.signature.inputs)
        self._reader = InferReader(engine.signature, batches=engine.batches)
        self._writer = ReplyWriter(spec.endpoint, spec.version, batches=engine.batches)
        self._sender = Sender(loop)
        self._watch = Watch(engine.signature, batches=engine.batches, planes=planes_of(engine.signature))
        cuts = self._padder is not None and self._padder.cuts
        self._predictions = Predictions(engine.signature, batches=engine.batches, cuts=cuts)
        self._batcher: Batcher[_Ran] = Batcher(
            spec,
            self._run,
            self._deliver,
            max_rows=self._max_rows,
            may_inline=engine.may_inline,
            loop=loop,
        )

    @property
    def is_idle(self) -> bool:
        """See Work."""
        return self._batcher.is_idle and self._sender.is_idle

    def warm_up(self) -> None:
        """See Work. A model that refuses zeros is still served; what it says is in the log.

        First batches that grow, then the shapes that are asked for and whose first call takes long.
        """
        self._grow()
        until_s = monotonic() + WARM_S_MAX
        for shape in self._recorded:
            sizes = sizes_for(shape, self._shapes)
            if sizes is None or not self._is_allowed(shape.rows, sizes) or self._is_warm(shape.rows, sizes):
                continue
            took_s = self._zero_call(shape.rows, sizes)
            if math.isinf(took_s):
                return
            self._tally.warmed(shape.rows, self._key(sizes), took_s)
            if monotonic() > until_s:
                return

    def _grow(self) -> None:
        """Call with more and more rows until it takes WARM_UP_CALL_S, so that the engine's buffers and the fitted line
        are there before the first request."""
        shapes = tuple(tuple(max(1, size) for size in shape) for shape in self._shapes)
        if self._padder is not None:
            shapes = self._padder.largest(shapes)
        limit = min(self._max_rows, self._max_bytes // max(1, bytes_of(shapes, self._item_bytes)))
        rows = 1
        self._zero_call(rows, shapes)  # the first call is no measure of the others
        while True:
            took_s = self._zero_call(rows, shapes)
            if math.isinf(took_s):
                return
            end_s = monotonic()
            self._batcher.lines.learn(self._key(shapes), rows, took_s, end_s)
            self._tally.warmed(rows, self._key(shapes))
            if took_s > WARM_UP_CALL_S or rows >= limit:
                return
            rows = min(rows * 2, limit)

    def _zero_call(self, rows: int, shapes: Shapes) -> float:
        """Call the engine with zeros; return the seconds it took, infinity when it refused."""
        inputs: dict[str, Array] = {}
        for tensor, shape in zip(self._engine.signature.inputs, shapes, strict=True):
            whole = (rows, *shape) if self._batches else shape
            is_text = tensor.datatype == "BYTES"
            inputs[tensor.name] = np.full(whole, b"", object) if is_text else np.zeros(whole, DTYPES[tensor.datatype])
        start_s = monotonic()
        try:
            self._engine.predict(inputs, ())
        except StokerError as problem:
            _log.warning("the model does not take zeros, so it was not warmed up: %s", problem)
            return math.inf
        return monotonic() - start_s

    def _key(self, shapes: Shapes) -> Shapes:
        return () if self._is_fixed else shapes

    def _is_warm(self, rows: int, shapes: Shapes) -> bool:
        return self._tally.knows(rows, self._key(shapes))

    def _is_allowed(self, rows: int, shapes: Shapes) -> bool:
        return rows <= self._max_rows and rows * bytes_of(shapes, self._item_bytes) <= self._max_bytes

    def take(self, exchange: Exchange) -> None:
        """See Work."""
        head = exchange.head
        if head.method != "infer":
            raise refuse(head.method)
        try:
            request = self._reader.read(exchange.body, head.header_bytes)
        except InvalidInput:
            if not head.probe:
                self._watch.refuse()
            raise
        segment = None if head.probe else self._predictions.segment_of(head, exchange.body)
        exchange.body = b""  # its tensors hold what they need of it
        rows, shapes = request.rows, request.key
        sizes: Sizes = ()
        if self._padder is not None:
            sizes, shapes = self._padder.measure(request)
        held_bytes = rows * self._row_bytes or self._measure(request, shapes, head.body_bytes)
        size_bytes = held_bytes
        part = _Part(request, sizes, segment)
        if self._batches and (rows > self._max_rows or size_bytes > self._max_bytes):
            part.rows_max = max(1, min(self._max_rows, self._max_bytes * rows // size_bytes))
            if part.rows_max < rows:
                rows = self._cut(part)
                size_bytes = held_bytes * rows // request.rows
        self._batcher.put(Job(exchange, part, rows, shapes, size_bytes, held_bytes))

    def _measure(self, request: InferRequest, shapes: Shapes, body_bytes: int) -> int:
        """Return the bytes of a request's inputs, padded; of text, those of its body besides."""
        found = request.rows * bytes_of(shapes, self._item_bytes) if shapes else 0
        return found + body_bytes if self._has_text or not shapes else found

    def watch(self, exchange: Exchange) -> None:
        """See Watched."""
        self._sender.end(exchange, EndHead(), msgspec.msgpack.encode(self._watch.answer(asked(exchange.body))))

    def hand_over(self, exchange: Exchange) -> None:
        """See HandsOver."""
        try:
            demand = msgspec.msgpack.decode(exchange.body, type=Demand)
        except (msgspec.DecodeError, ValueError) as odd:
            raise InvalidInput(f"no question about predictions: {odd}") from odd
        self._sender.end(exchange, EndHead(), msgspec.msgpack.encode(self._predictions.answer(demand)))

    def tell_shapes(self, exchange: Exchange) -> None:
        """See CountsShapes."""
        self._sender.end(exchange, EndHead(), msgspec.msgpack.encode(self._tally.take()))

    def stats(self) -> WorkStats:
        """See Work."""
        batcher = self._batcher
        return WorkStats(
            queued=batcher.queued,
            running=batcher.running,
            slots=batcher.holdable,
            finished=batcher.finished,
            batch_rows_mean=batcher.rows_mean,
            busy_s=batcher.busy.seconds,
        )

    def close(self) -> None:
        """See Work."""
        self._batcher.close()
        self._engine.close()

    def _cut(self, part: _Part) -> int:
        """Make the next rows of a large request its inputs; return how many."""
        start = part.next_row
        part.next_row = min(start + part.rows_max, part.request.rows)
        part.inputs = {name: array[start : part.next_row] for name, array in part.request.inputs.items()}
        return part.next_row - start

    def _run(self, jobs: list[Job]) -> _Ran:
        """Make one engine call (see Batcher)."""
        inputs: Mapping[str, Array]
        if self._padder is not None:
            inputs = self._padder.join([job.payload.inputs for job in jobs], jobs[0].shapes)
        elif len(jobs) == 1:
            inputs = jobs[0].payload.inputs
        else:
            inputs = {name: np.concatenate([job.payload.inputs[name] for job in jobs]) for name in self._names}
        wanted = jobs[0].payload.request.outputs if len(jobs) == 1 else _wanted(jobs)
        # Rows of one call are counted together: the few that come beside a probe's are left out rather than mixed.
        is_watched = self._watch.is_on and not any(job.exchange.head.probe for job in jobs)
        seen = self._watch.held(inputs) if is_watched else None
        outputs = self._engine.predict(inputs, wanted)
        if self._batches:
            rows = sum([job.rows for job in jobs])
            for name, array in outputs.items():
                if array.ndim == 0 or array.shape[0] != rows:
                    raise EngineFailed(
                        f"output {name!r} has the shape {list(array.shape)} for {rows} rows, so no batch dimension; "
                        "set the engine option `batch: false`"
                    )
        if self._padder is not None:
            self._padder.check(outputs, jobs[0].shapes)
        return seen, outputs

    def _deliver(self, jobs: list[Job], ran: _Ran, spent: Spent) -> None:
        """Answer the jobs of one engine call (see Batcher)."""
        seen, outputs = ran
        self._tally.called(spent.rows, jobs[0].shapes, spent.end_s - spent.start_s)
        if self._padder is not None:
            own = [(job.rows, job.payload.request.key) for job in jobs]
            self._batcher.count_padding(*self._padder.padding(spent.rows, jobs[0].shapes, own))
        replies = self._writer.batch(outputs)
        start = 0
        answered: list[Rows] = []
        for job in jobs:
            if not job.exchange.is_done:
                if self._predictions.is_on:
                    answered.append(_rows_of(job, start))
                try:
                    self._deliver_one(job, outputs, replies, start, spent)
                except StokerError as problem:  # what cannot be written concerns this request only
                    job.exchange.fail(problem)
            start += job.rows
        if seen is not None:
            self._watch.seen(seen, outputs, start)
        if answered:
            self._predictions.add(outputs, answered)

    def _deliver_one(self, job: Job, outputs: Outputs, replies: BatchReply, start: int, spent: Spent) -> None:
        part = job.payload
        is_cut = self._padder is not None and self._padder.cuts and part.request.key != job.shapes
        if part.next_row or is_cut:
            own = {name: array[start : start + job.rows] for name, array in outputs.items()}
            if is_cut and self._padder is not None:
                own = self._padder.cut(own, part.sizes)
            if part.next_row:
                self._deliver_part(job, own, spent)
                return
            replies, start = self._writer.batch(own), 0
        body, header_bytes = replies.write(part.request, start)
        self._end(job, body, header_bytes, spent)

    def _deliver_part(self, job: Job, outputs: Outputs, spent: Spent) -> None:
        part = job.payload
        # Copies: a view would keep the arrays of the whole batch alive.
        part.done.append({name: array.copy() for name, array in outputs.items()})
        if part.next_row < part.request.rows:
            job.rows = self._cut(part)
            job.size_bytes = job.held_bytes * job.rows // part.request.rows
            self._batcher.put_next_part(job)
            return
        whole = {name: np.concatenate([piece[name] for piece in part.done]) for name in outputs}
        body, header_bytes = self._writer.batch(whole).write(part.request, 0)
        self._end(job, body, header_bytes, spent)

    def _end(self, job: Job, body: bytes, header_bytes: int, spent: Spent) -> None:
        rows = job.payload.request.rows
        usage = _ONE_ROW if rows == 1 else Usage(rows=rows)
        if header_bytes < 0:
            head = EndHead(usage=usage, timings=self._batcher.timings(job, spent))
        else:
            head = EndHead(BINARY_CONTENT_TYPE, header_bytes, usage, self._batcher.timings(job, spent))
        self._sender.end(job.exchange, head, body)


def _rows_of(job: Job, start: int) -> Rows:
    """Return which rows of an engine call, from `start` on, are of the job's request."""
    part = job.payload
    first = part.next_row - job.rows if part.next_row else 0
    return Rows(job.exchange.head.request, part.segment, first, start, job.rows)


def _wanted(jobs: list[Job]) -> tuple[str, ...]:
    """Return the outputs that some job asked for; empty (all) when one asked for all."""
    names: dict[str, None] = {}
    for job in jobs:
        wanted = job.payload.request.outputs
        if not wanted:
            return ()
        names.update(dict.fromkeys(wanted))
    return tuple(names)


def _padder(spec: ReplicaSpec, engine: PredictEngine) -> Padder | None:
    """Return what pads as `spec` says, None when it says nothing. Raises InvalidInput when the model is not so."""
    if not spec.pad:
        return None
    if not engine.batches:
        raise InvalidInput("padding joins requests, and this model is not batched", field="spec.batching.pad")
    names = engine.axis_names if isinstance(engine, NamesAxes) else {}
    found = padding.resolve(spec.pad, engine.signature, names)
    if isinstance(found, padding.Fault):
        raise InvalidInput(f"{found.field}: {found.message}", field=found.field)
    return Padder(found, engine.signature)
