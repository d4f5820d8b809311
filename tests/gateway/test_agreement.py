"""When two answers to one request are the same, as far as anybody cares."""

import base64
import json
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.gateway.protocols.agreement import Answer, agree, numbers_agree

numbers = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=8)


def tensors(**outputs: tuple[str, list[Any]]) -> Answer:
    found = [
        {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}
        for name, (datatype, data) in outputs.items()
    ]
    return Answer(json.dumps({"outputs": found}).encode())


def binary(values: list[float]) -> Answer:
    data = array("f", values).tobytes()
    output = {"name": "y", "datatype": "FP32", "shape": [len(values)], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"outputs": [output]}).encode()
    return Answer(head + data, len(head))


@given(numbers, st.floats(0, 1))
def test_numbers_agree_with_themselves(values: list[float], tolerance: float) -> None:
    assert numbers_agree(values, list(values), tolerance)


@given(numbers, numbers, st.floats(0, 0.5))
def test_it_does_not_matter_whose_numbers_come_first(one: list[float], other: list[float], tolerance: float) -> None:
    assert numbers_agree(one, other, tolerance) == numbers_agree(other, one, tolerance)


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        (tensors(y=("FP32", [1.0, 2.0])), tensors(y=("FP32", [1.005, 2.01])), True),
        (tensors(y=("FP32", [1.0, 2.0])), tensors(y=("FP32", [1.0, 2.1])), False),
        (tensors(y=("FP32", [1.0, 1e-9])), tensors(y=("FP32", [1.0, 5e-9])), True),
        (tensors(y=("FP32", [1.0, None])), tensors(y=("FP32", [1.0, 0.0])), False),
        (tensors(y=("INT64", [7])), tensors(y=("INT64", [8])), False),
        (tensors(y=("BYTES", ["cat"])), tensors(y=("BYTES", ["dog"])), False),
        (tensors(y=("FP32", [1.0])), tensors(y=("FP32", [1.0, 1.0])), False),
        (tensors(y=("FP32", [1.0])), tensors(z=("FP32", [1.0])), False),
        (tensors(y=("FP32", [1.0])), tensors(y=("FP64", [1.0])), False),
        (binary([1.0, 2.0]), binary([1.001, 2.001]), True),
        (binary([1.0, 2.0]), binary([1.0, 3.0]), False),
        (Answer(b"no json"), tensors(y=("FP32", [1.0])), None),
        (Answer(b'{"outputs":3}'), tensors(y=("FP32", [1.0])), None),
        (Answer(b'{"outputs":[{"name":"y","datatype":"FP32","shape":[1]}]}'), tensors(y=("FP32", [1.0])), None),
    ],
)
def test_tensors(one: Answer, other: Answer, wanted: bool | None) -> None:
    assert agree("infer", one, other, 0.01, is_exact=True) is wanted
    assert agree("infer", other, one, 0.01, is_exact=True) is wanted


def vectors(*rows: list[float], packed: bool = False) -> Answer:
    data = [{"embedding": base64.b64encode(array("f", row).tobytes()).decode() if packed else row} for row in rows]
    return Answer(json.dumps({"data": data}).encode())


def test_vectors_agree_by_their_direction() -> None:
    one = vectors([1.0, 0.0], [0.0, 2.0])
    assert agree("embeddings", one, vectors([1.0, 0.05], [0.0, 1.0]), 0.01, is_exact=True) is True
    assert agree("embeddings", one, vectors([1.0, 0.0], [0.0, 2.0], packed=True), 0.01, is_exact=True) is True
    assert agree("embeddings", one, vectors([1.0, 0.5], [0.0, 2.0]), 0.01, is_exact=True) is False
    assert agree("embeddings", one, vectors([1.0, 0.0]), 0.01, is_exact=True) is False
    assert agree("embeddings", vectors([0.0]), vectors([0.0]), 0.01, is_exact=True) is True


def chat(text: str, *, end: str = "stop", tool: str = "", arguments: str = "{}") -> Answer:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if tool:
        message["tool_calls"] = [{"id": "1", "type": "function", "function": {"name": tool, "arguments": arguments}}]
    return Answer(json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": end}]}).encode())


def stream(*pieces: str, end: str = "stop") -> Answer:
    deltas: list[dict[str, Any]] = [
        {"index": 0, "delta": {"content": piece}, "finish_reason": None} for piece in pieces
    ]
    deltas.append({"index": 0, "delta": {}, "finish_reason": end})
    lines = [f"data: {json.dumps({'choices': [each]})}\n\n" for each in deltas]
    return Answer("".join([*lines, "data: [DONE]\n\n"]).encode())


@pytest.mark.parametrize(
    ("one", "other", "if_exact", "if_drawn"),
    [
        (chat("a  cat\n"), chat("a cat"), True, True),
        (chat("a cat"), chat("a dog"), False, True),
        (chat("a cat"), chat("a cat", end="length"), False, False),
        (chat("", tool="find"), chat("", tool="buy"), False, False),
        (chat("", tool="find", arguments='{"a":1}'), chat("", tool="find", arguments='{"a":2}'), False, True),
        (chat('{"a":1}'), chat('{"b":2}'), False, True),
        (chat('{"a":1}'), chat('{"a":1'), False, False),
        (stream("a ", "cat"), stream("a", " cat"), True, True),
        (stream("a cat"), chat("a cat"), True, True),
        (chat("a"), Answer(b"[]"), None, None),
    ],
)
def test_chats(one: Answer, other: Answer, if_exact: bool | None, if_drawn: bool | None) -> None:
    assert agree("chat", one, other, 0.01, is_exact=True) is if_exact
    assert agree("chat", one, other, 0.01, is_exact=False) is if_drawn


@given(st.sampled_from(["infer", "embeddings", "chat", "completions"]), st.binary(), st.binary(), st.integers(-1, 40))
def test_whatever_was_answered_it_is_judged_and_nothing_breaks(
    method: str, one: bytes, other: bytes, header_bytes: int
) -> None:
    found = agree(method, Answer(one, header_bytes), Answer(other, header_bytes), 0.01, is_exact=True)
    assert found in (True, False, None)
