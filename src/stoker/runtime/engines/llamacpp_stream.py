"""How an answer travels from llama.cpp's threads to the event loop, and how it is stopped on the way.

Each choice is one blocking call in a thread of the pool; the pool has as many threads as the engine has slots, so the
engine itself never queues. The callback runs in that thread and does three things: append, wake the loop once, and
answer whether anybody still wants the text. Everything else happens in the loop.
"""

import threading
from hashlib import sha256

from stoker.runtime.engines.choices import Choice, Feed, Item, Job, Letter, Run
from stoker.runtime.engines.llamacpp_chunks import Chunk, ChunkChoice, as_error, read_chunk, token_logprobs
from stoker.runtime.engines.llamacpp_resume import Seam
from stoker.types.errors import EngineFailed
from stoker.types.generation import Resume


class RunState(Choice):
    """One choice of llama.cpp's. The thread pushes chunks through `take`."""

    def __init__(self, run: Run, job: Job, feed: Feed, call_id: str, so_far: Resume | None = None) -> None:
        super().__init__(run, job, feed, call_id)
        self.so_far = so_far  # of an answer that another replica began
        self.seam: Seam | None = None  # and where it goes on, once known
        self.has_begun = False

    def take(self, chunk: bytes) -> bool:
        """Take one chunk from the engine's thread; True tells the engine to stop."""
        self.has_begun = True
        self.push(chunk)
        return self.is_unwanted

    def read(self, letter: Letter) -> list[Item]:
        """See Choice."""
        chunk = read_chunk(letter)
        if chunk.error is not None:
            raise as_error(chunk.error)
        if chunk.prompt_progress is not None:
            self.prompt_tokens = chunk.prompt_progress.total
            if self.seam is not None and self.prompt_tokens != self.seam.prompt_tokens + self.seam.so_far:
                raise EngineFailed("the engine read another text than the one that was to go on")
            return []
        self._count(chunk)
        if self.seam is not None:
            self._count_seam(self.seam, is_last=chunk.usage is not None or not self.seam.body)
        return [item for choice in chunk.choices for item in self._read_choice(choice)]

    def _count(self, chunk: Chunk) -> None:
        if chunk.usage is not None:
            self.prompt_tokens = chunk.usage.prompt_tokens
            self.output_tokens = chunk.usage.completion_tokens
            details = chunk.usage.prompt_tokens_details
            self.cached_tokens = details.cached_tokens if details is not None else 0
        if chunk.timings is not None:
            self.prefill_s = chunk.timings.prompt_ms / 1000
            self.decode_s = chunk.timings.predicted_ms / 1000

    def _count_seam(self, seam: Seam, *, is_last: bool) -> None:
        """Count the prompt once, and the tokens that were given back as the answer's."""
        self.prompt_tokens = seam.prompt_tokens
        if is_last:
            self.output_tokens += seam.so_far
            self.cached_tokens = seam.cached_tokens

    def _read_choice(self, choice: ChunkChoice) -> list[Item]:
        if choice.finish_reason is not None:
            self._finish = choice.finish_reason
        text = (choice.delta.content or "") if choice.delta is not None else choice.text
        logprobs = token_logprobs(choice.logprobs, self.job.top_logprobs)
        if not text and not logprobs:
            return []
        self.output_tokens += 1
        return self._piece(text, 1, logprobs)


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
