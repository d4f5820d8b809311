"""Embedding requests: texts in, joined with other requests' texts, vectors back.

A request with more texts than a batch may have goes through in parts, one part in the queue at a time, so that a
caller who indexes a library takes turns with one who asks for a single vector.
"""

import asyncio
from time import monotonic
from typing import Final

import msgspec
import numpy as np

from stoker.protocol.frames import EndHead
from stoker.protocol.link import Exchange, refuse
from stoker.protocol.openai import EmbeddingRequest, decode_embedding, texts_or_tokens
from stoker.protocol.openai_embedding import embedding_body
from stoker.runtime.batcher import Batcher
from stoker.runtime.calls import Job, Spent
from stoker.runtime.drift import asked
from stoker.runtime.drift_texts import EmbedWatch
from stoker.runtime.engines.port import Array, Embeddings, EmbedEngine
from stoker.runtime.sending import Sender
from stoker.runtime.work import WorkStats
from stoker.types.errors import InvalidInput, TooLarge
from stoker.types.replica import ReplicaSpec, Usage

TEXT_MAX: Final = 1 << 20  # characters of one text; a tokenizer reads all of it before it truncates
WARM_UP_CALL_S: Final = 0.1
WARM_UP_TEXT: Final = "The quick brown fox jumps over the lazy dog."


class _Part:
    """What a job carries: the texts that go through the engine this time, and what came of the earlier ones."""

    __slots__ = ("next_text", "request", "texts", "tokens", "vectors", "whole")

    def __init__(self, request: EmbeddingRequest, whole: list[str]) -> None:
        self.request = request
        self.whole = whole
        self.texts = whole
        self.next_text = 0
        self.vectors: list[Array] = []
        self.tokens: list[int] = []


class EmbedWork:
    """Serves `embeddings` with an EmbedEngine."""

    def __init__(self, spec: ReplicaSpec, engine: EmbedEngine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._max_rows = spec.max_rows
        self._tokens = 0
        self._sender = Sender(loop)
        self._watch = EmbedWatch(engine.dimensions)
        self._batcher: Batcher[Embeddings] = Batcher(
            spec,
            self._run,
            self._deliver,
            max_rows=spec.max_rows,
            may_inline=False,  # tokenizer and model together are never short
            loop=loop,
        )

    @property
    def is_idle(self) -> bool:
        """See Work."""
        return self._batcher.is_idle and self._sender.is_idle

    def warm_up(self) -> None:
        """See Work."""
        self._engine.embed([WARM_UP_TEXT])  # the first call is no measure of the others
        rows = 1
        while rows <= self._max_rows:
            start_s = monotonic()
            self._engine.embed([WARM_UP_TEXT] * rows)
            end_s = monotonic()
            self._batcher.lines.learn((), rows, end_s - start_s, end_s)
            if end_s - start_s > WARM_UP_CALL_S:
                return
            rows *= 2

    def take(self, exchange: Exchange) -> None:
        """See Work."""
        if exchange.head.method != "embeddings":
            raise refuse(exchange.head.method)
        request = decode_embedding(exchange.body)
        held_bytes = len(exchange.body)
        exchange.body = b""
        if request.dimensions is not None and request.dimensions != self._engine.dimensions:
            raise InvalidInput(
                f"{request.dimensions}; this model gives vectors of {self._engine.dimensions}", field="dimensions"
            )
        part = _Part(request, _texts(request))
        self._cut(part)
        self._batcher.put(Job(exchange, part, len(part.texts), (), _size(part), held_bytes))

    def watch(self, exchange: Exchange) -> None:
        """See Watched."""
        self._sender.end(exchange, EndHead(), msgspec.msgpack.encode(self._watch.answer(asked(exchange.body))))

    def stats(self) -> WorkStats:
        """See Work."""
        batcher = self._batcher
        return WorkStats(
            queued=batcher.queued,
            running=batcher.running,
            slots=batcher.holdable,
            finished=batcher.finished,
            tokens=self._tokens,
            batch_rows_mean=batcher.rows_mean,
            busy_s=batcher.busy.seconds,
        )

    def close(self) -> None:
        """See Work."""
        self._batcher.close()
        self._engine.close()

    def _cut(self, part: _Part) -> None:
        """Make the next texts of the request those of its part."""
        start = part.next_text
        part.next_text = min(start + self._max_rows, len(part.whole))
        part.texts = part.whole[start : part.next_text]

    def _run(self, jobs: list[Job]) -> Embeddings:
        """Make one engine call (see Batcher)."""
        return self._engine.embed([text for job in jobs for text in job.payload.texts])

    def _deliver(self, jobs: list[Job], found: Embeddings, spent: Spent) -> None:
        """Answer the jobs of one engine call (see Batcher)."""
        self._tokens += sum(found.tokens)
        start = 0
        for job in jobs:
            part: _Part = job.payload
            end = start + job.rows
            if not job.exchange.is_done:
                part.vectors.append(found.vectors[start:end])
                part.tokens.extend(found.tokens[start:end])
                if part.next_text < len(part.whole):
                    self._cut(part)
                    job.rows, job.size_bytes = len(part.texts), _size(part)
                    self._batcher.put_next_part(job)
                else:
                    self._end(job, part, spent)
            start = end

    def _end(self, job: Job, part: _Part, spent: Spent) -> None:
        vectors = part.vectors[0] if len(part.vectors) == 1 else np.concatenate(part.vectors)
        body = embedding_body(vectors, part.tokens, model=part.request.model, encoding=part.request.encoding_format)
        usage = Usage(input_tokens=sum(part.tokens), rows=len(part.whole))
        self._sender.end(job.exchange, EndHead(usage=usage, timings=self._batcher.timings(job, spent)), body)
        if not job.exchange.head.probe:
            self._watch.take(part.whole, part.tokens, vectors)


def _size(part: _Part) -> int:
    """Return about how many bytes of text a part has."""
    return sum([len(text) for text in part.texts])


def _texts(request: EmbeddingRequest) -> list[str]:
    texts: list[str] = []
    for at, item in enumerate(texts_or_tokens(request.input, "input")):
        if not isinstance(item, str):
            raise InvalidInput("token ids of another tokenizer mean nothing to this model; send text", field="input")
        if len(item) > TEXT_MAX:
            raise TooLarge(f"a text of {len(item)} characters; at most {TEXT_MAX} are allowed", field=f"input[{at}]")
        texts.append(item)
    return texts
