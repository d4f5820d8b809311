"""Infer over gRPC: what the client's library wrote reaches the model unchanged, and the other way round."""

import struct
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from stoker.protocol import oip_grpc
from stoker.protocol.oip_binary import DTYPES, Array, write_tensor
from stoker.protocol.oip_reply import ReplyWriter
from stoker.protocol.oip_request import InferReader
from stoker.types.errors import EngineFailed, InvalidInput, TooLarge, Unsupported
from stoker.types.models import Signature, TensorSpec

TYPED = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


@st.composite
def tensors(draw: st.DrawFn, datatypes: tuple[str, ...] = tuple(DTYPES)) -> tuple[str, Array]:
    """Return a datatype and an array of it, of any bits."""
    datatype = draw(st.sampled_from(datatypes))
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    count = int(np.prod(shape))
    if datatype == "BYTES":
        found = np.empty(count, object)
        found[:] = draw(st.lists(st.binary(max_size=9), min_size=count, max_size=count))
        return datatype, found.reshape(shape)
    dtype = DTYPES[datatype]
    raw = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    if datatype == "BOOL":
        raw = bytes(octet & 1 for octet in raw)
    return datatype, np.frombuffer(raw, dtype).reshape(shape)


def reader(*given_: tuple[str, Array]) -> InferReader:
    specs = tuple(TensorSpec(f"x{at}", datatype, array.shape) for at, (datatype, array) in enumerate(given_))
    return InferReader(Signature(specs, (TensorSpec("y", "FP32", (1,)),)), batches=False)


def raw_request(*given_: tuple[str, Array]) -> Any:
    """Return the request as Triton's client writes it, read back by our classes."""
    made = service_pb2.ModelInferRequest(model_name="m", id="seven")
    for at, (datatype, array) in enumerate(given_):
        tensor = triton.InferInput(f"x{at}", list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        made.inputs.append(tensor._get_tensor())
        made.raw_input_contents.append(tensor._get_content())
    return oip_grpc.ModelInferRequest.FromString(made.SerializeToString())


def typed_request(*given_: tuple[str, Array]) -> Any:
    made = oip_grpc.ModelInferRequest(model_name="m", id="seven")
    for at, (datatype, array) in enumerate(given_):
        tensor = made.inputs.add(name=f"x{at}", datatype=datatype, shape=list(array.shape))
        getattr(tensor.contents, TYPED[datatype]).extend(array.reshape(-1).tolist())
    return made


def as_bits(array: Array) -> bytes:
    return write_tensor(array)


@given(st.lists(tensors(), min_size=1, max_size=3))
def test_raw_contents_reach_the_model_bit_for_bit(sent: list[tuple[str, Array]]) -> None:
    request = raw_request(*sent)
    assert oip_grpc.is_raw(request)
    found = reader(*sent).read(*oip_grpc.request_body(request))
    assert found.id == "seven"
    assert found.binary_all
    assert [as_bits(found.inputs[f"x{at}"]) for at in range(len(sent))] == [as_bits(array) for _, array in sent]


@given(st.lists(tensors(tuple(TYPED)), min_size=1, max_size=3))
def test_typed_contents_reach_the_model_as_the_same_values(sent: list[tuple[str, Array]]) -> None:
    request = typed_request(*sent)
    assert not oip_grpc.is_raw(request)
    found = reader(*sent).read(*oip_grpc.request_body(request))
    for at, (_, array) in enumerate(sent):
        np.testing.assert_array_equal(found.inputs[f"x{at}"], array)


@given(st.lists(tensors(), min_size=1, max_size=3), st.booleans())
def test_the_clients_library_reads_what_the_model_answered(sent: list[tuple[str, Array]], raw: bool) -> None:
    asked = reader(("FP32", np.zeros(1, np.float32))).read(
        *oip_grpc.request_body(raw_request(("FP32", np.zeros(1, np.float32))))
    )
    outputs = {f"x{at}": array for at, (_, array) in enumerate(sent)}
    body, header_bytes = ReplyWriter("m", "3", batches=False).batch(outputs).write(asked, 0)
    made = oip_grpc.response(body, header_bytes, raw=raw)
    theirs = service_pb2.ModelInferResponse.FromString(made.SerializeToString())
    assert (theirs.model_name, theirs.model_version, theirs.id) == ("m", "3", "seven")
    if not raw and all(datatype in TYPED for datatype, _ in sent):
        assert not theirs.raw_output_contents
        for (datatype, array), output in zip(sent, theirs.outputs, strict=True):
            values = getattr(output.contents, TYPED[datatype])
            np.testing.assert_array_equal(np.array(list(values), array.dtype).reshape(output.shape), array)
    else:
        result = triton.InferResult(theirs)
        assert [as_bits(result.as_numpy(name)) for name in outputs] == [as_bits(array) for array in outputs.values()]


@given(st.binary(max_size=64), st.sampled_from([*DTYPES, "BF16"]), st.lists(st.integers(-1, 5), max_size=3))
def test_any_raw_bytes_are_passed_on_unread_and_a_wrong_size_is_refused_with_the_field(
    raw: bytes, datatype: str, shape: list[int]
) -> None:
    request = oip_grpc.ModelInferRequest()
    request.inputs.add(name="x0", datatype=datatype, shape=shape)
    request.raw_input_contents.append(raw)
    body, header_bytes = oip_grpc.request_body(request)
    assert body[header_bytes:] == raw
    model = InferReader(Signature((TensorSpec("x0", "FP32", (2, 2)),), ()), batches=False)
    if (datatype, shape, len(raw)) == ("FP32", [2, 2], 16):
        model.read(body, header_bytes)
    else:
        with pytest.raises(InvalidInput) as refused:
            model.read(body, header_bytes)
        assert refused.value.field is not None
        assert refused.value.field.startswith("inputs[0]")


def test_an_empty_tensor_is_passed_on_and_answered() -> None:
    request = oip_grpc.ModelInferRequest()
    request.inputs.add(name="x", datatype="FP32", shape=[0, 4])
    body, header_bytes = oip_grpc.request_body(request)
    assert len(body) == header_bytes
    assert b'"shape":[0,4]' in body
    answer = b'{"outputs":[{"name":"y","datatype":"FP32","shape":[0],"parameters":{"binary_data_size":0}}]}'
    made = oip_grpc.response(answer, len(answer), raw=False)
    assert list(made.outputs[0].shape) == [0]
    assert not made.raw_output_contents


@pytest.mark.parametrize(
    ("datatype", "place", "value", "field"),
    [
        ("FP32", "fp64_contents", 1.0, "inputs[0].contents.fp64_contents"),
        ("INT64", "int_contents", 1, "inputs[0].contents.int_contents"),
        ("FP16", "fp32_contents", 1.0, "inputs[0].contents.fp32_contents"),
        ("BF16", "fp32_contents", 1.0, "inputs[0].contents.fp32_contents"),
        ("INT8", "int_contents", 128, "inputs[0].contents.int_contents"),
        ("UINT16", "uint_contents", 65536, "inputs[0].contents.uint_contents"),
    ],
)
def test_typed_contents_that_the_datatype_cannot_have_are_refused_with_their_field(
    datatype: str, place: str, value: Any, field: str
) -> None:
    request = oip_grpc.ModelInferRequest()
    getattr(request.inputs.add(name="x", datatype=datatype, shape=[1]).contents, place).append(value)
    with pytest.raises(InvalidInput) as refused:
        oip_grpc.request_body(request)
    assert refused.value.field == field


def test_what_no_model_could_take_is_refused_with_its_field() -> None:
    zeros = np.zeros(2, np.float32)
    lacking = raw_request(("FP32", zeros), ("FP32", zeros))
    lacking.raw_input_contents.pop()
    both = raw_request(("FP32", zeros))
    both.inputs[0].contents.fp32_contents.append(1)
    large = oip_grpc.ModelInferRequest()
    for _ in range(2):  # the bound is for a request, not for each of its tensors
        tensor = large.inputs.add(name="x", datatype="INT8")
        tensor.contents.int_contents.extend([0] * (oip_grpc.TYPED_VALUES_MAX // 2 + 1))
    shared = raw_request(("FP32", zeros))
    shared.inputs[0].parameters["shared_memory_region"].string_param = "r"
    for request, kind, field in (
        (lacking, InvalidInput, "raw_input_contents"),
        (both, InvalidInput, "inputs[0].contents"),
        (large, TooLarge, "inputs[1].contents.int_contents"),
        (shared, Unsupported, "inputs[0].parameters"),
    ):
        with pytest.raises(kind) as refused:
            oip_grpc.request_body(request)
        assert refused.value.field == field


def test_wanted_outputs_and_parameters_are_passed_on_but_never_the_form_of_the_answer() -> None:
    request = raw_request(("FP32", np.zeros(1, np.float32)))
    request.parameters["binary_data_output"].bool_param = False
    request.parameters["priority"].uint64_param = 2**63
    request.outputs.add(name="y").parameters["binary_data"].bool_param = False
    body, header_bytes = oip_grpc.request_body(request)
    assert b'"priority":9223372036854775808' in body
    found = reader(("FP32", np.zeros(1, np.float32))).read(body, header_bytes)
    assert found.outputs == ("y",)
    assert (found.binary_all, found.binary) == (True, {"y": True})
    request.outputs[0].parameters["classification"].int64_param = 3
    with pytest.raises(Unsupported):
        reader(("FP32", np.zeros(1, np.float32))).read(*oip_grpc.request_body(request))


@given(st.binary(max_size=80), st.integers(-1, 90))
def test_an_answer_that_is_none_is_an_error_of_the_engine_and_nothing_else(body: bytes, header_bytes: int) -> None:
    with pytest.raises(EngineFailed):
        oip_grpc.response(body, header_bytes, raw=False)


@pytest.mark.parametrize(
    ("datatype", "raw"), [("FP32", b"123"), ("BYTES", b"12"), ("BYTES", struct.pack("<I", 9) + b"short")]
)
def test_an_answer_with_a_cut_tensor_is_an_error_of_the_engine(datatype: str, raw: bytes) -> None:
    head = b'{"outputs":[{"name":"y","datatype":"%b","shape":[1],"parameters":{"binary_data_size":%d}}]}'
    text = head % (datatype.encode(), len(raw))
    with pytest.raises(EngineFailed):
        oip_grpc.response(text + raw, len(text), raw=False)
