"""What a language model's answer looks like to OpenAI's clients: stream events and whole bodies.

An answer is fed with what the engine yields, in order, through `delta`. A streamed one gives back events that are
complete (`data: …` and a blank line) and go to the client unchanged; a whole one gives back nothing until `whole`.

Only `data:` lines are ever written: SDKs break on `id:` and `retry:` fields and on empty events. A failure after the
first byte is one more `data:` event with an `error` object and no `[DONE]` after it: the Python and the JavaScript
SDK raise on it instead of passing what came so far for the whole.
"""

from typing import Any, Protocol

import msgspec

from stoker.protocol.openai import ChatRequest, CompletionRequest, error_body, texts_or_tokens
from stoker.types.errors import StokerError
from stoker.types.generation import Delta, Final, Finish, TokenLogprob, ToolCallDelta
from stoker.types.replica import Usage

DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.encode


class Reply(Protocol):
    """One answer in the making, of either kind."""

    def go_on(self) -> None:
        """Continue an answer whose client has its beginning already: nothing that comes once comes again."""

    def delta(self, item: Delta | Finish) -> bytes:
        """Take what the engine yielded; return the event(s) for it, nothing when the answer is not streamed."""

    def final(self, final: Final) -> bytes:
        """Return the last events of a streamed answer: usage when it was asked for, and `[DONE]`."""

    def whole(self, final: Final) -> bytes:
        """Return the JSON body of an answer that is not streamed."""


def error_event(problem: StokerError) -> bytes:
    """Return the event that ends a stream which cannot go on; nothing may follow it."""
    return b"data: " + error_body(problem) + b"\n\n"


class ChatReply:
    """The answer to one `POST /v1/chat/completions`. `model` is the name the client called."""

    def __init__(
        self, request: ChatRequest, model: str, request_id: str, created_s: float, *, fingerprint: str | None = None
    ) -> None:
        self._is_stream = bool(request.stream)
        self._head = _head(f"chatcmpl-{request_id}", created_s, model, fingerprint)
        self._with_logprobs = bool(request.logprobs)
        self._wants_usage = request.stream_options is not None and request.stream_options.include_usage
        self._choices = [_Choice() for _ in range(request.n or 1)]
        start = _object(self._head, "chat.completion.chunk")[:-1] + b',"choices":'
        self._start = b"data: " + start
        self._text_start = [b"data: " + start + b'[{"index":%d,"delta":{"content":' % i for i in range(request.n or 1)]
        self._end = b',"usage":null}\n\n' if self._wants_usage else b"}\n\n"
        self._text_end = b'},"logprobs":null,"finish_reason":null}]' + self._end

    def go_on(self) -> None:
        """See Reply."""
        for choice in self._choices:
            choice.has_begun = True

    def delta(self, item: Delta | Finish) -> bytes:
        """See Reply."""
        choice = self._choices[item.index]
        if not self._is_stream:
            choice.add(item)
            return b""
        if choice.has_begun and type(item) is Delta and not item.tool_calls and not item.logprobs:
            return b"".join((self._text_start[item.index], _encode(item.text), self._text_end))
        body: dict[str, Any] = {} if choice.has_begun else {"role": "assistant"}
        choice.has_begun = True
        logprobs, reason = None, None
        if isinstance(item, Finish):
            reason = item.reason
            if body:
                body["content"] = ""
        else:
            if item.tool_calls:
                if body:
                    body["content"] = item.text or None
                elif item.text:
                    body["content"] = item.text
                body["tool_calls"] = [_tool_call_piece(piece) for piece in item.tool_calls]
            else:
                body["content"] = item.text
            if self._with_logprobs:
                logprobs = _chat_logprobs(item.logprobs)
        choices = [{"index": item.index, "delta": body, "logprobs": logprobs, "finish_reason": reason}]
        return self._start + _encode(choices) + self._end

    def final(self, final: Final) -> bytes:
        """See Reply."""
        if not self._wants_usage:
            return DONE
        return self._start + b'[],"usage":' + _encode(_usage(final.usage)) + b"}\n\n" + DONE

    def whole(self, final: Final) -> bytes:
        """See Reply."""
        choices = [self._whole_choice(index, choice) for index, choice in enumerate(self._choices)]
        return _whole(self._head, "chat.completion", choices, final.usage)

    def _whole_choice(self, index: int, choice: "_Choice") -> dict[str, Any]:
        calls = choice.tool_calls
        text = "".join(choice.texts)
        message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
        if calls:
            message["tool_calls"] = [
                {"id": call[0], "type": "function", "function": {"name": call[1], "arguments": "".join(call[2])}}
                for _, call in sorted(calls.items())
            ]
        logprobs = _chat_logprobs(choice.logprobs) if self._with_logprobs else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.reason}


class CompletionReply:
    """The answer to one `POST /v1/completions`; choice `i` of prompt `p` has the index `p * n + i`."""

    def __init__(
        self,
        request: CompletionRequest,
        model: str,
        request_id: str,
        created_s: float,
        *,
        fingerprint: str | None = None,
    ) -> None:
        self._is_stream = bool(request.stream)
        self._head = _head(f"cmpl-{request_id}", created_s, model, fingerprint)
        self._with_logprobs = request.logprobs is not None
        self._wants_usage = request.stream_options is not None and request.stream_options.include_usage
        count = (request.n or 1) * len(texts_or_tokens(request.prompt, "prompt"))
        self._choices = [_Choice() for _ in range(count)]
        self._start = b"data: " + _object(self._head, "text_completion")[:-1] + b',"choices":'
        self._end = b',"usage":null}\n\n' if self._wants_usage else b"}\n\n"
        self._text_end = b',"logprobs":null,"finish_reason":null}]' + self._end

    def go_on(self) -> None:
        """See Reply. Nothing in text completions comes only once."""

    def delta(self, item: Delta | Finish) -> bytes:
        """See Reply."""
        choice = self._choices[item.index]
        if not self._is_stream:
            choice.add(item)
            return b""
        if type(item) is Delta and not self._with_logprobs:
            return b"".join((self._start, b'[{"index":%d,"text":' % item.index, _encode(item.text), self._text_end))
        text, logprobs, reason = "", None, None
        if isinstance(item, Finish):
            reason = item.reason
        else:
            text = item.text
            logprobs = _text_logprobs(item.logprobs, choice.offset)
            choice.offset += len(text)
        choices = [{"index": item.index, "text": text, "logprobs": logprobs, "finish_reason": reason}]
        return self._start + _encode(choices) + self._end

    def final(self, final: Final) -> bytes:
        """See Reply."""
        if not self._wants_usage:
            return DONE
        return self._start + b'[],"usage":' + _encode(_usage(final.usage)) + b"}\n\n" + DONE

    def whole(self, final: Final) -> bytes:
        """See Reply."""
        choices = [
            {
                "index": index,
                "text": "".join(choice.texts),
                "logprobs": _text_logprobs(choice.logprobs, 0) if self._with_logprobs else None,
                "finish_reason": choice.reason,
            }
            for index, choice in enumerate(self._choices)
        ]
        return _whole(self._head, "text_completion", choices, final.usage)


class _Choice:
    """What came of one choice so far."""

    __slots__ = ("has_begun", "logprobs", "offset", "reason", "texts", "tool_calls")

    def __init__(self) -> None:
        self.has_begun = False
        self.offset = 0  # characters sent, for the offsets in legacy logprobs
        self.texts: list[str] = []
        self.logprobs: list[TokenLogprob] = []
        self.tool_calls: dict[int, tuple[str, str, list[str]]] = {}  # index to id, name, argument pieces
        self.reason = "stop"

    def add(self, item: Delta | Finish) -> None:
        if isinstance(item, Finish):
            self.reason = item.reason
            return
        self.texts.append(item.text)
        self.logprobs.extend(item.logprobs)
        for piece in item.tool_calls:
            known = self.tool_calls.setdefault(piece.index, (piece.id, piece.name, []))
            known[2].append(piece.arguments)


def _head(reply_id: str, created_s: float, model: str, fingerprint: str | None) -> dict[str, Any]:
    return {
        "id": reply_id,
        "object": "",
        "created": int(created_s),
        "model": model,
        "system_fingerprint": fingerprint,
    }


def _object(head: dict[str, Any], kind: str) -> bytes:
    return _encode({**head, "object": kind})


def _whole(head: dict[str, Any], kind: str, choices: list[dict[str, Any]], usage: Usage) -> bytes:
    return _encode({**head, "object": kind, "choices": choices, "usage": _usage(usage)})


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _tool_call_piece(piece: ToolCallDelta) -> dict[str, Any]:
    if not piece.id:
        return {"index": piece.index, "function": {"arguments": piece.arguments}}
    function = {"name": piece.name, "arguments": piece.arguments}
    return {"index": piece.index, "id": piece.id, "type": "function", "function": function}


def _chat_logprobs(tokens: "tuple[TokenLogprob, ...] | list[TokenLogprob]") -> dict[str, Any]:
    content = [
        {**_token(item.token, item.logprob), "top_logprobs": [_token(text, value) for text, value in item.top]}
        for item in tokens
    ]
    return {"content": content, "refusal": None}


def _token(text: str, logprob: float) -> dict[str, Any]:
    # A token that is a part of a character has no text of its own, and then its bytes are not known here either.
    known = None if "\ufffd" in text else list(text.encode())
    return {"token": text, "logprob": logprob, "bytes": known}


def _text_logprobs(tokens: "tuple[TokenLogprob, ...] | list[TokenLogprob]", offset: int) -> dict[str, Any]:
    offsets = []
    for item in tokens:
        offsets.append(offset)
        offset += len(item.token)
    return {
        "tokens": [item.token for item in tokens],
        "token_logprobs": [item.logprob for item in tokens],
        "top_logprobs": [dict(item.top) for item in tokens],
        "text_offset": offsets,
    }
