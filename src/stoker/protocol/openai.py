"""What OpenAI's API sends, as typed requests, and its error body.

Unknown fields are ignored (SDKs add new ones all the time); known ones are checked. Answers are made in
`protocol/openai_reply.py`.
"""

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from stoker.types.errors import InvalidInput, StokerError

_T = TypeVar("_T")

N_MAX = 16
STOP_MAX = 16
PROMPTS_MAX = 2048  # OpenAI's own maximum of inputs in one request


class StreamOptions(msgspec.Struct, frozen=True):
    """`stream_options` of a streamed request."""

    include_usage: bool = False


class FunctionDef(msgspec.Struct, frozen=True):
    """A function a model may call."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, frozen=True):
    """One entry of `tools`."""

    function: FunctionDef
    type: Literal["function"] = "function"


class NamedFunction(msgspec.Struct, frozen=True):
    """The function of a named tool choice."""

    name: str


class NamedToolChoice(msgspec.Struct, frozen=True):
    """`tool_choice` that forces one function."""

    function: NamedFunction
    type: Literal["function"] = "function"


class JsonSchemaFormat(msgspec.Struct, frozen=True):
    """`response_format.json_schema`."""

    name: str
    schema: dict[str, Any] = {}
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    """`response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class ToolCallFunction(msgspec.Struct, frozen=True):
    """Name and arguments (JSON text) of a call."""

    name: str
    arguments: str = ""


class ToolCall(msgspec.Struct, frozen=True):
    """A call the assistant made earlier in the conversation."""

    id: str
    function: ToolCallFunction
    type: Literal["function"] = "function"


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message. `content` is text, or parts such as `{"type": "text", "text": …}`."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """What chat and text completions share."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=N_MAX)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=STOP_MAX)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    seed: int | None = None
    user: str | None = None
    prompt_cache_key: str | None = None  # what took the place of `user` for caches: requests alike in their prompts
    logit_bias: dict[str, float] | None = None
    ignore_eos: bool | None = None  # not OpenAI's; load generators send it to every engine

    @property
    def is_greedy(self) -> bool:
        """Return whether nothing is drawn: one choice at temperature 0. A seed does not make it so: engines keep to it
        only as long as the batch around the request is the same."""
        return self.temperature == 0 and self.n in (None, 1)


class ChatRequest(Sampling, frozen=True, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=4096)]
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None


class CompletionRequest(Sampling, frozen=True, kw_only=True):
    """`POST /v1/completions`. `prompt` is text, texts, token ids, or lists of token ids."""

    prompt: str | list[str | int | list[int]]
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    echo: bool | None = None


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /v1/embeddings`. `input` is text, texts, token ids, or lists of token ids."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    user: str | None = None


_chat = msgspec.json.Decoder(ChatRequest)
_completion = msgspec.json.Decoder(CompletionRequest)
_embedding = msgspec.json.Decoder(EmbeddingRequest)


def texts_or_tokens(value: str | list[str | int | list[int]], field: str) -> list[str | list[int]]:
    """Return each prompt or input on its own: a text, or token ids. Raises InvalidInput for none, empty or mixed ones.

    A text and a list of token ids are one; a list of texts and a list of lists are many (at most PROMPTS_MAX).
    """
    if isinstance(value, str):
        return [value]
    many: list[str | list[int]] = []
    tokens: list[int] = []
    for item in value:
        if isinstance(item, int):
            tokens.append(item)
        else:
            many.append(item)
    if not value or any(not item for item in many if isinstance(item, list)):
        raise InvalidInput(f"{field} is an empty list; expected text, or at least one token id", field=field)
    if len({type(item) for item in value}) > 1:
        raise InvalidInput(f"{field} mixes texts and token ids; expected one kind", field=field)
    if len(many) > PROMPTS_MAX:
        raise InvalidInput(f"{field} has {len(many)} entries; at most {PROMPTS_MAX} are allowed", field=field)
    if any(token < 0 for item in (tokens, *many) if isinstance(item, list) for token in item):
        raise InvalidInput(f"{field} has a negative token id", field=field)
    return many or [tokens]


def decode_chat(body: bytes) -> ChatRequest:
    """Return the typed request; raises InvalidInput with the field."""
    return _decode(_chat, body)


def decode_completion(body: bytes) -> CompletionRequest:
    """Return the typed request; raises InvalidInput with the field."""
    return _decode(_completion, body)


def decode_embedding(body: bytes) -> EmbeddingRequest:
    """Return the typed request; raises InvalidInput with the field."""
    return _decode(_embedding, body)


_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    501: "invalid_request_error",
}
# What OpenAI says of money, or of a quota, that is used up.
_TYPES_BY_CODE = {"budget_exceeded": "insufficient_quota", "quota_exceeded": "insufficient_quota"}


def error_body(problem: StokerError) -> bytes:
    """Return the error in OpenAI's shape; all four keys are always there, because SDKs read them."""
    return msgspec.json.encode(
        {
            "error": {
                "message": problem.message,
                "type": _TYPES_BY_CODE.get(problem.code) or _ERROR_TYPES.get(problem.status, "server_error"),
                "param": problem.field,
                "code": problem.code,
            }
        }
    )


def _decode(decoder: "msgspec.json.Decoder[_T]", body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as wrong:
        # msgspec ends its messages with " - at `$.messages[0].role`"
        text, _, where = str(wrong).partition(" - at `$")
        raise InvalidInput(text, field=where.strip("`.") or None) from wrong
    except (msgspec.DecodeError, UnicodeDecodeError) as broken:
        raise InvalidInput(f"the body is not valid JSON: {broken}") from broken
    except RecursionError as deep:
        raise InvalidInput("the body is nested too deeply") from deep
