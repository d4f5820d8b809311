"""The embedded language-model engine: llama.cpp, through xllamacpp, in the replica's own process.

What is held in front of it, each seen to go wrong without (tests/engines_llm):
- OpenMP's threads spin without end beside a busy neighbour      → bounded spin, one core left free (llamacpp_load)
- only streamed answers can be aborted, and not their prompts    → always streamed, with a callback in each prompt step
- a schema or grammar that does not compile is silently ignored  → checked before, tried once, and the answer compared
- `tool_choice` is not enforced                                  → a call is held to a schema (tools)
- prompts of past requests take up to 8 GiB                      → none are kept unless the option says so
- an open HTTP server comes with every engine                    → on a socket whose name is gone after the load
- client errors come back as 500                                 → ours (llamacpp_chunks)
"""

import secrets
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import msgspec

from stoker.protocol.openai import ChatRequest, CompletionRequest
from stoker.runtime import options
from stoker.runtime.engines import llamacpp_resume, llamacpp_vocabulary
from stoker.runtime.engines.choices import Generation, Job
from stoker.runtime.engines.llamacpp_chunks import as_error, read_chunk
from stoker.runtime.engines.llamacpp_load import LlamaOptions, Loaded, bring_up
from stoker.runtime.engines.llamacpp_request import chat_job, completion_job, json_grammar
from stoker.runtime.engines.llamacpp_stream import Proofs, RunState
from stoker.runtime.engines.llamacpp_vocabulary import Vocabulary
from stoker.runtime.engines.port import Progress
from stoker.types.errors import Draining, EngineFailed, InvalidInput, RefusedArtifact, StokerError, Unsupported
from stoker.types.generation import Resume
from stoker.types.replica import ReplicaSpec

# A text no model begins with by chance; see `_compiles`.
_SENTINEL = "zebra quartz"
_SENTINEL_TOKENS_MAX = 16
CLOSE_TIMEOUT_S = 10.0


def load(spec: ReplicaSpec, progress: Progress) -> "LlamaEngine":
    """Load the GGUF file of `spec` and prove that it answers. See port.Load."""
    if spec.task != "chat":
        raise Unsupported(f"the llamacpp engine serves task chat, not {spec.task}; for embeddings use an ONNX model")
    loaded = bring_up(spec, options.read(spec, LlamaOptions), progress)
    progress("warm-up", 0.9)
    engine = LlamaEngine(loaded)
    try:
        engine.self_test()
    except BaseException:
        engine.close()
        raise
    return engine


class LlamaEngine:
    """A GenerateEngine over one llama.cpp server."""

    def __init__(self, loaded: Loaded) -> None:
        self.slots = loaded.slots
        self.context_tokens = loaded.context_tokens
        self._vocabulary = loaded.vocabulary
        self._path: Path = loaded.path
        self._words: Vocabulary | None = None  # read when an answer is continued for the first time
        self._reading = threading.Lock()
        self._server: Any = loaded.server
        self._pool = ThreadPoolExecutor(loaded.slots, thread_name_prefix="llama")
        self._running: set[RunState] = set()
        self._futures: dict[RunState, Future[None]] = {}  # of everything not ended yet
        self._proofs = Proofs()
        self._proving = threading.Lock()
        self._can_constrain = True

    def generate(self, request: ChatRequest | CompletionRequest) -> Generation:
        """See port.GenerateEngine."""
        return Generation(lambda generation: self._begin(request, generation))

    def resume(self, request: ChatRequest | CompletionRequest, so_far: Resume) -> Generation:
        """See port.CanResume."""
        return Generation(lambda generation: self._begin(request, generation, so_far))

    def kv_used_ratio(self) -> float:
        """See port.GenerateEngine. Counts prompts and answers of what runs, not what slots keep for later prompts."""
        used = sum(run.prompt_tokens + run.output_tokens for run in list(self._running))
        return min(1.0, used / (self.slots * self.context_tokens))

    @property
    def running(self) -> int:
        """Choices that hold a slot, aborted ones included until the engine lets go of them."""
        return len(self._running)

    def close(self) -> None:
        """Abort what runs, and free the model once the engine let go of it. Blocks, at most CLOSE_TIMEOUT_S."""
        for run in list(self._futures):
            run.abandon()
        self._pool.shutdown(wait=False)  # what waits for a slot comes up, sees that it is abandoned, and ends
        if not wait(list(self._futures.values()), timeout=CLOSE_TIMEOUT_S).not_done:
            self._server = None

    def self_test(self) -> None:
        """Generate one token and one constrained text. Raises RefusedArtifact for a model that generates nothing."""
        problem = self._try_text({"prompt": "a", "max_tokens": 1})[1]
        if problem is not None:
            raise RefusedArtifact(f"this model does not generate text: {problem.message}")
        self._can_constrain = self._compiles(json_grammar({"type": "object"}))

    def _begin(
        self, request: ChatRequest | CompletionRequest, generation: Generation, so_far: Resume | None = None
    ) -> list[RunState]:
        if isinstance(request, ChatRequest):
            job = chat_job(request, self._vocabulary)
        else:
            job = completion_job(request, self._vocabulary)
        if job.grammar and not self._can_constrain:
            raise Unsupported("this model's tokens cannot be constrained: no tools and no response_format")
        if so_far is not None and (job.grammar or len(job.runs) > 1):
            raise Unsupported("only one choice of plain text can be continued")
        runs = [RunState(run, job, generation.feed, f"call_{secrets.token_hex(12)}", so_far) for run in job.runs]
        for run in runs:
            try:
                self._futures[run] = self._pool.submit(self._serve, run)
            except RuntimeError as closed:
                raise Draining("the engine is closing") from closed
        return runs

    def _serve(self, run: RunState) -> None:
        """Generate one choice; runs in a thread of the pool and holds its slot until it returns."""
        problem: StokerError | None = None
        self._running.add(run)
        try:
            if not run.is_unwanted:
                self._prove(run.job)
                if run.so_far is None:
                    self._call(run)
                else:
                    self._go_on(run, run.so_far)
        except StokerError as known:
            problem = known
        except Exception as unknown:  # the boundary of the engine: whatever its binding raises ends one request only
            problem = EngineFailed(f"llama.cpp: {unknown}")
        finally:
            self._running.discard(run)
            self._futures.pop(run, None)
            run.end(problem)

    def _call(self, run: RunState) -> None:
        handle = self._server.handle_chat_completions if run.job.is_chat else self._server.handle_completions
        try:
            handle(run.run.body, run.take)
        except (ValueError, RuntimeError) as refused:
            if run.has_begun:
                raise
            # Everything typed was checked before: what is left is what the model's template refuses.
            raise InvalidInput(f"the model cannot take this request: {refused}") from refused

    def _go_on(self, run: RunState, so_far: Resume) -> None:
        with self._reading:
            if self._words is None:
                self._words = llamacpp_vocabulary.read(self._path)
        server = self._server
        engine = llamacpp_resume.Engine(
            server.handle_chat_completions, server.handle_completions, lambda: run.is_unwanted
        )
        run.seam = llamacpp_resume.seam(engine, run.run.body, run.job.is_chat, self._words, so_far)
        if run.is_unwanted:
            return
        if run.seam.body:
            server.handle_completions(run.seam.body, run.take)
        else:  # every token was made; only the end was lost
            run.take(llamacpp_resume.ENDED)

    def _prove(self, job: Job) -> None:
        """See that the engine compiles the job's grammar: it generates without one when it cannot, and says nothing."""
        if not job.grammar:
            return
        with self._proving:  # many equal requests at once need one trial
            compiles = self._proofs.get(job.grammar)
            if compiles is None:
                compiles = self._compiles(job.grammar)
                self._proofs.put(job.grammar, compiles=compiles)
        if not compiles:
            field = "tools" if job.calls != "never" else "response_format.json_schema.schema"
            raise InvalidInput(
                f"{field}: the engine cannot enforce this schema (no value fits it, or a pattern is not supported)",
                field=field,
            )

    def _compiles(self, grammar: str) -> bool:
        """Return whether the engine obeys `grammar`: one that must begin with the sentinel begins with it."""
        head, start, rest = grammar.partition("\nstart: ")
        trial = f'{head}{start}"{_SENTINEL}" answer\nanswer: {rest}'
        body = {"prompt": "a", "max_tokens": _SENTINEL_TOKENS_MAX, "temperature": 0, "grammar": trial}
        text, problem = self._try_text(body, until=_SENTINEL)
        return problem is None and text.startswith(_SENTINEL)

    def _try_text(self, body: dict[str, Any], until: str = "") -> tuple[str, StokerError | None]:
        """Return the text for `body`, as far as `until`, and the engine's error; blocks."""
        texts: list[str] = []
        problems: list[StokerError] = []

        def take(data: bytes) -> bool:
            chunk = read_chunk(data)
            if chunk.error is not None:
                problems.append(as_error(chunk.error))
            texts.extend(choice.text for choice in chunk.choices)
            return bool(until) and "".join(texts).startswith(until)

        try:
            self._server.handle_completions(msgspec.json.encode({**body, "stream": True}), take)
        except (ValueError, RuntimeError) as refused:
            problems.append(EngineFailed(str(refused)))
        return "".join(texts), problems[0] if problems else None
