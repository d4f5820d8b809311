"""The OpenVINO pipeline as its process uses it: prompts go in, each step gives pieces of text.

Held in front of it, each seen to go wrong without (tests/engines_llm/test_openvino.py):
- a grammar that does not compile breaks every running request   → tried before, elsewhere (openvino_trial)
- a prompt over the cache ends as finished, with nothing said    → counted before; the pool holds one whole context
- a stop text is matched by whole tokens                         → matched in the text (openvino_text)
- choices without a seed are all the same                        → everyone has a seed
- many choices compute their prompt many times                   → the others follow when the first one's is known
"""

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stoker.runtime.engines.openvino_memory import BLOCK_TOKENS, Pool
from stoker.runtime.engines.openvino_text import HALF_CHARACTER, Detokenizer, KnownBlocks, StopScanner
from stoker.runtime.engines.openvino_trial import Trials, last_words, on_threads, output_config
from stoker.runtime.engines.openvino_wire import Add, Count, Piece, Ready, Setup, Step
from stoker.types.errors import InvalidInput, RefusedArtifact, StokerError, Unsupported

# What ends an answer in the chat formats there are; the pipeline itself knows only the one the file names.
_END_TOKENS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>")


def import_engine() -> tuple[Any, Any]:
    """Return openvino_genai and openvino, without what reports usage to its makers over the network."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it then falls back to a stub
    try:
        return importlib.import_module("openvino_genai"), importlib.import_module("openvino")
    except ImportError as missing:
        raise Unsupported(f"the engine openvino needs {missing.name}; install stoker[openvino]") from missing


class _Prompt:
    """One prompt and the choices that have not been begun."""

    def __init__(self, add: Add, tokens: list[int], cached: int) -> None:
        self.add = add
        self.tokens = tokens
        self.cached = cached
        self.arrived_s = time.monotonic()
        self.left = list(zip(add.choices, add.seeds, strict=True))


class _Answer:
    """One choice that is being made."""

    def __init__(self, choice: int, prompt: _Prompt, handle: Any, decode: Callable[[list[int]], str]) -> None:
        self.choice = choice
        self.prompt = prompt
        self.handle = handle
        self.tokens: list[int] = []
        self.first_s = 0.0
        self._text = Detokenizer(decode)
        self._stops = StopScanner(prompt.add.stops)
        self._made = 0  # tokens since the last piece
        self._logprobs: list[tuple[str, float]] = []

    def take(self, tokens: list[int], logprobs: list[float]) -> str:
        """Return the text that may be shown after `tokens`."""
        self.first_s = self.first_s or time.monotonic()
        shown = ""
        for token, logprob in zip(tokens, logprobs, strict=True):
            if self._stops.is_stopped:
                break
            self.tokens.append(token)
            self._made += 1
            text = self._text.add(token)
            shown += self._stops.feed(text)
            if self.prompt.add.logprobs and not self._stops.is_stopped:
                self._logprobs.append((text or HALF_CHARACTER, logprob))
        return shown

    def piece(self, shown: str, finish: str) -> Piece | None:
        """Return what is to be said now, None for nothing. `finish` is the pipeline's word, "" while it goes on."""
        if self._stops.is_stopped:
            finish = "stop"
        elif finish:
            shown += self._stops.end()
        if not shown and not finish:
            return None
        made, self._made = self._made, 0
        logprobs, self._logprobs = tuple(self._logprobs), []
        return Piece(self.choice, shown, made, logprobs, finish, self._count() if finish else None)

    def _count(self) -> Count:
        now_s = time.monotonic()
        first_s = self.first_s or now_s
        return Count(
            len(self.prompt.tokens),
            self.prompt.cached,
            len(self.tokens),
            first_s - self.prompt.arrived_s,
            now_s - first_s,
        )


class Pipeline:
    """One model, loaded. Not for use by several threads."""

    def __init__(self, setup: Setup, pool: Pool, stage: Callable[[str, float], None]) -> None:
        self._module, self._runtime = import_engine()
        stage("tokenizer", 0.1)
        self._tokenizer = self._module.Tokenizer(setup.path)
        if setup.chat_template is not None:
            self._tokenizer.set_chat_template(setup.chat_template)
        stage("weights", 0.4)
        config = self._module.SchedulerConfig()
        config.num_kv_blocks = pool.blocks
        config.max_num_seqs = setup.slots
        config.max_num_batched_tokens = max(setup.batch_tokens, setup.slots)
        config.dynamic_split_fuse = True
        config.enable_prefix_caching = True
        self._pipeline = self._module.ContinuousBatchingPipeline(
            setup.path, self._tokenizer, config, "CPU", **on_threads(setup.threads)
        )
        vocabulary: dict[bytes, int] = self._tokenizer.get_vocab()
        self._ends = {vocabulary[name] for name in map(str.encode, _END_TOKENS) if name in vocabulary}
        self._known = KnownBlocks(BLOCK_TOKENS, pool.blocks)
        self._answers: dict[int, _Answer] = {}
        self._next = 0
        size = max(vocabulary.values()) + 1
        self._trials = Trials(self._module, self._runtime, self._tokenizer, size)
        self.ready = Ready(pool.context_tokens, size, max(map(len, vocabulary)))

    @property
    def is_idle(self) -> bool:
        """Whether a step would do nothing."""
        return not self._answers

    @property
    def kv_used_ratio(self) -> float:
        """The share of the pool that holds what runs."""
        return 0.0 if self.is_idle else min(1.0, self._pipeline.get_metrics().cache_usage / 100)  # it is in percent

    def add(self, add: Add) -> list[Piece]:
        """Begin to answer a prompt; return pieces only for what is refused."""
        try:
            tokens = self._encode(add)
            if add.grammar is not None and (problem := self._trials.problem(add.grammar)):
                raise InvalidInput(f"the engine cannot enforce this schema: {problem}")
            prompt = _Prompt(add, tokens, self._known.known(tokens))
            self._begin(prompt)
        except StokerError as refused:
            kind = "unsupported" if isinstance(refused, Unsupported) else "input"
            return [Piece(choice, error=(kind, refused.message)) for choice in add.choices]
        return []

    def cancel(self, choices: tuple[int, ...]) -> list[Piece]:
        """Forget choices; return their last pieces."""
        pieces = []
        for choice in choices:
            answer = self._answers.get(choice)
            if answer is not None:
                answer.prompt.left.clear()  # a request is cancelled with all its choices
                answer.handle.cancel()
                self._forget(answer)
            pieces.append(Piece(choice, finish="cancelled"))
        return pieces

    def step(self) -> Step:
        """Compute one step of everything that runs. Whatever it raises is the pipeline's end."""
        self._pipeline.step()
        pieces = [piece for answer in list(self._answers.values()) for piece in self._read(answer)]
        return Step(pieces, self.kv_used_ratio)

    def warm_up(self) -> None:
        """Generate one token. Raises RefusedArtifact for a model that generates nothing."""
        config = self._module.GenerationConfig()
        config.max_new_tokens = 1
        try:
            handle = self._pipeline.add_request(0, self._tensor([0]), config)
            while self._pipeline.has_non_finished_requests():
                self._pipeline.step()
        except RuntimeError as failed:
            raise RefusedArtifact(f"this model does not generate text: {last_words(failed)}") from failed
        if not handle.can_read():
            raise RefusedArtifact("this model does not generate text")

    def _encode(self, add: Add) -> list[int]:
        """Return the prompt's tokens. Raises InvalidInput for what does not fit."""
        if isinstance(add.prompt, list):
            tokens = add.prompt
        elif add.messages is None:
            tokens = self._tokenizer.encode(add.prompt).input_ids.data[0].tolist()
        else:
            try:
                text = self._tokenizer.apply_chat_template(add.messages, True)
            except RuntimeError as refused:
                raise InvalidInput(f"the model cannot take this request: {last_words(refused)}") from refused
            tokens = self._tokenizer.encode(text, add_special_tokens=False).input_ids.data[0].tolist()
        most = self.ready.context
        if len(tokens) >= most:
            # OpenAI's own words, which clients look for (code context_length_exceeded).
            raise InvalidInput(
                f"This model's maximum context length is {most} tokens. However, your prompt has {len(tokens)} "
                "tokens. Please shorten it (context_length_exceeded)."
            )
        if not tokens:
            raise InvalidInput("the prompt has no tokens; the model needs at least one")
        return tokens

    def _begin(self, prompt: _Prompt) -> None:
        """Hand the next choice of `prompt` to the pipeline."""
        choice, seed = prompt.left.pop(0)
        self._next += 1
        try:
            handle = self._pipeline.add_request(self._next, self._tensor(prompt.tokens), self._config(prompt, seed))
        except RuntimeError as refused:
            raise InvalidInput(f"the engine cannot take this request: {last_words(refused)}") from refused
        self._answers[choice] = _Answer(choice, prompt, handle, self._tokenizer.decode)

    def _config(self, prompt: _Prompt, seed: int) -> Any:
        add, sampling = prompt.add, prompt.add.sampling
        config = self._module.GenerationConfig()
        left = self.ready.context - len(prompt.tokens)
        config.max_new_tokens = min(add.tokens_max or left, left)
        config.ignore_eos = sampling.ignore_eos
        if not sampling.ignore_eos:
            config.stop_token_ids = self._ends
        config.presence_penalty = sampling.presence_penalty
        config.frequency_penalty = sampling.frequency_penalty
        if sampling.temperature > 0:
            config.do_sample = True
            config.temperature = sampling.temperature
            config.top_p = sampling.top_p
            config.min_p = sampling.min_p
            if sampling.top_k:
                config.top_k = sampling.top_k
            config.rng_seed = seed
        if add.logprobs:
            config.logprobs = 1
        if add.grammar is not None:
            config.structured_output_config = output_config(self._module, add.grammar)
        return config

    def _read(self, answer: _Answer) -> Iterator[Piece]:
        """Yield what a step added to one answer, and begin the choices that waited for its prompt."""
        shown, finish = "", ""
        while answer.handle.can_read():
            output = answer.handle.read()[0]
            shown += answer.take(output.generated_ids, output.generated_log_probs)
            if output.finish_reason != self._module.GenerationFinishReason.NONE:
                is_cut = output.finish_reason == self._module.GenerationFinishReason.LENGTH
                finish = "length" if is_cut else "stop"
        if not finish and answer.handle.get_status() == self._module.GenerationStatus.IGNORED:
            self._forget(answer)
            for choice in (answer.choice, *(choice for choice, _ in answer.prompt.left)):
                yield Piece(choice, error=("engine", "the attention cache is too small for this request"))
            return
        if answer.first_s and answer.prompt.left:
            self._known.add(answer.prompt.tokens)
            while answer.prompt.left:
                self._begin(answer.prompt)
        piece = answer.piece(shown, finish)
        if piece is None:
            return
        if piece.finish:
            if not finish:  # ended by a stop text, which the pipeline does not know of
                answer.handle.cancel()
            self._forget(answer)
        yield piece

    def _forget(self, answer: _Answer) -> None:
        del self._answers[answer.choice]
        if answer.first_s:
            self._known.add([*answer.prompt.tokens, *answer.tokens[:-1]])

    def _tensor(self, tokens: list[int]) -> Any:
        return self._runtime.Tensor(np.array([tokens], np.int64))
