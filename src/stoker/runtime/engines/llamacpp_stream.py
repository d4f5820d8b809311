"""How an answer travels from llama.cpp's threads to the event loop, and how it is stopped on the way.

Each choice is one blocking call in a thread of the pool; the pool has as many threads as the engine has slots, so the
engine itself never queues. The callback runs in that thread and does three things: append, wake the loop once, and
answer whether anybody still wants the text. Everything else happens in the loop.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from hashlib import sha256

from stoker.runtime.engines.json_schema import violation
from stoker.runtime.engines.llamacpp_chunks import Chunk, ChunkChoice, as_error, read_chunk, token_logprobs
from stoker.runtime.engines.llamacpp_request import Job, Run
from stoker.runtime.engines.tools import CallReader
from stoker.types.errors import EngineFailed, StokerError
from stoker.types.generation import Delta, Final, Finish
from stoker.types.replica import Usage

Item = Delta | Finish | Final


class Feed:
    """A mailbox from threads to one event loop. Holds at most one answer: the engine's context bounds it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_closed = False  # nobody reads any more; the threads stop at their next callback
        self._loop = loop
        self._letters: deque[tuple[RunState, bytes | StokerError | None]] = deque()
        self._is_signalled = False
        self._has_mail = asyncio.Event()

    def push(self, run: "RunState", letter: bytes | StokerError | None) -> None:
        """Add a chunk, a failure, or None for the end of `run`; called by any thread."""
        self._letters.append((run, letter))
        if self._is_signalled or self.is_closed:
            return
        self._is_signalled = True
        try:
            self._loop.call_soon_threadsafe(self._has_mail.set)
        except RuntimeError:  # the loop is closed: the process ends
            self.is_closed = True

    async def take(self) -> "list[tuple[RunState, bytes | StokerError | None]]":
        """Wait for letters and return all there are."""
        while not self._letters:
            await self._has_mail.wait()
            self._has_mail.clear()
            self._is_signalled = False
        taken = []
        while self._letters:
            taken.append(self._letters.popleft())
        return taken


class RunState:
    """One choice in the making. The thread writes `take`'s letters, the loop everything else."""

    def __init__(self, run: Run, job: Job, feed: Feed, call_id: str) -> None:
        self.run = run
        self.job = job
        self.prompt_tokens = 0
        self.output_tokens = 0
        self.cached_tokens = 0
        self.prefill_s = 0.0
        self.decode_s = 0.0
        self.has_begun = False
        self._is_abandoned = False
        self._feed = feed
        self._reader = CallReader(call_id, must=job.calls == "must") if job.calls != "never" else None
        self._texts: list[str] = []  # of an answer that is compared with its schema at the end
        self._held_tokens = 0
        self._finish: str | None = None

    @property
    def is_unwanted(self) -> bool:
        """Whether the client is gone, or the engine is closing."""
        return self._feed.is_closed or self._is_abandoned

    def abandon(self) -> None:
        """Have the engine stop at its next callback; whoever reads gets EngineFailed."""
        self._is_abandoned = True

    def take(self, chunk: bytes) -> bool:
        """Take one chunk from the engine's thread; True tells the engine to stop."""
        self.has_begun = True
        self._feed.push(self, chunk)
        return self._feed.is_closed or self._is_abandoned

    def end(self, problem: StokerError | None) -> None:
        """Tell the loop that the engine is done with this choice."""
        self._feed.push(self, problem)

    def read(self, data: bytes) -> list[Item]:
        """Return what a chunk adds to the answer. Raises the engine's error as ours."""
        chunk = read_chunk(data)
        if chunk.error is not None:
            raise as_error(chunk.error)
        if chunk.prompt_progress is not None:
            self.prompt_tokens = chunk.prompt_progress.total
            return []
        self._count(chunk)
        return [item for choice in chunk.choices for item in self._read_choice(choice)]

    def close(self) -> list[Item]:
        """Return the end of this choice. Raises EngineFailed for an answer that is not what was asked for."""
        if self._finish is None:
            raise EngineFailed("the engine ended an answer without saying why")
        items: list[Item] = []
        reason = self._finish
        if self._reader is not None:
            text, calls = self._reader.end(is_cut=reason == "length")
            if text or calls:
                items.append(Delta(self.run.index, text, self._held_tokens, calls))
            if self._reader.is_call and reason == "stop":
                reason = "tool_calls"
        # A text cut by its length or by the client's own stop text need not be whole.
        is_answer_to_schema = self._reader is None or self._reader.is_call or self.job.calls == "must"
        if self.job.schema is not None and is_answer_to_schema and self._finish == "stop" and not self.job.has_stops:
            wrong = violation("".join(self._texts), self.job.schema)
            if wrong:
                raise EngineFailed(f"the engine's answer does not keep to the schema: {wrong}")
        items.append(Finish(self.run.index, reason))
        return items

    def _count(self, chunk: Chunk) -> None:
        if chunk.usage is not None:
            self.prompt_tokens = chunk.usage.prompt_tokens
            self.output_tokens = chunk.usage.completion_tokens
            details = chunk.usage.prompt_tokens_details
            self.cached_tokens = details.cached_tokens if details is not None else 0
        if chunk.timings is not None:
            self.prefill_s = chunk.timings.prompt_ms / 1000
            self.decode_s = chunk.timings.predicted_ms / 1000

    def _read_choice(self, choice: ChunkChoice) -> list[Item]:
        if choice.finish_reason is not None:
            self._finish = choice.finish_reason
        text = (choice.delta.content or "") if choice.delta is not None else choice.text
        logprobs = token_logprobs(choice.logprobs, self.job.top_logprobs)
        if not text and not logprobs:
            return []
        self.output_tokens += 1
        if self.job.schema is not None:
            self._texts.append(text)
        if self._reader is None:
            return [Delta(self.run.index, text, 1, (), logprobs)]
        shown, calls = self._reader.feed(text)
        self._held_tokens += 1
        if not shown and not calls:
            return []
        tokens, self._held_tokens = self._held_tokens, 0
        return [Delta(self.run.index, shown, tokens, calls)]


class Generation:
    """The answer to one request as it is made; closing it aborts what still runs.

    A class, not a generator: a generator closed before its first step runs no `finally`.
    """

    def __init__(self, begin: Callable[["Generation"], list[RunState]]) -> None:
        self.feed = Feed(asyncio.get_running_loop())
        self._begin = begin
        self._runs: list[RunState] = []
        self._open = 0
        self._has_begun = False
        self._is_over = False
        self._items: deque[Item] = deque()

    def __aiter__(self) -> "Generation":
        return self

    async def __anext__(self) -> Item:
        """Return the next item. Raises InvalidInput, Unsupported or EngineFailed; after that it is closed."""
        try:
            if not self._has_begun:
                self._has_begun = True
                self._runs = self._begin(self)
                self._open = len(self._runs)
                self._items.extend(Delta(run.run.index, run.run.echo, 0) for run in self._runs if run.run.echo)
            while not self._items:
                if self._is_over:
                    raise StopAsyncIteration
                for run, letter in await self.feed.take():
                    self._items.extend(self._read(run, letter))
            return self._items.popleft()
        except BaseException:
            self._close()
            raise

    async def aclose(self) -> None:
        """Abort: the engine stops at its next token, or after the step of the prompt that is being taken."""
        self._close()

    def __del__(self) -> None:
        self.feed.is_closed = True

    def _close(self) -> None:
        self.feed.is_closed = True
        self._has_begun = self._is_over = True
        self._items.clear()

    def _read(self, run: RunState, letter: bytes | StokerError | None) -> list[Item]:
        if isinstance(letter, bytes):
            return run.read(letter)
        if letter is not None:
            raise letter
        items = run.close()
        self._open -= 1
        if self._open == 0:
            self._is_over = True
            items.append(self._final())
        return items

    def _final(self) -> Final:
        first_of = {run.run.prompt: run for run in reversed(self._runs)}  # each prompt is counted once
        usage = Usage(
            input_tokens=sum(run.prompt_tokens for run in first_of.values()),
            output_tokens=sum(run.output_tokens for run in self._runs),
            cached_tokens=sum(run.cached_tokens for run in first_of.values()),
        )
        return Final(usage, sum(run.prefill_s for run in self._runs), sum(run.decode_s for run in self._runs))


class Proofs:
    """Which grammars the engine was seen to compile; the last PROOFS_MAX are remembered. For use by many threads."""

    PROOFS_MAX = 256

    def __init__(self) -> None:
        self._known: dict[bytes, bool] = {}
        self._lock = threading.Lock()

    def get(self, grammar: str) -> bool | None:
        """Return whether `grammar` compiles, None when it was not tried."""
        with self._lock:
            return self._known.get(sha256(grammar.encode()).digest())

    def put(self, grammar: str, *, compiles: bool) -> None:
        """Remember the outcome of a trial."""
        with self._lock:
            if len(self._known) >= self.PROOFS_MAX:
                del self._known[next(iter(self._known))]
            self._known[sha256(grammar.encode()).digest()] = compiles
