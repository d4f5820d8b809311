"""The relay of a server's stream: what comes out is what was told, however its bytes are cut and written."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.gateway.remote.request import Outgoing
from stoker.gateway.remote.stream import Stream
from stoker.protocol.openai_chunks import EventReader, read_chunk, whole_characters
from stoker.types.errors import EngineFailed
from stoker.types.replica import Usage
from tests.engines_llm.upstream import STREAMS

ALPHABET = st.text(st.sampled_from('ab "\\\n\r\té😀{}[]:,0') | st.characters(codec="utf-8"), max_size=12)


def asked(**more: Any) -> Outgoing:
    return Outgoing("chat", b"", b'"smol"', True, **more)


def relay(stream: Stream, pieces: list[bytes]) -> bytes:
    told = relay_of(stream, pieces)
    return told if stream.is_done or stream.problem is not None else told + stream.end()


def relay_of(stream: Stream, pieces: list[bytes]) -> bytes:
    """Return what the client gets of `pieces`, of which none need be the last."""
    told = b""
    for piece in pieces:
        told += stream.feed(piece)
        if stream.is_done or stream.problem is not None:
            break
    return told


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(marks)]


def read(told: bytes) -> list[dict[str, Any]]:
    """Return the events, and see that they have the one form that every client reads."""
    if not told:
        return []
    *events, rest = told.split(b"\n\n")
    assert rest == b""
    assert all(event.startswith(b"data: {") and b"\n" not in event for event in events)
    return [json.loads(event[6:]) for event in events]


class Oracle:
    """What a stream says, by a reader that takes every event apart (the `openai` engine's)."""

    def __init__(self, data: bytes, choices: int) -> None:
        self.texts: dict[int, str] = {}
        self.reasons: dict[int, str] = {}
        self.usage: Usage | None = None
        self.problem = ""
        reader = EventReader()
        try:
            for payload in [*reader.feed(data), *reader.end()]:
                if payload.strip() == b"[DONE]":
                    break
                if payload.strip():
                    self.take(payload, choices)
            if len(self.reasons) < choices:
                self.problem = "the upstream server ended its stream in the middle of the answer"
        except EngineFailed as failed:
            self.problem = failed.message
        self.texts = {index: whole_characters(value)[0] for index, value in self.texts.items() if value}

    def take(self, payload: bytes, choices: int) -> None:
        chunk = read_chunk(payload)
        self.usage = chunk.counted or self.usage
        for choice in chunk.choices or ():
            if choice.index >= choices:
                raise EngineFailed(f"the upstream server sent choice {choice.index} of {choices}")
            self.texts[choice.index] = self.texts.get(choice.index, "") + choice.added
            if choice.finish_reason:
                self.reasons.setdefault(choice.index, choice.finish_reason)


def agrees(data: bytes, places: list[int], choices: int = 1) -> None:
    """See that the relay tells what the oracle reads."""
    oracle = Oracle(data, choices)
    stream = Stream(asked(choices=choices))
    events = read(relay(stream, cut(data, places)))
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    for event in events:
        assert event["choices"], "the usage nobody asked for"
        assert event.get("model", "smol") == "smol"
        for choice in event["choices"]:
            told = choice["delta"].get("content") or ""
            texts[choice["index"]] = texts.get(choice["index"], "") + told
            if choice["finish_reason"]:
                reasons.setdefault(choice["index"], choice["finish_reason"])
    assert (stream.problem.message if stream.problem else "") == oracle.problem
    assert {index: value for index, value in texts.items() if value} == oracle.texts
    assert reasons == oracle.reasons
    if not oracle.problem:
        assert stream.is_done
        if oracle.usage is not None:
            assert stream.usage == oracle.usage


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, int]:
    """Return a server's stream, and how many choices were asked for."""
    choices = draw(st.integers(1, 2))
    ends = draw(st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\n\n", b"\n\n: ping\n\n", b"\nid: 3\n\n"]))
    field = draw(st.sampled_from([b"data: ", b"data:", b": x\ndata: ", b"event: message\ndata: "]))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    ascii_only = draw(st.booleans())
    wide = draw(st.booleans())
    events: list[Any] = [{"choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]}]
    for index, added in draw(st.lists(st.tuples(st.integers(0, choices - 1), ALPHABET), max_size=12)):
        event = {"choices": [{"index": index, "delta": {"content": added}, "finish_reason": None}]}
        events.append({"model": "served", **event, "usage": None} if wide else {**event, "model": "served"})
    ended = draw(st.integers(0, choices)) if draw(st.booleans()) else choices
    last = [{"index": index, "delta": {}, "finish_reason": "stop"} for index in range(ended)]
    events += [{"model": "served", "choices": [choice]} for choice in last]
    if draw(st.booleans()):
        events.append({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 9}})
    if draw(st.integers(0, 9)) == 0:
        events.insert(draw(st.integers(0, len(events))), {"error": {"message": "out of memory"}})
    if draw(st.integers(0, 9)) == 0:
        events.insert(draw(st.integers(0, len(events))), {"choices": [{"index": 7, "delta": {"content": "x"}}]})
    lines = [json.dumps(event, separators=separators, ensure_ascii=ascii_only).encode() for event in events]
    if draw(st.booleans()):
        lines.append(b"[DONE]")
    return b"".join(field + line + ends for line in lines), choices


@settings(max_examples=150, deadline=None)
@given(streams(), st.lists(st.integers(0, 5000), max_size=20))
def test_a_stream_says_the_same_to_its_client_as_to_a_reader_of_every_event(
    made: tuple[bytes, int], places: list[int]
) -> None:
    data, choices = made
    agrees(data, places, choices)


@settings(max_examples=150, deadline=None)
@given(st.lists(ALPHABET, min_size=1, max_size=8), st.lists(st.integers(0, 3000), max_size=30))
def test_characters_cut_in_two_by_the_server_are_whole_for_the_client(texts: list[str], places: list[int]) -> None:
    units = "".join(texts).encode("utf-16-le")
    halves = [units[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(units), 2)]
    events = [{"choices": [{"index": 0, "delta": {"content": half}, "finish_reason": None}]} for half in halves]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    agrees(b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events), places)


def test_recorded_streams_are_relayed_alike_however_they_are_cut() -> None:
    for name, data in STREAMS.items():
        if name == "garbage":
            continue  # the words differ, see below
        for size in (1, 2, 3, 7, 64, 5000):
            agrees(data, list(range(0, len(data), size)))
            assert name


def test_what_is_no_event_ends_the_stream_with_an_error() -> None:
    for data in (b"data: {not json\n\n", b"data: [1]\n\n", b"data: {} {}\n\n", b'data: {"choices":3}\n\n'):
        stream = Stream(asked())
        assert relay(stream, [data]) == b""
        assert stream.problem is not None
        assert "cannot be read" in stream.problem.message


def event(content: str = "", reason: str | None = None, **more: Any) -> bytes:
    delta = {"content": content} if content else {}
    return (
        b"data: %b\n\n"
        % json.dumps(
            {"model": "served", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more}
        ).encode()
    )


def test_a_text_that_looks_like_the_end_is_a_text() -> None:
    for content in ("[DONE]", 'data: {"error":{}}', '"finish_reason":"stop"', "usage", '","finish_reason":"stop'):
        stream = Stream(asked())
        told = relay(stream, [event("a"), event("b"), event(content), event("c")])
        assert "".join(each["choices"][0]["delta"]["content"] for each in read(told)) == f"ab{content}c"
        assert stream.problem is not None  # no choice has ended


def test_what_ends_a_string_or_a_line_is_no_text_of_an_event_like_the_last() -> None:
    for byte in (b'"', b"\\", b"\n", b"\r"):
        stream = Stream(asked())
        assert read(relay_of(stream, [event("a"), event("b")]))
        assert stream.feed(event("c-d").replace(b"-", byte)) == b""
        assert stream.problem is not None
        assert "cannot be read" in stream.problem.message


def test_blank_lines_before_the_first_event_are_nothing() -> None:
    for count in range(1, 12):
        stream = Stream(asked())
        assert stream.feed(b"\n" * count) == b""
        assert stream.usage == Usage()
        assert read(relay_of(stream, [event("a")]))


def test_an_event_whose_end_begins_inside_its_beginning_is_not_like_the_last() -> None:
    stream = Stream(asked())
    assert read(relay_of(stream, [event("a"), event("b")]))
    assert stream.feed(event("-").replace(b'"-"', b'"')) == b""
    assert stream.problem is not None
    assert "cannot be read" in stream.problem.message


def test_nothing_is_sent_before_the_first_words() -> None:
    """A role alone says nothing, and until something is said the request may go elsewhere."""
    stream = Stream(asked())
    role = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
    assert stream.feed(role) == b""
    assert stream.feed(event("Hi")) == role + event("Hi").replace(b"served", b"smol").replace(b'"model": ', b'"model":')


def test_the_usage_is_told_once_to_who_asked_for_it() -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":9}}\n\n'
    ended = event("Hi") + event(reason="stop")
    for given_usage in (usage, b""):
        for wants in (True, False):
            stream = Stream(asked(wants_usage=wants))
            told = relay(stream, [ended + given_usage + b"data: [DONE]\n\n"]) + stream.last("r1", 5.0)
            assert told.endswith(b"data: [DONE]\n\n")
            found = [each["usage"] for each in read(told.removesuffix(b"data: [DONE]\n\n")) if not each["choices"]]
            assert len(found) == wants
            assert stream.usage == (Usage(4, 9) if given_usage else Usage(output_tokens=1))
            if wants:
                assert found[0]["completion_tokens"] == (9 if given_usage else 1)


def test_an_event_without_end_is_not_kept() -> None:
    for piece in (b"x" * 2**18, b": x\n" * 2**16):
        stream = Stream(asked())
        for _ in range(20):
            assert stream.feed(piece) == b""
            if stream.problem is not None:
                break
        assert stream.problem is not None
        assert "over 4194304 bytes" in stream.problem.message
