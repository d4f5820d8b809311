"""The second engine for GGUF models on CPUs: OpenVINO's continuous batching, in a process of its own.

Beside llama.cpp it computes prompts several times faster, shares one prefix cache between all requests and stops in
the middle of a prompt (docs/how-to/engines.md has the numbers); it knows fewer architectures, no top_logprobs and no
logit_bias, and takes seconds to load. What was put in front of it, and why, is in openvino_pipeline.py.
"""

import contextlib
import itertools
import os
import secrets
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from stoker.protocol.openai import ChatRequest, CompletionRequest
from stoker.runtime import options
from stoker.runtime.engines.choices import Choice, Feed, Generation, Item, Job, Letter, Run
from stoker.runtime.engines.cores import whole_cores
from stoker.runtime.engines.openvino_child import Child, as_error
from stoker.runtime.engines.openvino_request import Ask, chat_ask, completion_ask
from stoker.runtime.engines.openvino_wire import Add, Cancel, Piece, Ready, Setup, Step
from stoker.runtime.engines.port import Progress
from stoker.types.errors import Draining, EngineFailed, Unsupported
from stoker.types.generation import TokenLogprob
from stoker.types.replica import ReplicaSpec


class OpenvinoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Engine options of a GGUF endpoint that OpenVINO runs."""

    # Tokens of prompt and answer together, for each request; by default 4096, or what the model was trained with.
    context: Annotated[int, Meta(ge=64, le=2**20)] | None = None
    slots: Annotated[int, Meta(ge=1, le=256)] = 4  # requests worked on at once
    threads: Annotated[int, Meta(ge=1, le=1024)] | None = None
    # Tokens of one step, of all requests together. A step is how long every stream stands still: with a prompt of 1,500
    # tokens among four streams 64 took 0.15 s, 128 0.22 s and 256 0.45 s; the prompt 2.7, 2.2 and 2.1 s.
    batch_tokens: Annotated[int, Meta(ge=16, le=8192)] = 128
    chat_template: str | None = None  # Jinja text, instead of the model's own


def end_replica() -> None:
    """End this process in its own orderly way, for the agent to start anew."""
    os.kill(os.getpid(), signal.SIGTERM)


def load(spec: ReplicaSpec, progress: Progress, *, on_death: Callable[[], None] = end_replica) -> "OpenvinoEngine":
    """Load the GGUF file of `spec` in a process of its own and prove that it answers. See port.Load.

    on_death: called by a thread when that process died unasked; without it the engine can do nothing.
    """
    if spec.task != "chat":
        raise Unsupported(f"the openvino engine serves task chat, not {spec.task}; for embeddings use an ONNX model")
    wanted = options.read(spec, OpenvinoOptions)
    progress("engine", 0.0)
    setup = Setup(
        path=str(Path(spec.model_dir) / spec.manifest.entry),
        slots=wanted.slots,
        context=wanted.context,
        batch_tokens=wanted.batch_tokens,
        # All the cores of the replica, the machine's last one too: these threads do not spin while they wait.
        threads=wanted.threads or whole_cores(spec.cores),
        memory_bytes=spec.memory_bytes,
        chat_template=wanted.chat_template,
    )
    return OpenvinoEngine(setup, progress, on_death)


class OpenvinoChoice(Choice):
    """One choice of the pipeline's. Its letters are pieces."""

    def __init__(self, run: Run, job: Job, feed: Feed, call_id: str, number: int) -> None:
        super().__init__(run, job, feed, call_id)
        self.number = number

    def read(self, letter: Letter) -> list[Item]:
        """See Choice."""
        piece: Piece = letter
        if piece.error is not None:
            raise as_error(*piece.error)
        if piece.count is not None:
            self.prompt_tokens, self.cached_tokens = piece.count.prompt_tokens, piece.count.cached_tokens
            self.output_tokens = piece.count.output_tokens
            self.prefill_s, self.decode_s = piece.count.prefill_s, piece.count.decode_s
        self._finish = piece.finish or None
        if not piece.text and not piece.logprobs:
            return []
        return self._piece(piece.text, piece.tokens, tuple(TokenLogprob(*each) for each in piece.logprobs))


class OpenvinoEngine:
    """A GenerateEngine over one pipeline in a child process."""

    def __init__(self, setup: Setup, progress: Progress, on_death: Callable[[], None]) -> None:
        self._running: dict[int, OpenvinoChoice] = {}
        self._numbers = itertools.count(1)
        self._kv_used_ratio = 0.0
        self._is_closed = False
        self._on_death = on_death
        self._child = Child(self._take, self._die)
        try:
            self._ready: Ready = self._child.load(setup, progress)
        except BaseException:
            self._child.close()
            raise
        self.slots = setup.slots
        self.context_tokens = self._ready.context

    @property
    def is_closed(self) -> bool:
        """Whether it takes nothing any more: it was closed, or its process died."""
        return self._is_closed

    @property
    def running(self) -> int:
        """Choices that are not ended, aborted ones included until the pipeline let go of them."""
        return len(self._running)

    @property
    def pid(self) -> int:
        """The process id of the pipeline."""
        return self._child.pid

    def generate(self, request: ChatRequest | CompletionRequest) -> Generation:
        """See port.GenerateEngine."""
        return Generation(lambda generation: self._begin(request, generation))

    def kv_used_ratio(self) -> float:
        """See port.GenerateEngine. As of the last step that made text."""
        return self._kv_used_ratio if self._running else 0.0

    def close(self) -> None:
        """End the pipeline and its process; whoever still reads gets EngineFailed. Blocks for a step."""
        self._is_closed = True
        self._child.close()
        self._fail_all("the engine is closed")

    def _begin(self, request: ChatRequest | CompletionRequest, generation: Generation) -> list[OpenvinoChoice]:
        if self._is_closed:
            raise Draining("the engine is closing")
        if isinstance(request, ChatRequest):
            ask = chat_ask(request, self._ready)
        else:
            ask = completion_ask(request, self._ready)
        choices = [
            OpenvinoChoice(run, ask.job, generation.feed, f"call_{secrets.token_hex(12)}", next(self._numbers))
            for run in ask.job.runs
        ]
        self._running |= {choice.number: choice for choice in choices}
        generation.feed.on_close = lambda: self._abort(choices)
        for at in range(len(ask.prompts)):
            self._child.send(_add(ask, at, choices))
        return choices

    def _abort(self, choices: list[OpenvinoChoice]) -> None:
        left = tuple(choice.number for choice in choices if choice.number in self._running)
        if left:
            self._child.send(Cancel(left))

    def _take(self, step: Step) -> None:
        """Hand out what a step made; called by the thread that reads from the child."""
        self._kv_used_ratio = step.kv_used_ratio
        for piece in step.pieces:
            choice = self._running.get(piece.choice)
            if choice is None:
                continue
            if piece.finish or piece.error is not None:
                del self._running[piece.choice]
            if piece.finish == "cancelled":
                continue
            choice.push(piece)
            if piece.finish:
                choice.end(None)

    def _die(self, last_words: str) -> None:
        """Fail what runs, and say that this engine is done for."""
        self._is_closed = True
        self._fail_all(last_words)
        with contextlib.suppress(OSError):
            os.write(2, f"{last_words}; this replica ends\n".encode())
        self._on_death()

    def _fail_all(self, words: str) -> None:
        for number in list(self._running):
            choice = self._running.pop(number, None)
            if choice is not None:
                choice.end(EngineFailed(words))


def _add(ask: Ask, at: int, choices: list[OpenvinoChoice]) -> Add:
    prompt = ask.prompts[at]
    is_conversation = ask.job.is_chat
    return Add(
        choices=tuple(choice.number for choice in choices if choice.run.prompt == at),
        seeds=ask.seeds,
        sampling=ask.sampling,
        messages=prompt if is_conversation else None,  # type: ignore[arg-type]  # is_chat says which
        prompt="" if is_conversation else prompt,  # type: ignore[arg-type]
        tokens_max=ask.tokens_max,
        stops=ask.stops,
        grammar=ask.grammar,
        logprobs=ask.logprobs,
    )
