"""How long a language model takes inside a replica: steps that write for all that run and read prompts between."""

import math
from collections import deque
from heapq import heappop, heappush
from typing import Final

from stoker.sim.platform import plan
from stoker.sim.platform.cache import BLOCK_TOKENS, PrefixCache
from stoker.sim.platform.clock import Clock
from stoker.sim.platform.engine import Done
from stoker.sim.platform.request import Request

_UNOPENED: Final = -1


class _Prompt:
    """A prompt that is read: `left` tokens of it, `_UNOPENED` before its first."""

    __slots__ = ("left", "request")

    def __init__(self, request: Request) -> None:
        self.request, self.left = request, _UNOPENED


class GeneratingEngine:
    """Continuous batching in steps, as llama.cpp and vLLM compose them.

    A step writes a token in every running sequence; what room that leaves of its chunk is filled with prompts, in the
    order in which they came, so that small ones are read together and a large one over several steps. Who comes while a
    step runs is in the next one. Equal steps are one event, so that an answer of a thousand tokens costs as much to
    simulate as one of ten.
    """

    def __init__(self, kind: plan.Generating, clock: Clock, done: Done, slower: float) -> None:
        self.slots = kind.slots
        self._kind, self._clock, self._done, self._slower = kind, clock, done, slower
        self._cache = PrefixCache(kind.cache_blocks)
        self._waiting: deque[Request] = deque()
        self._prompts: deque[_Prompt] = deque()
        self._writing: list[tuple[int, int, Request]] = []  # by the count of steps at which each ends
        self._steps = 0
        self._is_running = self._is_asked = self._is_stopped = False
        self._began_s, self._pace_s = 0.0, 1.0  # of the steps that run now
        self._count = 0  # of them
        self._read: list[tuple[_Prompt, int]] = []  # in each of them
        self._turn = 0  # grows with each end that is asked for: those before do not hold

    def submit(self, request: Request) -> None:
        """See Engine."""
        if len(self._writing) + len(self._prompts) >= self.slots:
            self._waiting.append(request)
            return
        self._take(request)
        if self._is_running:
            self._cut()
        elif not self._is_asked:  # with all that comes in this moment
            self._is_asked = True
            self._clock.at(self._clock.now_s, self._wake)

    def stop(self) -> list[Request]:
        """See Engine."""
        self._is_stopped = True
        return [*(each for _, _, each in sorted(self._writing)), *(each.request for each in self._prompts),
                *self._waiting]  # fmt: skip

    def _take(self, request: Request) -> None:
        request.begun_s = self._clock.now_s
        self._prompts.append(_Prompt(request))

    def _wake(self) -> None:
        self._is_asked = False
        if not self._is_running and not self._is_stopped:
            self._begin()

    def _begin(self) -> None:
        """Begin as many equal steps as there can be."""
        self._is_running = bool(self._writing or self._prompts)
        if not self._is_running:
            return
        kind, writing = self._kind, len(self._writing)
        self._read = self._filled(max(kind.chunk_tokens - writing, 1))
        tokens = sum(count for _, count in self._read)
        now_s = self._began_s = self._clock.now_s
        slowness, until_s = kind.slowness_at(now_s)
        self._pace_s = (kind.pace_s(writing) + kind.read_token_s * tokens) * self._slower * slowness
        counts = [self._writing[0][0] - self._steps] if writing else []
        counts += [prompt.left // count for prompt, count in self._read[:1]]
        self._count = min(counts) if len(self._read) < 2 else 1
        if until_s < now_s + self._count * self._pace_s:
            self._count = self._passed(until_s)
        self._ask()

    def _filled(self, room: int) -> list[tuple[_Prompt, int]]:
        """Return what one step reads: of each prompt so many tokens, the last token of a prompt always."""
        found = []
        for prompt in self._prompts:
            if room <= 0:
                break
            if prompt.left == _UNOPENED:
                self._open(prompt)
            found.append((prompt, min(prompt.left, room)))
            room -= prompt.left
        return found

    def _open(self, prompt: _Prompt) -> None:
        """Begin to read a prompt, behind what is known of it."""
        request = prompt.request
        known = self._cache.read(request.blocks) * BLOCK_TOKENS if request.blocks else 0
        request.cached_tokens = max(min(known, request.input_tokens - 1), 0)
        prompt.left = max(request.input_tokens - request.cached_tokens, 1)

    def _passed(self, at_s: float) -> int:
        """Return how many steps have ended once the one ends that runs at `at_s`."""
        return max(math.ceil((at_s - self._began_s) / self._pace_s), 1) if self._pace_s > 0.0 else 1

    def _cut(self) -> None:
        """Let the step that runs now be the last of its kind."""
        count = self._passed(self._clock.now_s)
        if count < self._count:
            self._count = count
            self._ask()

    def _ask(self) -> None:
        self._turn += 1
        self._clock.at(max(self._began_s + self._count * self._pace_s, self._clock.now_s), self._end, self._turn)

    def _end(self, turn: int) -> None:
        if turn != self._turn or self._is_stopped:
            return
        self._steps += self._count
        ended = self._first_tokens()
        while self._writing and self._writing[0][0] <= self._steps:
            ended.append(heappop(self._writing)[2])
        while self._waiting and len(self._writing) + len(self._prompts) < self.slots:
            self._take(self._waiting.popleft())
        self._begin()
        for each in ended:
            self._done(each)

    def _first_tokens(self) -> list[Request]:
        """Let every prompt that has been read write its first token, and return those that end with it."""
        ended = []
        for prompt, count in self._read:
            prompt.left -= count * self._count
            if prompt.left > 0:
                continue
            self._prompts.remove(prompt)
            request = prompt.request
            request.first_s = self._clock.now_s
            if request.output_tokens <= 1:
                ended.append(request)
            else:
                heappush(self._writing, (self._steps + request.output_tokens - 1, request.number, request))
        return ended
