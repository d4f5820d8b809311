"""What llama.cpp sends back, typed, and which of our errors its errors are."""

import msgspec

from stoker.types.errors import EngineFailed, InvalidInput, StokerError, Unavailable, Unsupported
from stoker.types.generation import TokenLogprob

LOGPROB_MIN = -9999.0  # what OpenAI shows for a token that cannot be


class TopToken(msgspec.Struct):
    """One alternative to a token."""

    token: str = ""
    logprob: float = LOGPROB_MIN


class ChunkToken(msgspec.Struct):
    """One token with its alternatives."""

    token: str = ""
    logprob: float = LOGPROB_MIN
    top_logprobs: list[TopToken] = []


class ChunkLogprobs(msgspec.Struct):
    """Log-probabilities of the tokens in one chunk."""

    content: list[ChunkToken] | None = None


class ChunkDelta(msgspec.Struct):
    """What a chat chunk adds."""

    content: str | None = None


class ChunkChoice(msgspec.Struct):
    """The one choice of a chunk: `delta` in chats, `text` in completions."""

    delta: ChunkDelta | None = None
    text: str = ""
    finish_reason: str | None = None
    logprobs: ChunkLogprobs | None = None


class PromptDetails(msgspec.Struct):
    """How much of a prompt was known."""

    cached_tokens: int = 0


class ChunkUsage(msgspec.Struct):
    """Token counts, in the last chunk."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: PromptDetails | None = None


class ChunkTimings(msgspec.Struct):
    """Where the engine's time went, in the last chunk."""

    prompt_ms: float = 0.0
    predicted_ms: float = 0.0


class PromptProgress(msgspec.Struct):
    """How far the prompt is, once a step."""

    total: int = 0


class ChunkError(msgspec.Struct):
    """An error instead of a chunk."""

    code: int = 500
    message: str = ""
    type: str = ""
    n_prompt_tokens: int = 0
    n_ctx: int = 0


class Chunk(msgspec.Struct):
    """One callback's worth."""

    choices: list[ChunkChoice] = []
    usage: ChunkUsage | None = None
    timings: ChunkTimings | None = None
    prompt_progress: PromptProgress | None = None
    error: ChunkError | None = None


_decoder = msgspec.json.Decoder(Chunk)


def read_chunk(data: bytes) -> Chunk:
    """Return one chunk; raises EngineFailed for bytes that are none."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as broken:
        raise EngineFailed(f"the engine sent what cannot be read: {broken}") from broken


def as_error(error: ChunkError) -> StokerError:
    """Return the engine's error as ours: what the client did is 4xx, whatever code the engine gave it."""
    if error.type == "exceed_context_size_error":
        # OpenAI's own words, which clients look for (code context_length_exceeded).
        return InvalidInput(
            f"This model's maximum context length is {error.n_ctx} tokens. However, your prompt has "
            f"{error.n_prompt_tokens} tokens. Please shorten it (context_length_exceeded)."
        )
    if error.type == "not_supported_error" or error.code == 501:
        return Unsupported(error.message)
    if error.type == "unavailable_error" or error.code == 503:
        return Unavailable(error.message, retry_after_s=1.0)
    if error.type == "invalid_request_error" or 400 <= error.code < 500:
        return InvalidInput(error.message)
    return EngineFailed(f"llama.cpp: {error.message}")


def token_logprobs(found: ChunkLogprobs | None, top: int | None) -> tuple[TokenLogprob, ...]:
    """Return the tokens of a chunk with `top` alternatives each; nothing when none were asked for."""
    if top is None or found is None or not found.content:
        return ()
    return tuple(
        TokenLogprob(
            item.token,
            max(item.logprob, LOGPROB_MIN),
            tuple((other.token, max(other.logprob, LOGPROB_MIN)) for other in item.top_logprobs[:top]),
        )
        for item in found.content
    )
