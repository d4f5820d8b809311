"""What OpenAI's clients are sent: shapes by the book, and both kinds of answer read by the real SDK."""

import json
from typing import Any

import httpx2
import msgspec
import openai
import pytest

from stoker.protocol.openai import decode_chat, decode_completion, texts_or_tokens
from stoker.protocol.openai_reply import ChatReply, CompletionReply, Reply, error_event
from stoker.types.errors import EngineFailed, InvalidInput
from stoker.types.generation import Delta, Final, Finish, TokenLogprob, ToolCallDelta
from stoker.types.replica import Usage

FINAL = Final(Usage(input_tokens=3, output_tokens=4, cached_tokens=1))
USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 4,
    "total_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 1},
}


def chat(**fields: Any) -> ChatReply:
    request = {"model": "smol", "messages": [{"role": "user", "content": "x"}], **fields}
    return ChatReply(decode_chat(msgspec.json.encode(request)), "smol", "r1", 12.9)


def completion(**fields: Any) -> CompletionReply:
    request = {"model": "smol", "prompt": "x", **fields}
    return CompletionReply(decode_completion(msgspec.json.encode(request)), "smol", "r1", 12.9)


def stream(reply: Reply, *items: Delta | Finish) -> list[dict[str, Any]]:
    """Return the events of a whole stream; `[DONE]` must be the last."""
    data = b"".join(reply.delta(item) for item in items) + reply.final(FINAL)
    events = data.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: ") and "\n" not in event for event in events[:-1])
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


def test_the_first_chunk_of_a_choice_has_its_role_and_the_last_its_reason() -> None:
    events = stream(chat(stream=True), Delta(text="Hé\n"), Delta(text=" you"), Finish(0, "stop"))
    assert [event["choices"][0]["delta"] for event in events] == [
        {"role": "assistant", "content": "Hé\n"},
        {"content": " you"},
        {},
    ]
    assert [event["choices"][0]["finish_reason"] for event in events] == [None, None, "stop"]
    for event in events:
        assert event["id"] == "chatcmpl-r1"
        assert event["object"] == "chat.completion.chunk"
        assert event["created"] == 12
        assert event["model"] == "smol"
        assert "usage" not in event


def test_usage_comes_last_when_it_was_asked_for_and_is_null_before() -> None:
    for reply in (chat, completion):
        made = reply(stream=True, stream_options={"include_usage": True})
        *before, last = stream(made, Delta(text="a"), Delta(text="b"), Finish(0, "stop"))
        assert all(event["usage"] is None for event in before)
        assert last["choices"] == []
        assert last["usage"] == USAGE


def test_choices_are_told_apart() -> None:
    events = stream(chat(stream=True, n=2), Delta(1, "b"), Delta(0, "a"), Finish(1, "length"), Finish(0, "stop"))
    assert [event["choices"][0]["index"] for event in events] == [1, 0, 1, 0]
    assert [event["choices"][0]["delta"].get("role") for event in events] == ["assistant", "assistant", None, None]


def test_an_answer_of_nothing_still_has_its_role() -> None:
    (event,) = stream(chat(stream=True), Finish(0, "stop"))
    assert event["choices"][0]["delta"] == {"role": "assistant", "content": ""}


def test_a_tool_call_is_named_once_and_its_arguments_join() -> None:
    items = (
        Delta(tool_calls=(ToolCallDelta(0, "call_1", "f"), ToolCallDelta(0, arguments='{"a"'))),
        Delta(tool_calls=(ToolCallDelta(0, arguments=":1}"),)),
        Finish(0, "tool_calls"),
    )
    first, second, _ = stream(chat(stream=True), *items)
    assert first["choices"][0]["delta"]["content"] is None
    assert first["choices"][0]["delta"]["tool_calls"] == [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a"'}},
    ]
    assert second["choices"][0]["delta"] == {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}
    whole = chat()
    assert [whole.delta(item) for item in items] == [b"", b"", b""]
    message = json.loads(whole.whole(FINAL))["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    ]


def test_log_probabilities_have_the_shape_of_their_kind() -> None:
    tokens = (TokenLogprob("é", -0.5, (("é", -0.5), ("\ufffd", -1.0))), TokenLogprob("b", -2.0))
    (event, _) = stream(
        chat(stream=True, logprobs=True, top_logprobs=2), Delta(text="éb", logprobs=tokens), Finish(0, "stop")
    )
    content = event["choices"][0]["logprobs"]["content"]
    assert content[0] == {
        "token": "é",
        "logprob": -0.5,
        "bytes": [195, 169],
        "top_logprobs": [
            {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
            {"token": "\ufffd", "logprob": -1.0, "bytes": None},
        ],
    }
    legacy = stream(
        completion(stream=True, logprobs=2),
        Delta(text="éb", logprobs=tokens),
        Delta(text="c", logprobs=(TokenLogprob("c", -3.0),)),
        Finish(0, "stop"),
    )
    assert legacy[0]["choices"][0]["logprobs"] == {
        "tokens": ["é", "b"],
        "token_logprobs": [-0.5, -2.0],
        "top_logprobs": [{"é": -0.5, "\ufffd": -1.0}, {}],
        "text_offset": [0, 1],
    }
    assert legacy[1]["choices"][0]["logprobs"]["text_offset"] == [2]


def test_an_unstreamed_answer_is_one_body() -> None:
    reply = chat(n=2)
    for item in (Delta(0, "a"), Delta(1, "x"), Delta(0, "b"), Finish(0, "stop"), Finish(1, "length")):
        assert reply.delta(item) == b""
    body = json.loads(reply.whole(FINAL))
    assert body["object"] == "chat.completion"
    assert body["usage"] == USAGE
    assert [choice["message"]["content"] for choice in body["choices"]] == ["ab", "x"]
    assert [choice["finish_reason"] for choice in body["choices"]] == ["stop", "length"]


def test_a_completion_of_many_prompts_has_a_choice_for_each() -> None:
    reply = completion(prompt=["a", "b"], n=2)
    reply.delta(Delta(3, "last"))
    body = json.loads(reply.whole(FINAL))
    assert body["object"] == "text_completion"
    assert [choice["text"] for choice in body["choices"]] == ["", "", "", "last"]


@pytest.mark.parametrize("value", [[], [[]], ["a", 1], [1, [2]], [-1], [[-1]], ["a"] * 3000], ids=repr)
def test_prompts_that_cannot_be_meant_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        texts_or_tokens(value, "prompt")
    assert refused.value.field == "prompt"


def test_prompts_are_told_from_token_ids() -> None:
    assert texts_or_tokens("a", "prompt") == ["a"]
    assert texts_or_tokens(["a", "b"], "prompt") == ["a", "b"]
    assert texts_or_tokens([1, 2], "prompt") == [[1, 2]]
    assert texts_or_tokens([[1], [2]], "prompt") == [[1], [2]]


def sdk(body: bytes, content_type: str) -> openai.OpenAI:
    """Return OpenAI's own client, answered with `body` whatever it asks."""

    def respond(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=body, headers={"Content-Type": content_type})

    client = httpx2.Client(transport=httpx2.MockTransport(respond))
    return openai.OpenAI(api_key="k", base_url="http://stoker/v1", http_client=client, max_retries=0)


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(model="smol", messages=[{"role": "user", "content": "x"}], **fields)


def test_the_sdk_reads_a_stream() -> None:
    reply = chat(stream=True, stream_options={"include_usage": True})
    items = (Delta(text="Hel"), Delta(text="lo"), Finish(0, "stop"))
    data = b"".join(reply.delta(item) for item in items) + reply.final(FINAL)
    with sdk(data, "text/event-stream") as client:
        chunks = list(ask(client, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello"
    assert chunks[-1].usage.total_tokens == 7


def test_the_sdk_reads_a_whole_answer() -> None:
    reply = chat()
    reply.delta(Delta(text="Hello"))
    reply.delta(Finish(0, "stop"))
    with sdk(reply.whole(FINAL), "application/json") as client:
        answer = ask(client)
    assert answer.choices[0].message.content == "Hello"
    assert answer.usage.prompt_tokens_details.cached_tokens == 1


def test_the_sdk_raises_on_an_error_in_the_middle_of_a_stream() -> None:
    reply = chat(stream=True)
    data = reply.delta(Delta(text="Hel")) + error_event(EngineFailed("the model fell over"))
    with sdk(data, "text/event-stream") as client:
        stream_ = ask(client, stream=True)
        assert next(stream_).choices[0].delta.content == "Hel"
        with pytest.raises(openai.APIError, match="the model fell over") as failed:
            next(stream_)
    assert failed.value.code == "engine_failed"
