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
