"""What an answer's choices are to the engines that make them: asked for, put together from text, handed to a reader.

An engine makes each choice somewhere else (a thread, a process) and pushes what it has as letters into a Feed;
everything else happens in the event loop of whoever reads the Generation.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from stoker.protocol.openai import ChatRequest, Sampling
from stoker.runtime.engines.json_schema import check_schema, violation
from stoker.runtime.engines.tools import CallReader
from stoker.types.errors import EngineFailed, InvalidInput, StokerError
from stoker.types.generation import Delta, Final, Finish, TokenLogprob
from stoker.types.replica import Usage

CHOICES_MAX = 128  # of one request: prompts × n
CallMode = Literal["never", "may", "must"]
Item = Delta | Finish | Final
Letter = Any  # what an engine says of a choice; a StokerError: it failed, None: it is done


class Run(msgspec.Struct, frozen=True):
    """One choice to generate. `prompt` tells apart the prompts of one request, of which usage counts each once."""

    index: int
    prompt: int
    body: bytes = b""  # as the engine takes it, where each choice has its own
    echo: str = ""


class Job(msgspec.Struct, frozen=True):
    """One request as the engine gets it.

    grammar: what the answer is held to, "" for nothing. schema: what a complete answer is compared with afterwards.
    top_logprobs: how many alternatives to show with each token, None for no log-probabilities at all.
    """

    is_chat: bool
    runs: tuple[Run, ...]
    grammar: str = ""
    schema: dict[str, Any] | None = None
    calls: CallMode = "never"
    has_stops: bool = False
    top_logprobs: int | None = None


def answer_schema(request: ChatRequest) -> dict[str, Any] | None:
    """Return what `response_format` holds the answer to, None for nothing. Raises InvalidInput with the field."""
    form = request.response_format
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return {"type": "object"}
    if form.json_schema is None:
        raise InvalidInput("response_format.json_schema is missing", field="response_format.json_schema")
    return check_schema(form.json_schema.schema, "response_format.json_schema.schema")


def stop_texts(request: Sampling) -> list[str]:
    """Return the texts before which the answer ends. Raises InvalidInput for an empty one."""
    stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
    if any(not stop for stop in stops):
        raise InvalidInput("stop holds an empty text", field="stop")
    return stops


class Feed:
    """A mailbox from threads to one event loop. Holds at most one answer: the engine's context bounds it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_closed = False  # nobody reads any more; the threads stop at their next callback
        self.on_close: Callable[[], None] | None = None  # for an engine that has to be told; called once, by any thread
        self._loop = loop
        self._letters: deque[tuple[Choice, Letter]] = deque()
        self._is_signalled = False
        self._has_mail = asyncio.Event()

    def push(self, run: "Choice", letter: Letter) -> None:
        """Add a chunk, a failure, or None for the end of `run`; called by any thread."""
        self._letters.append((run, letter))
        if self._is_signalled or self.is_closed:
            return
        self._is_signalled = True
        try:
            self._loop.call_soon_threadsafe(self._has_mail.set)
        except RuntimeError:  # the loop is closed: the process ends
            self.is_closed = True

    def close(self) -> None:
        """Say that nobody reads any more."""
        self.is_closed = True
        told, self.on_close = self.on_close, None
        if told is not None:
            told()

    async def take(self) -> "list[tuple[Choice, Letter]]":
        """Wait for letters and return all there are."""
        while not self._letters:
            await self._has_mail.wait()
            self._has_mail.clear()
            self._is_signalled = False
        taken = []
        while self._letters:
            taken.append(self._letters.popleft())
        return taken


class Choice(ABC):
    """One choice in the making. The engine's side pushes letters, the loop does everything else.

    An engine says in a subclass how a letter is read (`read`), and calls `_piece` and `_finish` from there.
    """

    def __init__(self, run: Run, job: Job, feed: Feed, call_id: str) -> None:
        self.run = run
        self.job = job
        self.prompt_tokens = 0
        self.output_tokens = 0
        self.cached_tokens = 0
        self.prefill_s = 0.0
        self.decode_s = 0.0
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
        """Have the engine stop at its next look; whoever reads gets EngineFailed."""
        self._is_abandoned = True

    def push(self, letter: Letter) -> None:
        """Hand a letter to whoever reads; called by any thread."""
        self._feed.push(self, letter)

    def end(self, problem: StokerError | None) -> None:
        """Tell the loop that the engine is done with this choice."""
        self._feed.push(self, problem)

    @abstractmethod
    def read(self, letter: Letter) -> list[Item]:
        """Return what a letter adds to the answer. Raises the engine's error as ours."""

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

    def _piece(self, text: str, tokens: int, logprobs: tuple[TokenLogprob, ...] = ()) -> list[Item]:
        """Return the items for `text`, which `tokens` tokens made."""
        if self.job.schema is not None:
            self._texts.append(text)
        if self._reader is None:
            return [Delta(self.run.index, text, tokens, (), logprobs)]
        shown, calls = self._reader.feed(text)
        self._held_tokens += tokens
        if not shown and not calls:
            return []
        tokens, self._held_tokens = self._held_tokens, 0
        return [Delta(self.run.index, shown, tokens, calls)]


class Generation:
    """The answer to one request as it is made; closing it aborts what still runs.

    A class, not a generator: a generator closed before its first step runs no `finally`.
    """

    def __init__(self, begin: Callable[["Generation"], Sequence[Choice]]) -> None:
        self.feed = Feed(asyncio.get_running_loop())
        self._begin = begin
        self._runs: Sequence[Choice] = ()
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
        self.feed.close()

    def _close(self) -> None:
        self.feed.close()
        self._has_begun = self._is_over = True
        self._items.clear()

    def _read(self, run: Choice, letter: Letter) -> list[Item]:
        if isinstance(letter, StokerError):
            raise letter
        if letter is not None:
            return run.read(letter)
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
