"""What of a sample can be sent again, and how far two answers agree."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import replay
from stoker.types.samples import SampleRecord

finite = st.floats(-1e6, 1e6, allow_nan=False)


def record(request: Any, method: str = "infer") -> SampleRecord:
    return SampleRecord("r", 0.0, "p", "e", method, 200, ("drawn",), 0.1, request=request)


@pytest.mark.parametrize(
    "request_",
    [None, {"bytes": 5, "why": "larger than max_bytes"}, {"json": {}, "binary_bytes": 4}, {"prompt": {"tokens": 3}}],
)
def test_what_was_not_kept_whole_cannot_be_sent(request_: Any) -> None:
    assert replay.obstacle(record(request_)) != ""


def test_what_is_sent_names_the_other_endpoint_and_asks_for_no_stream() -> None:
    chat = record({"model": "a", "messages": [], "stream": True, "stream_options": {}}, "chat")
    path, body = replay.request(chat, "b")
    assert path == "/v1/chat/completions"
    assert msgspec.json.decode(body) == {"model": "b", "messages": [], "stream": False}
    path, body = replay.request(record({"inputs": []}), "b", "3")
    assert (path, body) == ("/v2/models/b/versions/3/infer", b'{"inputs":[]}')
    assert replay.obstacle(chat) == ""


def outputs(values: Any, **more: Any) -> dict[str, Any]:
    return {"model_name": "m", **more, "outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": values}]}


@given(st.lists(finite, min_size=1, max_size=20))
def test_an_answer_agrees_with_itself_whatever_its_id(values: list[float]) -> None:
    found = replay.agreement(outputs(values, id="1"), outputs(values, id="2"))
    assert found.equal
    if any(value * value > 0 for value in values):
        assert found.cosine == pytest.approx(1.0)


@given(st.lists(finite, min_size=2, max_size=20), st.lists(finite, min_size=2, max_size=20))
def test_the_cosine_is_one_of_numbers_alike_and_never_leaves_its_range(one: list[float], other: list[float]) -> None:
    found = replay.agreement(outputs(one), outputs(other))
    assert (found.cosine is None) or -1 <= found.cosine <= 1
    assert found.cosine is None or len(one) == len(other)
    assert replay.agreement(outputs(other), outputs(one)).equal == found.equal


def test_texts_and_vectors_are_compared_by_what_they_say() -> None:
    def chat(text: str, number: int) -> dict[str, Any]:
        return {"id": str(number), "created": number, "choices": [{"message": {"content": text}}]}

    assert replay.agreement(chat("yes", 1), chat("yes", 2)).equal
    assert not replay.agreement(chat("yes", 1), chat("no", 1)).equal
    assert replay.agreement(chat("yes", 1), chat("yes", 2)).cosine is None
    vectors = replay.agreement({"data": [{"embedding": [1.0, 0.0]}]}, {"data": [{"embedding": [0.0, 1.0]}]})
    assert (vectors.equal, vectors.cosine) == (False, 0.0)
    assert not replay.agreement({"choices": [{"message": None}]}, {"choices": "x"}).equal


def test_it_is_told_where_two_answers_part() -> None:
    def chat(text: str | None, **more: Any) -> dict[str, Any]:
        return {"choices": [{"message": {"content": text, **more}, "finish_reason": "stop"}]}

    long = "x" * 40
    assert replay.agreement(chat("it is four."), chat("it is five.")).where == (
        "choices[0].content at character 7: it is four. → it is five."
    )
    assert replay.agreement(chat(long + "a" + long), chat(long + "b" + long)).where == (
        f"choices[0].content at character 40: …{'x' * 12}a{'x' * 23}… → …{'x' * 12}b{'x' * 23}…"
    )
    assert replay.agreement(chat("yes"), chat("yes, it is")).where.endswith("at character 3: yes → yes, it is")
    call = {"tool_calls": [{"function": {"name": "look", "arguments": "{}"}}]}
    assert replay.agreement(chat("yes"), chat(None, **call)).where == "choices[0].content: yes → (nothing)"
    assert replay.agreement(outputs([1.0, 2.0]), outputs([1.0, 2.5])).where == "y[1]: 2 → 2.5"
    assert replay.agreement(outputs([1.0]), outputs([1.0, 2.0])).where == "y: 1 values → 2 values"
    assert replay.agreement({"choices": []}, {"outputs": []}).where != ""


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["outputs", "choices", "a"]), inner),
    max_leaves=8,
)


@given(values, values)
def test_whatever_differs_is_told_where_and_nothing_else_is(one: Any, other: Any) -> None:
    found = replay.agreement(one, other)
    assert found.equal == (found.where == "")


def test_a_summary_counts_tokens_and_what_was_answered_by_both() -> None:
    def answered(text: str, tokens: int) -> dict[str, Any]:
        return {"choices": [{"text": text}], "usage": {"prompt_tokens": 5, "completion_tokens": tokens}}

    ok, refused = answered("a", 2), replay.reply(None, 429, 0.1, "busy")
    pairs = [(ok, ok), (ok, answered("b", 3))]
    outcomes = [
        replay.outcome(record({}), (replay.reply(one, 200, 0.1), one), (replay.reply(two, 200, 0.3), two))
        for one, two in pairs
    ]
    outcomes.append(replay.outcome(record({}), (replay.reply(ok, 200, 0.1), ok), (refused, None)))
    numbers = replay.summary(outcomes, {"no room": 1}, "e-1", "e-2")
    assert (numbers.sent, numbers.answered, numbers.equal) == (3, 2, 1)
    assert (numbers.input_tokens, numbers.output_tokens) == ((15, 10), (6, 5))
    assert numbers.statuses == {"200 → 200": 2, "200 → 429": 1}
    assert (numbers.p50_s, numbers.before, numbers.after) == ((0.1, 0.3), "e-1", "e-2")
    assert outcomes[2].agreement is None
