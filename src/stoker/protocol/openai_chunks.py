"""What other OpenAI-compatible servers send, read as they really send it: events, chunks, and their errors as ours."""

import email.utils
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec

from stoker.types.errors import (
    Busy,
    DeadlineExceeded,
    EngineFailed,
    InvalidInput,
    StokerError,
    Unavailable,
)
from stoker.types.generation import TokenLogprob, ToolCallDelta
from stoker.types.replica import Usage

EVENT_BYTES_MAX = 4 * 2**20
RETRY_AFTER_MAX_S = 120.0
HIDDEN = b"(hidden)"
WORDS_MAX = 1000
_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventReader:
    """Cuts a byte stream into the payloads of its events. Takes LF, CRLF and CR, comments and unknown fields."""

    def __init__(self) -> None:
        self._held = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the payload of each event that `data` completes; raises EngineFailed for one without end."""
        held = self._held + data
        # A CR at the end may be the first half of CRLF.
        kept = b"\r" if held.endswith(b"\r") else b""
        *lines, rest = _LINE_END.split(held[: len(held) - len(kept)])
        self._held = rest + kept
        for line in lines:
            if line:
                self._take(line)
            elif self._data:
                yield self._flush()
        if self._size + len(self._held) > EVENT_BYTES_MAX:
            raise EngineFailed(f"the upstream server sent an event of over {EVENT_BYTES_MAX} bytes")

    def end(self) -> Iterator[bytes]:
        """Yield what a stream without its last blank line still held."""
        if self._held.strip():
            self._take(self._held.rstrip(b"\r"))
        if self._data:
            yield self._flush()

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            value = value.removeprefix(b" ")
            self._data.append(value)
            self._size += len(value)

    def _flush(self) -> bytes:
        payload = b"\n".join(self._data)
        self._data, self._size = [], 0
        return payload


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield event payloads until `[DONE]` or the end of the bytes. Empty ones are passed over."""
    reader = EventReader()
    async for chunk in chunks:
        for payload in reader.feed(chunk):
            if payload.strip() == b"[DONE]":
                return
            if payload.strip():
                yield payload
    for payload in reader.end():
        if payload.strip() == b"[DONE]":
            return
        if payload.strip():
            yield payload


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Top(msgspec.Struct):
    token: str = ""
    logprob: float = -9999.0


class _Token(msgspec.Struct):
    token: str = ""
    logprob: float | None = None
    top_logprobs: list[_Top] | None = None


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None  # chats
    tokens: list[str] | None = None  # completions
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None

    @property
    def added(self) -> str:
        """The text this chunk adds."""
        return (self.delta.content if self.delta is not None else self.text) or ""

    @property
    def calls(self) -> tuple[ToolCallDelta, ...]:
        """The pieces of tool calls this chunk adds."""
        if self.delta is None or not self.delta.tool_calls:
            return ()
        return tuple(
            ToolCallDelta(
                call.index,
                call.id or "",
                (call.function.name if call.function is not None else None) or "",
                (call.function.arguments if call.function is not None else None) or "",
            )
            for call in self.delta.tool_calls
        )

    @property
    def token_logprobs(self) -> tuple[TokenLogprob, ...]:
        """The log-probabilities this chunk brings, in either shape."""
        found = self.logprobs
        if found is None:
            return ()
        if found.content is not None:
            return tuple(
                TokenLogprob(
                    token.token,
                    token.logprob or 0.0,
                    tuple((top.token, top.logprob) for top in token.top_logprobs or ()),
                )
                for token in found.content
            )
        values = found.token_logprobs or []
        tops = found.top_logprobs or []
        return tuple(
            TokenLogprob(
                token,
                (values[at] if at < len(values) else None) or 0.0,
                tuple(((tops[at] if at < len(tops) else None) or {}).items()),
            )
            for at, token in enumerate(found.tokens or ())
        )


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class ServedUsage(msgspec.Struct):
    """`usage` as servers write it, of a stream's event or a whole answer."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: Any = None

    @property
    def counted(self) -> Usage:
        """The same in our terms."""
        details = self.prompt_tokens_details
        return Usage(
            input_tokens=self.prompt_tokens or 0,
            output_tokens=self.completion_tokens or 0,
            cached_tokens=(details.cached_tokens if details is not None else None) or 0,
        )


class Chunk(msgspec.Struct):
    """One event of a stream: of a chat, of a completion, or an error in the middle of either."""

    choices: list[_Choice] | None = None
    usage: ServedUsage | None = None
    timings: Any = None  # llama.cpp's
    error: Any = None

    @property
    def counted(self) -> Usage | None:
        """The usage this chunk brings."""
        if self.usage is None:
            return None
        guessed, accepted = self._guessed
        return msgspec.structs.replace(self.usage.counted, guessed_tokens=guessed, accepted_tokens=accepted)

    @property
    def _guessed(self) -> tuple[int, int]:
        """How many tokens were guessed ahead, and how many of them held: in llama.cpp's words, or in OpenAI's."""
        if guessed := _count(self.timings, "draft_n"):
            return guessed, _count(self.timings, "draft_n_accepted")
        details = self.usage.completion_tokens_details if self.usage is not None else None
        accepted = _count(details, "accepted_prediction_tokens")
        return accepted + _count(details, "rejected_prediction_tokens"), accepted


def _count(said: Any, name: str) -> int:
    """Return a count that servers may give or not, and in other shapes; 0 when it is none."""
    found = said.get(name) if isinstance(said, dict) else None
    return found if isinstance(found, int) and found > 0 else 0


_decoder = msgspec.json.Decoder(Chunk)


def read_chunk(payload: bytes) -> Chunk:
    """Return one event's chunk. Raises EngineFailed for what cannot be read, and for an error event, in its words."""
    try:
        chunk = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        chunk = _read_patiently(payload)
    if chunk.error is not None:
        raise told_error(chunk.error)
    return chunk


def told_error(error: Any) -> EngineFailed:
    """Return what an `error` object in a server's answer means, in its words."""
    return EngineFailed(f"the upstream server failed: {_words(error)}")


def _read_patiently(payload: bytes) -> Chunk:
    """Read a chunk whose text was cut inside a UTF-16 pair, as servers in JavaScript do; the halves join later."""
    try:
        return msgspec.convert(json.loads(payload), Chunk)
    except (ValueError, RecursionError, msgspec.ValidationError) as broken:
        raise EngineFailed(f"the upstream server sent an event that cannot be read: {broken}") from broken


def whole_characters(text: str) -> tuple[str, str]:
    """Return `text` without halves of characters, and the half at its end that the next piece may complete."""
    held = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
    body = text[: len(text) - len(held)]
    return body.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"), held


def status_error(status: int, body: bytes, retry_after: str | None, *, sent: str = "") -> StokerError:
    """Return the upstream server's answer of `status` as ours, in its own words.

    sent: the Authorization header of the request. A server may say the key that it refuses; callers must not read it.
    """
    key = sent.removeprefix("Bearer ").strip().encode()
    if key:
        body = body.replace(key, HIDDEN)
    try:
        words = _words(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        words = body[:WORDS_MAX].decode("utf-8", "replace")
    told = f"the upstream server answered {status}: {words}"
    if status == 429:
        return Busy(told, retry_after_s=_seconds(retry_after))
    if status in (401, 403, 407):
        return EngineFailed(f"{told} (check api_key of the endpoint, and `stoker secrets list`)")
    if status in (408, 504):
        return DeadlineExceeded(told)
    if 400 <= status < 500:
        return InvalidInput(told)
    if status in (502, 503, 529):
        return Unavailable(told, retry_after_s=_seconds(retry_after))
    return EngineFailed(told)


def _words(found: Any) -> str:
    """Return the sentence in an error body of any known shape."""
    for _ in range(4):
        if not isinstance(found, dict):
            break
        found = next((found[key] for key in ("error", "message", "detail") if found.get(key)), str(found))
    return str(found)[:WORDS_MAX]


def _seconds(retry_after: str | None) -> float:
    """Return a Retry-After of seconds or a date as seconds, within what clients obey."""
    if not retry_after:
        return 1.0
    try:
        wait_s = float(retry_after)
    except ValueError:
        try:
            wait_s = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return 1.0
    return min(max(1.0, wait_s), RETRY_AFTER_MAX_S)  # in this order NaN, which a header may say, is 1
