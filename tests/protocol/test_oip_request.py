"""Infer requests: good ones in every form become the right tensors, and nothing else becomes any."""

import json
import struct
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.protocol.oip_request import JSON_VALUES_MAX, InferReader, InferRequest
from stoker.types.errors import InvalidInput, Unsupported
from stoker.types.models import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec("x", "FP32", (-1, 2)), TensorSpec("n", "INT8", (-1,))),
    outputs=(TensorSpec("y", "FP32", (-1,)), TensorSpec("z", "INT64", (-1,))),
)
READER = InferReader(SIGNATURE, batches=True)
ONE = InferReader(Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1,)),)), batches=True)


def body(**changes: Any) -> dict[str, Any]:
    x = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2.5, 3, 4]}
    n = {"name": "n", "datatype": "INT8", "shape": [2], "data": [-128, 127]}
    return {"inputs": [{**x, **changes.pop("x", {})}, {**n, **changes.pop("n", {})}], **changes}


def read(value: Any, reader: InferReader = READER) -> InferRequest:
    return reader.read(json.dumps(value).encode())


def reader_of(datatype: Any, *shape: int) -> InferReader:
    return InferReader(Signature((TensorSpec("x", datatype, shape),), ()), batches=True)


def test_flat_and_nested_data_are_the_same_tensor() -> None:
    flat = read(body())
    nested = read(body(x={"data": [[1, 2.5], [3, 4]]}))
    assert flat.rows == nested.rows == 2
    assert flat.inputs["x"].dtype == np.float32
    assert flat.inputs["x"].tolist() == nested.inputs["x"].tolist() == [[1, 2.5], [3, 4]]
    assert flat.inputs["n"].tolist() == [-128, 127]


def test_id_and_requested_outputs_are_kept_and_unknown_fields_ignored() -> None:
    outputs = [{"name": "z", "parameters": {"binary_data": True}}, {"name": "y"}]
    request = read(body(id="a", outputs=outputs, parameters={"priority": 3, "sequence_id": "s"}, extra=1))
    assert (request.id, request.outputs, request.binary, request.binary_all) == ("a", ("z", "y"), {"z": True}, False)
    assert read(body(parameters={"binary_data_output": True})).binary_all


@pytest.mark.parametrize(
    ("datatype", "values", "dtype"),
    [
        ("BOOL", [True, False], np.bool_),
        ("UINT8", [0, 255], np.uint8),
        ("UINT64", [0, 2**64 - 1], np.uint64),
        ("INT64", [-(2**63), 2**63 - 1], np.int64),
        ("FP16", [0.5, -65504], np.float16),
        ("FP64", [1e300, -0.0], np.float64),
    ],
)
def test_every_datatype_arrives_exactly(datatype: str, values: list[Any], dtype: Any) -> None:
    given_ = {"inputs": [{"name": "x", "datatype": datatype, "shape": [2], "data": values}]}
    found = read(given_, reader_of(datatype, -1)).inputs["x"]
    assert found.dtype == dtype
    assert found.tolist() == values


def test_text_arrives_as_bytes_in_utf8() -> None:
    given_ = {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1, 2], "data": [["a", "déjà"]]}]}
    assert read(given_, reader_of("BYTES", -1, 2)).inputs["x"].tolist() == [[b"a", "déjà".encode()]]


WRONG = [
    ({"x": {"name": "X"}}, "inputs[0].name", "['n', 'x']"),
    ({"n": {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}}, "inputs[1].name", "twice"),
    ({"x": {"datatype": "FP64"}}, "inputs[0].datatype", "FP32"),
    ({"x": {"shape": [4]}}, "inputs[0].shape", "[-1, 2]"),
    ({"x": {"shape": []}}, "inputs[0].shape", "[-1, 2]"),
    ({"x": {"shape": [4, 1]}}, "inputs[0].shape", "[-1, 2]"),
    ({"x": {"shape": [-1, 2]}}, "inputs[0].shape", "[-1, 2]"),
    ({"x": {"shape": [0, 2], "data": []}}, "inputs[0].shape", "1 or more"),
    ({"x": {"shape": [3, 2]}}, "inputs[0].data", "needs 6"),
    ({"x": {"shape": [2**40, 2]}}, "inputs[0].data", "binary"),
    ({"x": {"shape": [2.5, 2]}}, "inputs[0].shape[0]", "int"),
    ({"x": {"data": [1, 2, 3]}}, "inputs[0].data", "needs 4"),
    ({"x": {"data": [1, "2", 3, 4]}}, "inputs[0].data[1]", "float"),
    ({"x": {"data": [1, None, 3, 4]}}, "inputs[0].data[1]", "float"),
    ({"x": {"data": [1, True, 3, 4]}}, "inputs[0].data[1]", "float"),
    ({"x": {"data": [1, 1e39, 3, 4]}}, "inputs[0].data[1]", "3.4"),
    ({"x": {"data": [[1, 2], [3]]}}, "inputs[0].data", "nested"),
    ({"x": {"data": [[[1, 2], [3, 4]]]}}, "inputs[0].data[0][0]", "float"),
    ({"x": {"data": {"0": 1}}}, "inputs[0].data", "array"),
    ({"n": {"data": [1, 128]}}, "inputs[1].data[1]", "127"),
    ({"n": {"data": [1, 1.5]}}, "inputs[1].data[1]", "int"),
    ({"n": {"shape": [1], "data": [1]}}, "inputs[1].shape", "1 rows"),
    ({"inputs": []}, "inputs", "missing"),
    ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}, "inputs", "['n'] missing"),
    ({"inputs": 5}, "inputs", "array"),
    ({"outputs": [{"name": "w"}]}, "outputs[0].name", "['y', 'z']"),
    ({"outputs": [{"name": "y"}, {"name": "y"}]}, "outputs[1].name", "twice"),
    ({"id": 5}, "id", "str"),
    ({"x": {"parameters": {"binary_data_size": 16}}}, "inputs[0].data", "both"),
]


@pytest.mark.parametrize(("changes", "field", "says"), WRONG)
def test_a_wrong_request_is_told_where_and_what_was_expected(changes: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        read(body(**changes))
    assert raised.value.field == field
    assert says in raised.value.message


def test_data_that_is_missing_is_named() -> None:
    value = body()
    del value["inputs"][0]["data"]
    with pytest.raises(InvalidInput, match="no data") as raised:
        read(value)
    assert raised.value.field == "inputs[0].data"


def test_shared_memory_and_classification_are_refused_and_not_ignored() -> None:
    with pytest.raises(Unsupported):
        read(body(x={"parameters": {"shared_memory_region": "r"}}))
    with pytest.raises(Unsupported):
        read(body(outputs=[{"name": "y", "parameters": {"classification": 3}}]))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[NaN,1]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[Infinity,1]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1e999,1]}]}',
        b'{"inputs":[{"name":"\xff\xfe","datatype":"FP32","shape":[1,2],"data":[1,1]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,1]}',
        b'{"inputs":' + b"[" * 200_000,
        b'{"extra":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[99999999999999999999999,2],"data":[1]}]}',
    ],
)
def test_what_is_no_json_is_refused_whatever_is_in_it(raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        ONE.read(raw)


def test_a_large_json_tensor_is_counted_before_it_is_parsed() -> None:
    data = b"0," * 1_000_000 + b"0"
    raw = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[5,2],"data":[' + data + b"]}]}"
    with pytest.raises(InvalidInput, match="1000001 values") as raised:
        ONE.read(raw)
    assert raised.value.field == "inputs[0].data"
    rows = JSON_VALUES_MAX
    with pytest.raises(InvalidInput, match="as binary data"):
        ONE.read(b'{"inputs":[{"name":"x","datatype":"FP32","shape":[%d,2],"data":[1]}]}' % rows)


def binary(x: np.ndarray[Any, Any], **changes: Any) -> tuple[bytes, int]:
    item = {"name": "x", "datatype": "FP32", "shape": list(x.shape), "parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [{**item, **changes}]}).encode()
    return head + x.tobytes(), len(head)


def test_binary_data_is_read_without_json() -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    raw, header = binary(x)
    assert ONE.read(raw, header).inputs["x"].tolist() == x.tolist()


@pytest.mark.parametrize("lead", range(4))
def test_binary_data_at_any_offset_becomes_an_aligned_tensor(lead: int) -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    raw, header = binary(x, pad=" " * lead)
    found = ONE.read(raw, header).inputs["x"]
    assert found.flags.aligned
    assert found.tolist() == x.tolist()


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda raw, header: (raw, len(raw) + 1), "Inference-Header-Content-Length"),
        (lambda raw, header: (raw, header - 1), None),
        (lambda raw, header: (raw[:-1], header), "inputs[0].parameters.binary_data_size"),
        (lambda raw, header: (raw + b"x", header), "inputs"),
        (lambda raw, header: (raw[:header], -1), "inputs[0].parameters.binary_data_size"),
    ],
)
def test_a_binary_body_that_does_not_add_up_is_refused(make: Any, field: str | None) -> None:
    raw, header = make(*binary(np.zeros((2, 2), np.float32)))
    with pytest.raises(InvalidInput) as raised:
        ONE.read(raw, header)
    assert raised.value.field == field


@pytest.mark.parametrize("size", [-1, 0, 15, 17, 2**70])
def test_a_binary_size_that_does_not_fit_the_shape_is_refused(size: int) -> None:
    raw, header = binary(np.zeros((2, 2), np.float32), parameters={"binary_data_size": size})
    with pytest.raises(InvalidInput):
        ONE.read(raw, header)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x01\x00\x00",
        struct.pack("<I", 5) + b"abc",
        struct.pack("<I", 2**32 - 1),
        struct.pack("<I", 1) + b"a",
        struct.pack("<I", 1) + b"a" + struct.pack("<I", 1) + b"b" + b"left",
    ],
)
def test_bytes_elements_that_lie_about_their_length_are_refused(raw: bytes) -> None:
    item = {"name": "x", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [item]}).encode()
    with pytest.raises(InvalidInput):
        reader_of("BYTES", -1).read(head + raw, len(head))


def test_bool_bytes_are_nought_or_one() -> None:
    head = b'{"inputs":[{"name":"x","datatype":"BOOL","shape":[2],"parameters":{"binary_data_size":2}}]}'
    assert reader_of("BOOL", -1).read(head + b"\x00\x01", len(head)).inputs["x"].tolist() == [False, True]
    with pytest.raises(InvalidInput, match="neither 0 nor 1"):
        reader_of("BOOL", -1).read(head + b"\x00\x02", len(head))


@pytest.mark.parametrize("as_binary", [True, False])
@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("FP32", np.array([[1.5, 2], [3, 4]], np.float32)),
        ("INT64", np.array([[1, -2], [3, 4]], np.int64)),
        ("BOOL", np.array([[True, False], [False, True]])),
        ("BYTES", np.array([[b"a", b""], ["é".encode(), b"long" * 100]], object)),
    ],
)
def test_what_tritons_client_sends_is_understood(datatype: str, values: Any, as_binary: bool) -> None:
    tensor = triton.InferInput("x", list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=as_binary)
    raw, header = triton.InferenceServerClient.generate_request_body([tensor])
    request = reader_of(datatype, -1, 2).read(raw, -1 if header is None else header)
    assert request.inputs["x"].tolist() == values.tolist()
    assert request.binary_all  # its default, whatever the inputs are


def test_a_model_without_a_batch_dimension_takes_its_exact_shape() -> None:
    reader = InferReader(Signature((TensorSpec("x", "FP32", (2, -1)),), ()), batches=False)
    value = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}]}
    assert read(value, reader).rows == 1
    assert read(value, reader).key == ((2, 3),)


def test_requests_of_different_trailing_shapes_have_different_keys() -> None:
    reader = InferReader(Signature((TensorSpec("x", "FP32", (-1, -1)),), ()), batches=True)
    two, three = (
        read({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, n], "data": [0] * n}]}, reader) for n in (2, 3)
    )
    assert two.key != three.key


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "shape", "data", "datatype", "parameters"]), inner, max_size=5)
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(
    inputs=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(["x", "n"]) | json_values,
                "datatype": st.sampled_from(["FP32", "INT8"]) | json_values,
                "shape": st.lists(st.integers(-2, 4), max_size=3) | json_values,
                "data": st.lists(st.integers(-200, 200), max_size=8) | json_values,
                "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-9, 20)}) | json_values,
            },
        ),
        max_size=3,
    ),
    tail=st.binary(max_size=20),
    header=st.integers(-1, 300),
)
def test_no_request_gets_through_but_one_that_fits(inputs: Any, tail: bytes, header: int) -> None:
    raw = json.dumps({"inputs": inputs}).encode()
    try:
        request = READER.read(raw + tail, len(raw) if header % 2 else header)
    except (InvalidInput, Unsupported):
        return
    assert request.inputs["x"].shape == (request.rows, 2)
    assert request.inputs["n"].shape == (request.rows,)
    assert request.inputs["x"].dtype == np.float32


@given(raw=st.binary(max_size=200), header=st.integers(-1, 250))
def test_random_bytes_are_refused_in_words(raw: bytes, header: int) -> None:
    with pytest.raises(InvalidInput):
        ONE.read(raw, header)
