"""What was sent of a stream is known again from its events, whatever the text is."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.protocol import openai_resume
from stoker.protocol.openai import ChatRequest, CompletionRequest, decode_chat, decode_completion
from stoker.protocol.openai_reply import ChatReply, CompletionReply
from stoker.protocol.openai_resume import KEPT_MAX_BYTES, Told, Transcript, asked, split
from stoker.types.errors import InvalidInput
from stoker.types.generation import Delta, Finish, Resume, ToolCallDelta

# What could be taken for a part of an event, and what is hard to encode.
HARD = [
    '"',
    "\\",
    "\n",
    "\r\n",
    "\n\n",
    "data: ",
    'data: {"x":1}',
    '"},"logprobs":null,"finish_reason":null}]',
    "🎉",
    "é",
    "\x00",
]
texts = st.lists(st.text(max_size=8) | st.sampled_from(HARD), max_size=30)


def chat(**fields: Any) -> ChatRequest:
    message = {"role": "user", "content": '"delta":{"content":"'}
    return decode_chat(msgspec.json.encode({"model": 'x"y', "messages": [message], "stream": True, **fields}))


def completion(**fields: Any) -> CompletionRequest:
    return decode_completion(msgspec.json.encode({"model": "x", "prompt": "p", "stream": True, **fields}))


def replies(usage: bool) -> list[ChatReply | CompletionReply]:
    options = {"stream_options": {"include_usage": usage}}
    return [
        ChatReply(chat(**options), '"delta":{"content":"', "r1", 12.7),
        CompletionReply(completion(**options), '[{"index":0,"text":"', "r1", 12.7),
    ]


@given(texts, st.booleans(), st.booleans())
def test_every_text_sent_is_read_back_once_and_in_order(pieces: list[str], finished: bool, usage: bool) -> None:
    for reply in replies(usage):
        transcript = Transcript()
        for piece in pieces:
            transcript.add(reply.delta(Delta(0, piece)))
        if finished:
            transcript.add(reply.delta(Finish(0, "stop")))
        told = transcript.read()
        assert told is not None
        assert "".join(told.pieces) == "".join(pieces)
        assert [piece for piece in told.pieces if piece] == [piece for piece in pieces if piece]
        assert told.is_finished == finished
        if pieces or finished:
            assert told.created_s == 12
            assert told.wants_usage == usage


def test_a_token_of_a_long_stream_is_kept_in_little_more_than_its_text() -> None:
    reply, transcript = ChatReply(chat(), "a-model", "req", 1.0), Transcript()
    for number in range(1000):
        transcript.add(reply.delta(Delta(0, f" word{number}")))
    assert len(transcript._kept) < 1000 * 15


def test_a_stream_over_the_maximum_is_not_known_any_more_and_takes_no_memory() -> None:
    for events in ([Delta(0, "x" * 1000)] * (KEPT_MAX_BYTES // 900), [Delta(0, "x" * KEPT_MAX_BYTES)]):
        reply, transcript = ChatReply(chat(), "a-model", "req", 1.0), Transcript()
        for event in events:
            transcript.add(reply.delta(event))
        transcript.add(reply.delta(Delta(0, "more")))
        assert transcript.read() is None
        assert not transcript._kept


@pytest.mark.parametrize("event", [b'data: {"error":{"message":"x"}}\n\n', b"data: {", b'data: {"created":1}\n\n'])
def test_what_we_did_not_write_is_not_guessed(event: bytes) -> None:
    transcript = Transcript()
    transcript.add(event)
    assert transcript.read() is None


def test_a_continued_answer_says_what_comes_once_no_second_time() -> None:
    whole, rest = replies(False)[0], replies(False)[0]
    events = [whole.delta(Delta(0, text)) for text in ("a", "b", "c")] + [whole.delta(Finish(0, "stop"))]
    rest.go_on()
    assert [rest.delta(Delta(0, "b")), rest.delta(Delta(0, "c")), rest.delta(Finish(0, "stop"))] == events[1:]


def test_a_tool_call_in_the_middle_is_no_text() -> None:
    reply, transcript = ChatReply(chat(), "x", "r", 1.0), Transcript()
    transcript.add(reply.delta(Delta(0, "", 1, (ToolCallDelta(0, "call_1", "f", "{"),))))
    told = transcript.read()
    assert told is not None
    assert told.pieces == []


@given(st.binary(max_size=40), texts)
def test_what_is_sent_behind_a_body_comes_apart_again(body: bytes, pieces: list[str]) -> None:
    told = Told()
    told.pieces, told.created_s = pieces, 7
    behind = told.resume()
    assert split(body + behind, len(behind)) == (body, Resume(tuple(pieces), 7))


@pytest.mark.parametrize(("body", "count"), [(b"{}", 3), (b"{}xx", 2)])
def test_what_cannot_be_resumed_with_is_refused(body: bytes, count: int) -> None:
    with pytest.raises(InvalidInput):
        openai_resume.split(body, count)


def test_what_a_request_asks_for_decides() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    assert asked(chat(temperature=0)).is_greedy
    assert not asked(chat()).is_greedy
    assert asked(chat(top_k=1)).is_greedy
    assert asked(chat(seed=0)).has_seed
    assert asked(chat(n=3)).choices == 3
    assert asked(chat(tools=[tool])).has_tools
    assert not asked(chat(tools=[tool], tool_choice="none")).has_tools
    assert asked(chat(response_format={"type": "json_object"})).is_constrained
    assert not asked(chat(response_format={"type": "text"})).is_constrained
    assert asked(chat(logprobs=True)).has_logprobs
    assert asked(completion(logprobs=0)).has_logprobs
    assert asked(completion(echo=True)).has_echo
    assert asked(completion(prompt=["a", "b"], n=2)).choices == 4
    assert asked(completion(prompt=[1, 2, 3])).choices == 1
    assert asked(completion(prompt=[])).choices == 0
