"""Requests of texts as rows for a Watch: drawn when there are many, and looked at in groups.

A row costs some 30 µs, and several times that alone. So up to GROUP requests wait to be looked at together, at most
until control asks, and of more than ROWS_A_SECOND a share is drawn: the more requests there are, the less one costs. Of
a request with several texts one is drawn, because texts sent together are alike.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from random import random, randrange
from time import monotonic
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stoker.core.watched import ANSWER, CHAT, EMBED, EMBEDDING, PROMPT, TEXT
from stoker.protocol.openai import ChatRequest, CompletionRequest, Message
from stoker.runtime.drift import Watch
from stoker.telemetry.profile import profile
from stoker.telemetry.texts import refuses
from stoker.telemetry.vectors import norms
from stoker.types.drift import Answer, Plane, Question
from stoker.types.generation import Delta
from stoker.types.replica import Usage

GROUP: Final = 32  # rows looked at together
ROWS_A_SECOND: Final = 10  # of one replica: 600 a minute tell as much as all would
TEXT_MAX: Final = 4_096  # characters of a prompt or an answer that are held until then
ITEMS_MAX: Final = 128  # of an answer, one a token: its beginning

Columns = dict[str, NDArray[Any]]


class Share:
    """Draws about ROWS_A_SECOND requests a second evenly, by how many there were in the last one."""

    def __init__(self) -> None:
        self._since_s = 0.0
        self._many = 0
        self._chance = 1.0

    def draws(self, now_s: float) -> bool:
        """Return whether this request is one of them."""
        self._many += 1
        if now_s - self._since_s >= 1.0:
            self._chance = min(1.0, ROWS_A_SECOND * min(now_s - self._since_s, 60.0) / self._many)
            self._since_s, self._many = now_s, 0
        return self._chance >= 1.0 or random() < self._chance


class Said:
    """One request of a language model and its first answer, until it is looked at."""

    __slots__ = ("before", "finish", "items", "prompt", "system", "turns", "usage")

    def __init__(self, request: ChatRequest | CompletionRequest, before: str) -> None:
        messages = request.messages if isinstance(request, ChatRequest) else []
        self.prompt = _asked(messages) if messages else _first(request)
        self.turns = max(len(messages), 1)
        self.system = _digest(messages)
        self.before = before  # what another replica answered of it
        self.items: list[Delta] = []
        self.finish = ""
        self.usage = Usage()

    def hear(self, delta: Delta) -> bool:
        """Take a piece of the first choice; nothing is done with it yet. Return whether more are wanted."""
        self.items.append(delta)
        return len(self.items) < ITEMS_MAX

    @property
    def answer(self) -> str:
        """The beginning of the answer."""
        return _bounded(self.before + "".join([item.text for item in self.items]))

    @property
    def has_calls(self) -> bool:
        """Whether it calls a tool."""
        return self.finish == "tool_calls" or any(item.tool_calls for item in self.items)


class ChatWatch:
    """What is said to a language model and by it."""

    def __init__(self) -> None:
        self._watch = Watch(CHAT.signature, batches=True, planes=CHAT.planes)
        self._share = Share()
        self._waiting: list[Said] = []

    def begin(self, request: ChatRequest | CompletionRequest, before: str = "") -> Said | None:
        """Return what takes the answer to `request` (after `before`); None when it is not looked at."""
        if not self._watch.is_on or not self._share.draws(monotonic()):
            return None
        return Said(request, before)

    def end(self, said: Said, usage: Usage) -> None:
        """Take a request that was answered to its end."""
        said.usage = usage
        self._waiting.append(said)
        if len(self._waiting) >= GROUP:
            self._look()

    def answer(self, question: Question) -> Answer:
        """See Watch.answer."""
        self._look()
        return self._watch.answer(question)

    def _look(self) -> None:
        rows, self._waiting = self._waiting, []
        if not rows:
            return
        answers = [one.answer for one in rows]
        prompts = profile(PROMPT, [one.prompt for one in rows])
        prompts |= _numbers(
            PROMPT, {"tokens": [one.usage.input_tokens for one in rows], "turns": [one.turns for one in rows]}
        )
        prompts[f"{PROMPT}.system"] = _words([one.system for one in rows])
        outputs = profile(ANSWER, answers) | _numbers(ANSWER, {"tokens": [one.usage.output_tokens for one in rows]})
        outputs[f"{ANSWER}.finish"] = _words([one.finish for one in rows])
        outputs[f"{ANSWER}.kind"] = _words([_kind(one, text) for one, text in zip(rows, answers, strict=True)])
        self._watch.seen(prompts, outputs, len(rows))


class EmbedWatch:
    """Texts and their vectors."""

    def __init__(self, dimensions: int) -> None:
        planes = tuple(Plane(one.name, one.side, dimensions) for one in EMBED.planes)
        self._watch = Watch(EMBED.signature, batches=True, planes=planes)
        self._share = Share()
        self._waiting: list[tuple[str, int, NDArray[Any]]] = []

    def take(self, texts: Sequence[str], tokens: Sequence[int], vectors: NDArray[Any]) -> None:
        """Take one text of a request that was answered: float [texts, dimensions]."""
        if not self._watch.is_on or not self._share.draws(monotonic()):
            return
        at = randrange(len(texts))
        self._waiting.append((_bounded(texts[at]), tokens[at], vectors[at].copy()))
        if len(self._waiting) >= GROUP:
            self._look()

    def answer(self, question: Question) -> Answer:
        """See Watch.answer."""
        self._look()
        return self._watch.answer(question)

    def _look(self) -> None:
        rows, self._waiting = self._waiting, []
        if not rows:
            return
        texts = profile(TEXT, [text for text, _, _ in rows]) | _numbers(TEXT, {"tokens": [many for _, many, _ in rows]})
        vectors = np.stack([vector for _, _, vector in rows]).astype(np.float32)
        outputs: Columns = {EMBEDDING: vectors, f"{EMBEDDING}.norm": norms(vectors)}
        self._watch.seen(texts, outputs, len(rows))


def _asked(messages: Sequence[Message]) -> str:
    """Return the text of the last message that is not the model's own."""
    for one in reversed(messages):
        if one.role != "assistant":
            return _bounded(_text(one))
    return ""


def _text(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    parts = [part.get("text") for part in message.content or () if part.get("type") == "text"]
    return "\n".join(part for part in parts if isinstance(part, str))


def _first(request: ChatRequest | CompletionRequest) -> str:
    prompt: Any = request.prompt if isinstance(request, CompletionRequest) else ""
    first = prompt[0] if isinstance(prompt, list) and prompt else prompt
    return _bounded(first) if isinstance(first, str) else ""


def _bounded(text: str) -> str:
    """Return TEXT_MAX characters of a text, from a random place of a longer one."""
    over = len(text) - TEXT_MAX
    start = randrange(over + 1) if over > 0 else 0
    return text[start : start + TEXT_MAX]


def _digest(messages: Sequence[Message]) -> str:
    """Return what tells system prompts apart, 32 bits of a hash; "none" without one."""
    said = [_text(one) for one in messages if one.role in ("system", "developer")]
    return blake2b("\n".join(said).encode("utf-8", "replace"), digest_size=4).hexdigest() if said else "none"


def _kind(said: Said, answer: str) -> str:
    if said.has_calls:
        return "calls"
    return "empty" if not answer.strip() else "refusal" if refuses(answer) else "text"


def _numbers(whose: str, columns: Mapping[str, Sequence[int]]) -> Columns:
    """Return columns [rows, 1]; 0 is a number that was not told."""
    found = {}
    for name, values in columns.items():
        array = np.array(values, np.float32)
        array[array <= 0] = np.nan
        found[f"{whose}.{name}"] = array[:, None]
    return found


def _words(values: Sequence[str]) -> NDArray[Any]:
    return np.array([*values, None], object)[:-1, None]
