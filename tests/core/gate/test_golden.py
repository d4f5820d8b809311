"""Examples are read with line numbers, become requests, and are held against answers."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.gate import answers, golden
from stoker.core.gate.golden import BadGolden, Example
from stoker.types.models import Signature, TensorSpec
from stoker.types.releases import GOLDEN_BYTES_MAX, GOLDEN_ROWS_MAX

ONE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("label", "INT64", (-1,)),))
TWO = Signature((TensorSpec("a", "FP32", (-1, 1)), TensorSpec("b", "BYTES", (-1,))), ())


def lines(*values: Any) -> bytes:
    return b"\n".join(value if isinstance(value, bytes) else json.dumps(value).encode() for value in values)


def sent(value: Any, signature: Signature = ONE, task: str = "predict") -> Any:
    (example,) = golden.read(lines(value))
    method, body = golden.request(example, task, signature)
    assert method == golden.METHODS[task]
    return msgspec.json.decode(body)


def test_a_row_becomes_tensors_with_a_batch_dimension() -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    for given_ in ({"inputs": {"x": [1, 2]}}, {"inputs": {"x": [[1, 2]]}}, {"input": [1, 2]}, {"inputs": [tensor]}):
        assert sent({**given_, "expected": 1}) == {"inputs": [tensor]}
    both = sent({"inputs": {"a": [2.5], "b": "text"}, "expected": 1}, TWO)["inputs"]
    assert [each["shape"] for each in both] == [[1, 1], [1]]
    assert both[1]["data"] == ["text"]


def test_texts_become_chats_and_embeddings() -> None:
    chat = sent({"input": "2+2?", "expected": "4"}, Signature(), "chat")
    assert chat["messages"] == [{"role": "user", "content": "2+2?"}]
    assert chat["temperature"] == 0
    assert sent({"messages": chat["messages"], "expected": "4"}, Signature(), "chat") == chat
    assert sent({"input": "shoes"}, Signature(), "embed")["input"] == "shoes"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "line 2: no JSON"),
        (b"[1]", "line 2: no JSON object"),
        ({"inputs": {"x": 1}, "label": 1}, "line 2: 'label' is not known"),
        ({"expected": 1}, "line 2: one of inputs, input and messages is needed"),
        ({"input": 1, "inputs": {"x": 1}, "expected": 1}, "line 2: inputs and input: take one"),
        ({"input": 1, "expected": 1, "weight": 0}, "line 2: weight is 0"),
        ({"input": 1, "expected": 1, "weight": True}, "line 2: weight is True"),
    ],
)
def test_a_faulty_line_is_named(line: Any, said: str) -> None:
    with pytest.raises(BadGolden) as bad:
        golden.read(lines({"input": [1, 2], "expected": 1}, line))
    assert said in str(bad.value)


@pytest.mark.parametrize(
    ("value", "task", "said"),
    [
        ({"input": [1, 2]}, "predict", "line 1: no `expected`"),
        ({"input": [1, 2, 3], "expected": 1}, "predict", "input 'x' has the shape [1, 3]; the model takes [-1, 2]"),
        ({"input": [[[1, 2]]], "expected": 1}, "predict", "has 3 dimensions"),
        ({"input": [[1, 2], [1]], "expected": 1}, "predict", "is ragged"),
        ({"inputs": {"y": [1, 2]}, "expected": 1}, "predict", "the model has no input 'y'; it takes x"),
        ({"inputs": {}, "expected": 1}, "predict", "input 'x' is missing"),
        ({"messages": [{}], "expected": 1}, "predict", "this model takes `inputs`"),
        ({"inputs": {"x": 1}, "expected": "4"}, "chat", "a chat model takes `messages`"),
        ({"input": [1], "expected": [1]}, "embed", "an embedding model takes `input` with a text"),
    ],
)
def test_what_does_not_fit_a_model_is_said_with_its_line(value: Any, task: str, said: str) -> None:
    assert said in golden.misfit(golden.read(lines(value)), task, ONE)


def test_files_have_their_maximum() -> None:
    with pytest.raises(BadGolden, match="at most"):
        golden.read(b" " * (GOLDEN_BYTES_MAX + 1))
    with pytest.raises(BadGolden, match=f"more than {GOLDEN_ROWS_MAX} examples"):
        golden.read(lines(*[{"input": 1, "expected": 1}] * (GOLDEN_ROWS_MAX + 1)))
    with pytest.raises(BadGolden, match="holds no examples"):
        golden.read(b"\n\n")
    with pytest.raises(BadGolden, match="and 2 more lines"):
        golden.read(b"{\n" * 7)


@given(st.binary(max_size=300))
def test_any_bytes_are_examples_or_say_what_is_wrong(data: bytes) -> None:
    try:
        found = golden.read(data)
    except BadGolden:
        return
    for task in ("predict", "chat", "embed"):
        assert isinstance(golden.misfit(found, task, ONE), str)


def test_answers_say_labels_numbers_texts_and_vectors() -> None:
    outputs = {"outputs": [{"name": "label", "data": [7]}, {"name": "scores", "data": [0.1, 0.9]}]}
    assert answers.said(outputs, "predict", "") == 7
    assert answers.said(outputs, "predict", "scores") == [0.1, 0.9]
    with pytest.raises(answers.Odd, match="without the output 'y'"):
        answers.said(outputs, "predict", "y")
    with pytest.raises(answers.Odd):
        answers.said({"error": "no"}, "predict", "")
    assert answers.said({"choices": [{"message": {"content": "4"}}]}, "chat", "") == "4"
    assert answers.said({"data": [{"embedding": [1.0]}]}, "embed", "") == [1.0]


def test_scores_where_a_class_is_expected_are_the_highest() -> None:
    assert answers.score("accuracy", 1, [0.1, 0.9]) == 1
    assert answers.score("accuracy", 1, 1.0) == 1
    assert answers.score("accuracy", "cat", "cat") == 1
    assert answers.score("accuracy", True, 1) == 1
    assert answers.score("accuracy", 0, [0.1, 0.9]) == 0
    assert answers.score("rmse", [1, 2], [1, 4]) == 2
    assert answers.score("exact", "4", " 4\n") == 1
    assert answers.score("cosine", [1, 0], [2, 0]) == 1
    for bad in ([1.0], [None, 1.0], ["a", "b"]):
        with pytest.raises(answers.Odd):
            answers.score("rmse", [1, 2], bad)


def test_expectations_may_name_their_output() -> None:
    one = Example(3, "input", [1], {"label": 7})
    assert answers.output_of(one, "") == "label"
    assert answers.expected_of(one, "") == 7
    with pytest.raises(answers.Odd, match="line 3"):
        answers.expected_of(one, "scores")


def test_the_usual_metric_fits_what_is_expected() -> None:
    assert answers.usual_metric("predict", [1, 2]) == "accuracy"
    assert answers.usual_metric("predict", ["a"]) == "accuracy"
    assert answers.usual_metric("predict", [1.0, 2.5]) == "rmse"
    assert answers.usual_metric("predict", [[1, 2]]) == "rmse"
    assert answers.usual_metric("chat", ["x"]) == "exact"
    assert answers.usual_metric("embed", [None]) == "cosine"


def test_examples_are_read_as_texts_from_all_over_the_file() -> None:
    lines = [b'{"input": "%d?", "expected": "yes"}' % at for at in range(10)]
    lines += [b'{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "expected": "c"}']
    found = golden.read(b"\n".join(lines))
    assert golden.texts(found, 3) == ("0?\nyes", "3?\nyes", "7?\nyes")
    assert golden.texts(found, 100)[-1] == "a\nb\nc"
    with pytest.raises(golden.BadGolden, match="line 1: no text to read"):
        golden.texts(golden.read(b'{"input": [1, 2], "expected": "x"}'), 5)
