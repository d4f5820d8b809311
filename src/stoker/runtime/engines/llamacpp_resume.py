"""How llama.cpp goes on with an answer that another replica began, token for token.

A chat's template is applied by the engine itself, which tells the prompt it made when asked to be verbose: one trial
run, whose work on the prompt the continuation finds in the slot. The continuation is a text completion of that prompt
and the tokens so far. How many tokens the engine counts in it must be what was given, else the seam is not exact.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from stoker.core.failover import tokens_left
from stoker.runtime.engines.llamacpp_chunks import Chunk, ChunkUsage, as_error, read_chunk
from stoker.runtime.engines.llamacpp_vocabulary import Vocabulary
from stoker.types.errors import EngineFailed, Unsupported
from stoker.types.generation import Resume

# What the engine says at the end of an answer that has all its tokens.
ENDED: Final = b'{"choices":[{"text":"","finish_reason":"length"}]}'
Call = Callable[[bytes, Callable[[bytes], bool]], Any]


class Seam(msgspec.Struct, frozen=True):
    """Where an answer goes on. body: what the engine is asked, b"" when nothing is missing but the end.

    prompt_tokens: of the request alone. cached_tokens: of these, known before. so_far: tokens of the answer given back.
    """

    body: bytes
    prompt_tokens: int
    cached_tokens: int
    so_far: int


class _Settings(msgspec.Struct):
    stop: list[str] = []


class _Verbose(msgspec.Struct):
    prompt: str = ""
    tokens_evaluated: int = 0
    generation_settings: _Settings = msgspec.field(default_factory=_Settings)


class _Trial(Chunk):
    """A chunk with what the engine says of itself."""

    verbose: _Verbose | None = msgspec.field(default=None, name="__verbose")


_decode_trial = msgspec.json.Decoder(_Trial).decode


class Engine(msgspec.Struct, frozen=True):
    """What of a server is needed here. is_unwanted: whether the client is gone meanwhile."""

    chat: Call
    complete: Call
    is_unwanted: Callable[[], bool]


def seam(engine: Engine, body: bytes, is_chat: bool, words: Vocabulary, so_far: Resume) -> Seam:
    """Return how the answer to `body` goes on after `so_far`; blocks. Raises Unsupported for a tokenizer not known."""
    if not words.is_known:
        raise Unsupported("the tokenizer of this model is of a kind that cannot be continued exactly")
    asked: dict[str, Any] = msgspec.json.decode(body)
    told, usage = _try(engine, asked, is_chat)
    stops = told.generation_settings.stop  # the template's own besides the client's
    asked = {name: value for name, value in asked.items() if name not in ("messages", "stream_options", "stop")}
    asked |= {"stop": stops} if stops else {}
    prompt = [_prompt(engine, asked, told, words)] if is_chat else _as_list(asked["prompt"])
    given = [token for piece in so_far.pieces for token in words.tokens(piece)]
    asked["prompt"] = _joined(prompt + given)
    count = len(given)
    if any(isinstance(token, str) for token in given):  # how many tokens these are, the engine says
        count = _try(engine, asked, is_chat=False)[0].tokens_evaluated - told.tokens_evaluated
    limit = asked["max_tokens"]
    left = tokens_left(None if limit < 0 else limit, count)
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details is not None else 0
    known = (told.tokens_evaluated, min(cached, told.tokens_evaluated), count)
    if left == 0:
        return Seam(b"", *known)
    return Seam(msgspec.json.encode({**asked, "max_tokens": -1 if left is None else left}), *known)


def _try(engine: Engine, asked: dict[str, Any], is_chat: bool) -> tuple[_Verbose, ChunkUsage]:
    """Run the prompt of `asked` and return what the engine says of it."""
    found: list[_Verbose] = []
    usages = [ChunkUsage()]

    def take(data: bytes) -> bool:
        chunk = read_chunk(data)
        if chunk.error is not None:
            raise as_error(chunk.error)
        if chunk.usage is not None:
            usages.append(chunk.usage)
        if b'"__verbose"' in data:
            verbose = _decode_trial(data).verbose
            found.extend([verbose] if verbose is not None else [])
        return engine.is_unwanted()

    trial = {**asked, "max_tokens": 0, "verbose": True, "grammar": ""}
    (engine.chat if is_chat else engine.complete)(msgspec.json.encode(trial), take)
    if not found:
        raise EngineFailed("the engine did not say what prompt it made")
    return found[0], usages[-1]


def _as_list(prompt: str | list[int]) -> list[str | int]:
    return [prompt] if isinstance(prompt, str) else list(prompt)


def _joined(parts: list[str | int]) -> str | list[str | int]:
    """Return a prompt the engine takes for one: a list of texts alone would be many."""
    if all(isinstance(part, str) for part in parts):
        return "".join(str(part) for part in parts)
    return parts


def _prompt(engine: Engine, asked: dict[str, Any], told: _Verbose, words: Vocabulary) -> str | int:
    """Return the prompt of a chat as a text that becomes the same tokens. Raises Unsupported when none does.

    The engine puts the start token in front of a text, where the model wants one; then it may not be in the text too.
    """
    for text in (told.prompt, told.prompt.removeprefix(words.start)):
        if text and _try(engine, {**asked, "prompt": text}, is_chat=False)[0].tokens_evaluated == told.tokens_evaluated:
            return text
    raise Unsupported("the prompt of this chat cannot be given to the engine as a text")
