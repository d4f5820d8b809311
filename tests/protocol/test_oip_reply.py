"""Infer answers: what a client reads is what the engine gave, for its own rows, in the form it asked for."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
import tritonclient.http as triton

from stoker.protocol import oip
from stoker.protocol.oip_reply import ReplyWriter
from stoker.protocol.oip_request import InferRequest
from stoker.types.errors import EngineFailed, InvalidInput, NotFound
from stoker.types.models import Signature, TensorSpec

WRITER = ReplyWriter("digits", "3", batches=True)
OUTPUTS = {
    "label": np.arange(4, dtype=np.int64),
    "p": np.arange(8, dtype=np.float32).reshape(4, 2) / 3,
    "word": np.array([b"a", b"b", "é".encode(), b"d"], object),
}


def request(rows: int = 1, **changes: Any) -> InferRequest:
    return InferRequest(id=None, inputs={}, rows=rows, key=(), **changes)


def test_each_request_gets_its_own_rows() -> None:
    replies = WRITER.batch(OUTPUTS)
    body, header = replies.write(request(2), 1)
    answer = json.loads(body)
    assert header == -1
    assert (answer["model_name"], answer["model_version"]) == ("digits", "3")
    assert "id" not in answer
    assert answer["outputs"] == [
        {"name": "label", "datatype": "INT64", "shape": [2], "data": [1, 2]},
        {"name": "p", "datatype": "FP32", "shape": [2, 2], "data": [float(v) for v in OUTPUTS["p"][1:3].reshape(-1)]},
        {"name": "word", "datatype": "BYTES", "shape": [2], "data": ["b", "é"]},
    ]


def test_the_id_and_the_selection_of_outputs_are_the_requests() -> None:
    body, _ = WRITER.batch(OUTPUTS).write(InferRequest("q\n", {}, 1, (), ("word", "label")), 0)
    answer = json.loads(body)
    assert answer["id"] == "q\n"
    assert [output["name"] for output in answer["outputs"]] == ["word", "label"]


@pytest.mark.parametrize("binary", [{}, {"p": False}, {"label": True, "p": True, "word": False}])
@pytest.mark.parametrize("binary_all", [True, False])
def test_tritons_client_reads_any_mix_of_json_and_bytes(binary: dict[str, bool], binary_all: bool) -> None:
    body, header = WRITER.batch(OUTPUTS).write(request(3, binary_all=binary_all, binary=binary), 1)
    result = triton.InferResult.from_response_body(body, header_length=None if header < 0 else header)
    assert result.as_numpy("label").tolist() == [1, 2, 3]
    assert np.array_equal(result.as_numpy("p"), OUTPUTS["p"][1:4])
    words = [word if isinstance(word, bytes) else word.encode() for word in result.as_numpy("word").tolist()]
    assert words == OUTPUTS["word"][1:4].tolist()


def test_what_json_has_no_word_for_is_null_and_survives_as_bytes() -> None:
    odd = {"y": np.array([[np.nan, np.inf, 1.0]], np.float32)}
    body, _ = WRITER.batch(odd).write(request(), 0)
    assert json.loads(body)["outputs"][0]["data"] == [None, None, 1.0]
    body, header = WRITER.batch(odd).write(request(binary_all=True), 0)
    found = triton.InferResult.from_response_body(body, header_length=header).as_numpy("y")
    assert np.array_equal(found, odd["y"], equal_nan=True)


def test_bytes_that_are_no_text_need_the_binary_form() -> None:
    raw = {"y": np.array([b"\xff"], object)}
    with pytest.raises(EngineFailed, match="binary_data"):
        WRITER.batch(raw).write(request(), 0)
    body, header = WRITER.batch(raw).write(request(binary_all=True), 0)
    assert triton.InferResult.from_response_body(body, header_length=header).as_numpy("y").tolist() == [b"\xff"]


def test_a_model_without_a_batch_dimension_answers_whole() -> None:
    body, _ = ReplyWriter("m", "1", batches=False).batch({"y": np.float64(2.5).reshape(())}).write(request(), 0)
    assert json.loads(body)["outputs"] == [{"name": "y", "datatype": "FP64", "shape": [], "data": [2.5]}]


@pytest.mark.parametrize("dtype", ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"])
def test_every_type_goes_out_under_the_protocols_name(dtype: str) -> None:
    values = np.array([[0, 1]], dtype)
    body, header = WRITER.batch({"y": values}).write(request(binary_all=True), 0)
    found = triton.InferResult.from_response_body(body, header_length=header).as_numpy("y")
    assert found.dtype == values.dtype
    assert np.array_equal(found, values)


def test_metadata_has_the_keys_that_clients_read() -> None:
    signature = Signature((TensorSpec("x", "FP32", (-1, 64)),), (TensorSpec("y", "INT64", (-1,)),))
    model = json.loads(oip.model_metadata("digits", ["1", "2"], "onnx_onnxv1", signature))
    assert model == {
        "name": "digits",
        "versions": ["1", "2"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}],
        "outputs": [{"name": "y", "datatype": "INT64", "shape": [-1]}],
    }
    server = json.loads(oip.server_metadata())
    assert server["name"] == "stoker"
    assert "binary_tensor_data" in server["extensions"]


def test_an_error_is_one_string_that_names_the_field() -> None:
    assert msgspec.json.decode(oip.error_body(NotFound("no model"))) == {"error": "no model"}
    problem = InvalidInput("[2] does not fit", field="inputs[0].shape")
    assert msgspec.json.decode(oip.error_body(problem)) == {"error": "inputs[0].shape: [2] does not fit"}
