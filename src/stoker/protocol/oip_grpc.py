"""Infer requests and answers between gRPC and what replicas speak: the REST body with the binary tensor extension.

Raw contents are only joined and cut, never looked into. Typed contents become raw ones here; whether a tensor fits the
model, the replica judges for both protocols alike. No numpy: a gateway has none.
"""

import struct
import sys
from array import array
from collections.abc import Iterable
from itertools import chain
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from stoker.protocol.oip_messages import INFERENCE
from stoker.types.errors import EngineFailed, InvalidInput, TooLarge, Unsupported

# Values of typed contents in one request. Each becomes a Python object on the way: 2^18 of them take about 20 ms (BYTES
# 60), in which the gateway does nothing else; as raw contents they are only copied. A picture of 3 x 224 x 224 fits.
TYPED_VALUES_MAX: Final = 1 << 18

ModelInferRequest: Final[Any] = INFERENCE.messages["ModelInferRequest"]
ModelInferResponse: Final[Any] = INFERENCE.messages["ModelInferResponse"]

# Which field of InferTensorContents holds a datatype, and the array type of its raw form ("?": a byte each, 0 or 1).
_TYPED: Final[dict[str, tuple[str, str]]] = {
    "BOOL": ("bool_contents", "?"),
    "UINT8": ("uint_contents", "B"),
    "UINT16": ("uint_contents", "H"),
    "UINT32": ("uint_contents", "I"),
    "UINT64": ("uint64_contents", "Q"),
    "INT8": ("int_contents", "b"),
    "INT16": ("int_contents", "h"),
    "INT32": ("int_contents", "i"),
    "INT64": ("int64_contents", "q"),
    "FP32": ("fp32_contents", "f"),
    "FP64": ("fp64_contents", "d"),
    "BYTES": ("bytes_contents", ""),
}
_LENGTH: Final = struct.Struct("<I")
_LENGTH_MAX: Final = 0xFFFFFFFF


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}
    data: Raw | UnsetType = UNSET


class _Answer(msgspec.Struct):
    outputs: list[_Output]
    model_name: str = ""
    model_version: str = ""
    id: str = ""


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Answer).decode


def is_raw(request: Any) -> bool:
    """Return whether `request` brings its tensors as raw contents; its answer then has them so too."""
    return not any(tensor.HasField("contents") for tensor in request.inputs)


def request_body(request: Any) -> tuple[bytes, int]:
    """Return the REST body of a ModelInferRequest, and how many bytes its JSON part has.

    Raises InvalidInput (TooLarge, Unsupported) naming the field for what no model could take.
    """
    raws: list[bytes] = list(request.raw_input_contents)
    inputs: list[dict[str, Any]] = []
    is_typed = not raws
    left = TYPED_VALUES_MAX
    if raws and len(raws) != len(request.inputs):
        raise InvalidInput(
            f"{len(raws)} raw contents for {len(request.inputs)} inputs; send one for each, in their order",
            field="raw_input_contents",
        )
    for at, tensor in enumerate(request.inputs):
        if tensor.parameters and "shared_memory_region" in tensor.parameters:
            raise Unsupported("shared memory regions; send the data", field=f"inputs[{at}].parameters")
        if is_typed:
            raw, count = _packed(tensor, f"inputs[{at}].contents", left)
            raws.append(raw)
            left -= count
        elif tensor.HasField("contents"):
            raise InvalidInput(f"{tensor.name!r} has both raw and typed contents", field=f"inputs[{at}].contents")
        inputs.append(
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.shape),
                "parameters": {"binary_data_size": len(raws[at])},
            }
        )
    head: dict[str, Any] = {"inputs": inputs}
    if request.id:
        head["id"] = request.id
    head["parameters"] = {**_values(request.parameters), "binary_data_output": True}
    if request.outputs:
        head["outputs"] = [
            {"name": each.name, "parameters": {**_values(each.parameters), "binary_data": True}}
            for each in request.outputs
        ]
    text = _encode(head)
    return b"".join((text, *raws)), len(text)


def response(body: bytes, header_bytes: int, *, raw: bool) -> Any:
    """Return the ModelInferResponse of a replica's answer; its tensors are in typed contents unless `raw`.

    Typed contents cannot hold every datatype; an answer with one of those, or with over TYPED_VALUES_MAX values in a
    tensor, is raw all the same, as the protocol allows. Raises EngineFailed for an answer that was not asked for so.
    """
    size = len(body) if header_bytes < 0 else header_bytes
    try:
        answer = _decode(memoryview(body)[:size])
    except msgspec.DecodeError as broken:
        raise EngineFailed(f"the replica's answer is not one of this protocol: {broken}") from broken
    made = ModelInferResponse(model_name=answer.model_name, model_version=answer.model_version, id=answer.id)
    pieces: list[bytes] = []
    at = size
    for output in answer.outputs:
        length = output.parameters.get("binary_data_size")
        if type(length) is not int or output.data is not UNSET or not 0 <= length <= len(body) - at:
            raise EngineFailed(f"the replica's answer has no binary data for {output.name!r}")
        pieces.append(body[at : at + length])
        at += length
        made.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
    if at != len(body):
        raise EngineFailed(f"{len(body) - at} bytes of the replica's answer belong to no output")
    if raw or not all(_fits(output.datatype, piece) for output, piece in zip(answer.outputs, pieces, strict=True)):
        made.raw_output_contents.extend(pieces)
    else:
        for tensor, piece in zip(made.outputs, pieces, strict=True):
            _unpack(tensor, piece)
    return made


def _values(parameters: Any) -> dict[str, Any]:
    """Return a map of InferParameter as JSON has it."""
    found: dict[str, Any] = {}
    for name, parameter in parameters.items():
        chosen = parameter.WhichOneof("parameter_choice")
        found[name] = None if chosen is None else getattr(parameter, chosen)
    return found


def _packed(tensor: Any, field: str, values_max: int) -> tuple[bytes, int]:
    """Return the typed contents of an input as raw bytes, and how many values that are."""
    contents = tensor.contents
    place, code = _TYPED.get(tensor.datatype, ("", ""))
    for other, _ in contents.ListFields():
        if other.name != place:
            wanted = f"goes into {place}" if place else "has no typed contents; send raw_input_contents"
            raise InvalidInput(f"{tensor.datatype[:32]} {wanted}", field=f"{field}.{other.name}")
    if not place:
        return b"", 0
    values = getattr(contents, place)
    if len(values) > values_max:
        raise TooLarge(
            f"over {TYPED_VALUES_MAX} values in a request; send raw_input_contents", field=f"{field}.{place}"
        )
    if code == "":
        elements: list[bytes] = list(values)
        return b"".join(chain.from_iterable(zip(map(_LENGTH.pack, map(len, elements)), elements, strict=True))), len(
            values
        )
    if code == "?":
        return bytes(values), len(values)
    try:
        return _little(array(code, values)).tobytes(), len(values)
    except OverflowError as wide:
        raise InvalidInput(f"a value is out of range for {tensor.datatype}", field=f"{field}.{place}") from wide


def _fits(datatype: str, raw: bytes) -> bool:
    """Return whether typed contents can hold `raw`."""
    _, code = _TYPED.get(datatype, ("", None))
    if code is None:
        return False
    return len(raw) // (4 if code == "" else 1 if code == "?" else array(code).itemsize) <= TYPED_VALUES_MAX


def _unpack(tensor: Any, raw: bytes) -> None:
    """Fill the typed contents of an output."""
    place, code = _TYPED[tensor.datatype]
    values: Iterable[Any]
    if code == "":
        values = _elements(raw, tensor.name)
    elif code == "?":
        values = map(bool, raw)
    else:
        filled = array(code)
        try:
            filled.frombytes(raw)
        except ValueError as cut:
            raise EngineFailed(f"the replica's answer has {len(raw)} bytes for {tensor.name!r}") from cut
        values = _little(filled)
    getattr(tensor.contents, place).extend(values)


def _elements(raw: bytes, name: str) -> list[bytes]:
    found: list[bytes] = []
    at = 0
    while at < len(raw):
        end = at + 4
        length = _LENGTH.unpack_from(raw, at)[0] if end <= len(raw) else _LENGTH_MAX
        if end + length > len(raw):
            raise EngineFailed(f"the replica's answer is cut off in {name!r}")
        found.append(raw[end : end + length])
        at = end + length
    return found


def _little(values: "array[Any]") -> "array[Any]":
    """Return `values` in the protocol's byte order; swaps in place on machines with the other one."""
    if sys.byteorder == "big":
        values.byteswap()
    return values
