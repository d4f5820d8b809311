"""Language-model requests: a bounded queue before the engine's slots, one task a request, events at the reader's pace.

The engine batches on its own. What waits, waits here rather than inside it, where a cancelled or late request costs
nothing to forget. A failure after the first event is reported like one before it; who relays the stream writes the
event that tells the client.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from functools import partial
from time import monotonic
from typing import Final

import msgspec

from stoker.core.repetition import TAIL, ends_in_a_loop
from stoker.protocol.frames import EndHead
from stoker.protocol.link import Exchange, refuse
from stoker.protocol.openai import ChatRequest, CompletionRequest, decode_chat, decode_completion
from stoker.protocol.openai_reply import ChatReply, CompletionReply, Reply
from stoker.protocol.openai_resume import split
from stoker.runtime import caller
from stoker.runtime.busy import BusyClock
from stoker.runtime.drift import asked
from stoker.runtime.drift_texts import ChatWatch, Said
from stoker.runtime.engines.port import CanResume, GenerateEngine, HasServer
from stoker.runtime.sending import Sender
from stoker.runtime.work import WorkStats, room
from stoker.types import generation
from stoker.types.drift import Answer
from stoker.types.errors import Busy, DeadlineExceeded, EngineFailed, StokerError, Unsupported
from stoker.types.replica import ReplicaSpec, Timings

BUSY_RETRY_S: Final = 2.0
EVENT_STREAM: Final = "text/event-stream"

_log = logging.getLogger(__name__)


class _Turn:
    """One request, waiting or running."""

    __slots__ = (
        "arrived_s", "deadline_s", "exchange", "first_s", "late", "reply", "request", "said", "so_far", "start_s",
        "tails", "task",
    )  # fmt: skip

    def __init__(
        self,
        exchange: Exchange,
        request: ChatRequest | CompletionRequest,
        reply: Reply,
        so_far: generation.Resume | None,
    ) -> None:
        self.exchange = exchange
        self.request = request
        self.reply = reply
        self.so_far = so_far  # of an answer that began elsewhere
        self.said: Said | None = None  # what is watched of it
        self.arrived_s = monotonic()
        limit_s = exchange.head.timeout_s
        self.deadline_s = self.arrived_s + limit_s if limit_s > 0 else None
        self.start_s = 0.0
        self.first_s = 0.0
        self.tails: dict[int, str] = {}  # the last characters of each choice
        self.task: asyncio.Task[None] | None = None
        self.late: asyncio.TimerHandle | None = None  # while it waits


class GenerateWork:
    """Serves `chat` and `completions` with a GenerateEngine."""

    def __init__(self, spec: ReplicaSpec, engine: GenerateEngine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop
        self._slots = engine.slots or spec.concurrency
        self._queue_max, self._queue_max_bytes = room(spec)
        self._waiting: deque[_Turn] = deque()
        self._waiting_bytes = 0  # of their bodies
        self._running: set[_Turn] = set()
        self._sender = Sender(loop)
        self._watch = ChatWatch()
        self._finished = 0
        self._tokens = 0
        self._busy = BusyClock()

    @property
    def is_idle(self) -> bool:
        """See Work."""
        return not self._waiting and not self._running and self._sender.is_idle

    def warm_up(self) -> None:
        """See Work. A generating engine warms itself up in its load."""

    def take(self, exchange: Exchange) -> None:
        """See Work."""
        request_id, now_s = exchange.head.request, time.time()
        body, so_far = exchange.body, None
        if exchange.head.resume_bytes:
            if not isinstance(self._engine, CanResume):
                raise Unsupported("this engine cannot go on with an answer that another replica began")
            body, so_far = split(body, exchange.head.resume_bytes)
            now_s = so_far.created_s
        request: ChatRequest | CompletionRequest
        reply: Reply
        if exchange.head.method == "chat":
            request = decode_chat(body)
            reply = ChatReply(request, request.model, request_id, now_s)
        elif exchange.head.method == "completions":
            request = decode_completion(body)
            reply = CompletionReply(request, request.model, request_id, now_s)
        else:
            raise refuse(exchange.head.method)
        if so_far is not None:
            reply.go_on()
        self._check_room(exchange.head.body_bytes)
        exchange.body = b""
        turn = _Turn(exchange, request, reply, so_far)
        if not exchange.head.probe:
            turn.said = self._watch.begin(request, so_far.text if so_far is not None else "")
        exchange.on_cancel = lambda: self._forget(turn)
        self._waiting.append(turn)
        self._waiting_bytes += exchange.head.body_bytes
        self._start_more()
        if turn.task is None and turn.deadline_s is not None:
            turn.late = self._loop.call_later(turn.deadline_s - turn.arrived_s, self._expire, turn)

    def watch(self, exchange: Exchange) -> None:
        """See Watched."""
        question = asked(exchange.body)
        if isinstance(self._engine, HasServer):
            answer = Answer(problem="gateways speak to its server themselves, so no text passes the replica")
        else:
            answer = self._watch.answer(question)
        self._sender.end(exchange, EndHead(), msgspec.msgpack.encode(answer))

    def stats(self) -> WorkStats:
        """See Work."""
        return WorkStats(
            queued=len(self._waiting),
            running=len(self._running),
            slots=self._engine.slots,
            finished=self._finished,
            tokens=self._tokens,
            kv_used_ratio=self._engine.kv_used_ratio(),
            busy_s=self._busy.seconds,
        )

    def close(self) -> None:
        """See Work."""
        for turn in list(self._running):
            self._forget(turn)
        self._engine.close()

    def _start_more(self) -> None:
        """Start what waits while there are slots. A request marked `alone` shares the engine with no other."""
        while self._waiting and len(self._running) < self._slots:
            alone = self._waiting[0].exchange.head.alone or any(turn.exchange.head.alone for turn in self._running)
            if alone and self._running:
                return
            turn = self._waiting[0]
            self._leave(turn)
            self._running.add(turn)
            self._busy.begin()
            turn.task = self._loop.create_task(self._serve(turn))
            # Not a `finally` in there: a task that is cancelled before its first step runs none, and the slot is lost.
            turn.task.add_done_callback(partial(self._ended, turn))

    def _forget(self, turn: _Turn) -> None:
        if turn.task is not None:
            turn.task.cancel()
        else:
            self._leave(turn)
            self._start_more()  # it may have been one that shares the engine with nobody

    def _check_room(self, size_bytes: int) -> None:
        """Raise Busy when a request of `size_bytes` may not wait as well."""
        if len(self._waiting) >= self._queue_max:
            raise Busy(f"{self._queue_max} requests wait for this replica already", retry_after_s=BUSY_RETRY_S)
        if self._waiting and self._waiting_bytes + size_bytes > self._queue_max_bytes:
            raise Busy(
                f"requests of {self._waiting_bytes} bytes wait for this replica already; "
                f"it holds {self._queue_max_bytes}, a part of its memory",
                retry_after_s=BUSY_RETRY_S,
            )

    def _leave(self, turn: _Turn) -> None:
        """Let `turn` wait no more."""
        self._waiting.remove(turn)
        self._waiting_bytes -= turn.exchange.head.body_bytes
        if turn.late is not None:
            turn.late.cancel()
            turn.late = None

    def _expire(self, turn: _Turn) -> None:
        """Give up a turn whose deadline passed while it waited: it holds memory that others need."""
        turn.exchange.on_cancel = None
        self._forget(turn)
        turn.exchange.fail(
            DeadlineExceeded(
                f"the deadline of {turn.exchange.head.timeout_s:.3f} s passed in the queue", retry_after_s=BUSY_RETRY_S
            )
        )

    async def _serve(self, turn: _Turn) -> None:
        """Answer one request, whatever happens."""
        caller.work_for([turn.exchange.head])
        turn.start_s = monotonic()
        left_s = None if turn.deadline_s is None else turn.deadline_s - turn.start_s
        try:
            async with asyncio.timeout(left_s):
                await self._relay(turn, self._items(turn))
        except TimeoutError:
            limit_s = turn.exchange.head.timeout_s
            turn.exchange.fail(DeadlineExceeded(f"the deadline of {limit_s:.3f} s passed while generating"))
        except asyncio.CancelledError:
            pass  # the client went away: the engine's work is closed, and nobody waits for an answer
        except StokerError as problem:
            turn.exchange.fail(problem)
        except Exception as problem:  # the boundary to the engine
            _log.exception("the engine failed", extra=caller.names(turn.exchange.head))
            turn.exchange.fail(EngineFailed(f"{type(problem).__name__}: {problem}"))

    def _ended(self, turn: _Turn, _task: asyncio.Task[None]) -> None:
        turn.exchange.on_cancel = None
        self._finished += 1
        self._running.discard(turn)
        self._busy.end()
        self._start_more()

    def _items(self, turn: _Turn) -> AsyncIterator[generation.Delta | generation.Finish | generation.Final]:
        if turn.so_far is not None and isinstance(self._engine, CanResume):
            return self._engine.resume(turn.request, turn.so_far)
        return self._engine.generate(turn.request)

    async def _relay(
        self, turn: _Turn, items: AsyncIterator[generation.Delta | generation.Finish | generation.Final]
    ) -> None:
        """Pass what the engine yields to the client, to its end."""
        exchange, reply, said = turn.exchange, turn.reply, turn.said
        is_stream, hears = bool(turn.request.stream), said is not None
        try:
            async for item in items:
                if isinstance(item, generation.Final):
                    self._end(turn, item, is_stream=is_stream)
                    return
                if isinstance(item, generation.Delta):
                    self._tokens += item.tokens
                    if not turn.first_s:
                        turn.first_s = monotonic()
                    turn.tails[item.index] = (turn.tails.get(item.index, "") + item.text)[-TAIL:]
                    if hears and said is not None and not item.index:
                        hears = said.hear(item)
                elif said is not None and not item.index:
                    said.finish = item.reason
                event = reply.delta(item)
                if event:
                    await exchange.send(event)
        finally:
            close = getattr(items, "aclose", None)  # an iterator that is no generator may have nothing to close
            if close is not None:
                await close()
        raise EngineFailed("the engine stopped in the middle of the answer")

    def _end(self, turn: _Turn, final: generation.Final, *, is_stream: bool) -> None:
        timings = Timings(
            queue_s=turn.start_s - turn.arrived_s,
            batch_wait_s=max(0.0, turn.first_s - turn.start_s - final.prefill_s) if final.prefill_s else 0.0,
            compute_s=final.prefill_s + final.decode_s,
            prefill_s=final.prefill_s,
            decode_s=final.decode_s,
            first_token_s=max(0.0, turn.first_s - turn.arrived_s),
        )
        loops = sum(ends_in_a_loop(tail) for tail in turn.tails.values())
        usage = msgspec.structs.replace(final.usage, loops=loops) if loops else final.usage
        if is_stream:
            head = EndHead(content_type=EVENT_STREAM, usage=usage, timings=timings)
            turn.exchange.end(head, turn.reply.final(final))
        else:
            head = EndHead(usage=usage, timings=timings)
            self._sender.end(turn.exchange, head, turn.reply.whole(final))
        if turn.said is not None:
            self._watch.end(turn.said, final.usage)
