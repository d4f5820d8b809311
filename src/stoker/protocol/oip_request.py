"""What an Open Inference Protocol infer request asks for: checked tensors out of JSON and raw bytes.

`InferReader` is made once for a model's signature; `read` either returns tensors that fit it exactly or raises
InvalidInput with the field (`inputs[0].shape`) and what was expected. Nothing is allocated from a shape before the
data was seen to have that size.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Raw, UnsetType

from stoker.protocol.oip_binary import DTYPES, Array, read_tensor
from stoker.types.errors import InvalidInput, TooLarge, Unsupported
from stoker.types.models import Signature, TensorSpec

JSON_VALUES_MAX: Final = 1 << 22  # numbers in one JSON tensor; a Python float takes ten times the bytes of its raw form
COUNT_FIRST_BYTES: Final = 64 << 10  # JSON data over this is counted before it is parsed


class _InputParameters(msgspec.Struct):
    binary_data_size: int | None = None
    shared_memory_region: str | None = None


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: _InputParameters | None = None
    data: Raw | UnsetType = UNSET


class _OutputParameters(msgspec.Struct):
    binary_data: bool | None = None
    classification: int = 0
    shared_memory_region: str | None = None


class _Output(msgspec.Struct):
    name: str
    parameters: _OutputParameters | None = None


class _Parameters(msgspec.Struct):
    binary_data_output: bool | None = None


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: _Parameters | None = None
    outputs: list[_Output] | None = None


class InferRequest(msgspec.Struct):
    """A checked request.

    inputs: one array for each input of the signature. rows: the common first dimension; 1 when the model has no batch
    dimension. key: the shape of one row of each input, () when the model fixes them all; requests with equal ones can
    be joined. outputs: the names asked for, all when empty. binary: which of them come as raw bytes, where `binary_all`
    does not say so for all.
    """

    id: str | None
    inputs: dict[str, Array]
    rows: int
    key: tuple[tuple[int, ...], ...]
    outputs: tuple[str, ...] = ()
    binary_all: bool = False
    binary: dict[str, bool] = {}


# JSON accepts any number; these hold each datatype to its range while the text is parsed. 64-bit bounds do not fit a
# constraint and are left to numpy, which raises OverflowError.
def _integers(bits: int, *, signed: bool) -> Any:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return Annotated[int, Meta(ge=low, le=high)]


def _floats(dtype: type[np.floating[Any]]) -> Any:
    high = float(np.finfo(dtype).max)
    return Annotated[float, Meta(ge=-high, le=high)]


_ELEMENT: Final[dict[str, Any]] = {
    "BOOL": bool,
    "UINT8": _integers(8, signed=False),
    "UINT16": _integers(16, signed=False),
    "UINT32": _integers(32, signed=False),
    "UINT64": Annotated[int, Meta(ge=0)],
    "INT8": _integers(8, signed=True),
    "INT16": _integers(16, signed=True),
    "INT32": _integers(32, signed=True),
    "INT64": int,
    "FP16": _floats(np.float16),
    "FP32": _floats(np.float32),
    "FP64": float,
    "BYTES": str,
}


def _lists_of(kind: Any, depth: int) -> Any:
    for _ in range(depth):
        kind = list[kind]
    return kind


_decode_request = msgspec.json.Decoder(_Request).decode


class _InputReader:
    """Reads one input of a signature."""

    __slots__ = ("_batched", "_flat", "_nested", "_tail", "datatype", "dtype", "is_dynamic", "name", "shape")

    def __init__(self, spec: TensorSpec, *, batches: bool) -> None:
        self.name = spec.name
        self.datatype = spec.datatype
        self.shape = list(spec.shape)
        self.dtype = DTYPES[spec.datatype]
        self.is_dynamic = -1 in (spec.shape[1:] if batches else spec.shape)
        self._batched = batches
        self._tail = None if self.is_dynamic else self.shape[1:]
        self._flat = msgspec.json.Decoder(_lists_of(_ELEMENT[spec.datatype], 1))
        self._nested = msgspec.json.Decoder(_lists_of(_ELEMENT[spec.datatype], len(spec.shape)))

    def check_shape(self, shape: list[int], at: int) -> int:
        """Return how many values `shape` has; raises InvalidInput when it does not fit the signature."""
        if self._batched and shape and shape[1:] == self._tail and shape[0] > 0:  # the common case, in one comparison
            count = 1
            for size in shape:
                count *= size
            return count
        field = f"inputs[{at}].shape"
        if len(shape) != len(self.shape):
            raise InvalidInput(
                f"{shape} has {len(shape)} dimensions; {self.name!r} takes {self.shape} (-1: any size)", field=field
            )
        count = 1
        for size, expected in zip(shape, self.shape, strict=True):
            if size < 1 or (expected != -1 and size != expected):
                raise InvalidInput(
                    f"{shape} does not fit; {self.name!r} takes {self.shape} (-1: 1 or more)", field=field
                )
            count *= size
        return count

    def from_json(self, raw: Raw, shape: list[int], count: int, at: int) -> Array:
        """Return the tensor in `raw`, flat or nested as `shape` says."""
        field = f"inputs[{at}].data"
        if count > JSON_VALUES_MAX:
            raise TooLarge(f"{count} values in JSON; over {JSON_VALUES_MAX} send them as binary data", field=field)
        if len(memoryview(raw)) > COUNT_FIRST_BYTES and self.datatype != "BYTES":
            commas = bytes(raw).count(b",")
            if commas + 1 != count:
                raise self._wrong_count(commas + 1, shape, count, field)
        try:
            values = self._flat.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            if not str(wrong).endswith("got `array` - at `$[0]`"):
                raise _as_invalid(wrong, field) from wrong
            return self._from_nested(raw, shape, count, field)
        if len(values) != count:
            raise self._wrong_count(len(values), shape, count, field)
        return self._as_array(values, field).reshape(shape)

    def _from_nested(self, raw: Raw, shape: list[int], count: int, field: str) -> Array:
        try:
            values: list[Any] = self._nested.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
            raise _as_invalid(wrong, field) from wrong
        for size in shape[1:]:
            if any(len(inner) != size for inner in values):
                raise InvalidInput(f"nested data does not have the shape {shape}", field=field)
            values = [element for inner in values for element in inner]
        if len(values) != count:
            raise self._wrong_count(len(values), shape, count, field)
        return self._as_array(values, field).reshape(shape)

    def _as_array(self, values: list[Any], field: str) -> Array:
        if self.datatype == "BYTES":
            found = np.empty(len(values), object)
            found[:] = [text.encode() for text in values]
            return found
        try:
            return np.array(values, self.dtype)
        except OverflowError as wide:
            raise InvalidInput(f"a value is out of range for {self.datatype}", field=field) from wide

    def _wrong_count(self, found: int, shape: list[int], count: int, field: str) -> InvalidInput:
        return InvalidInput(f"{found} values; shape {shape} needs {count}", field=field)


class InferReader:
    """Reads requests for one signature. `batches`: the first dimension is the batch and may have any size."""

    def __init__(self, signature: Signature, *, batches: bool) -> None:
        self._batches = batches
        self._inputs = {spec.name: _InputReader(spec, batches=batches) for spec in signature.inputs}
        self._outputs = {spec.name for spec in signature.outputs}
        self._is_dynamic = any(reader.is_dynamic for reader in self._inputs.values())

    def read(self, body: bytes, header_bytes: int = -1) -> InferRequest:
        """Return what `body` asks for. `header_bytes` is the length of its JSON part, -1 when all of it is JSON.

        Raises InvalidInput with the field.
        """
        head: bytes | memoryview = body
        raw = None
        if header_bytes >= 0:
            if header_bytes > len(body):
                raise InvalidInput(
                    f"the JSON part is said to have {header_bytes} bytes in a body of {len(body)}",
                    field="Inference-Header-Content-Length",
                )
            view = memoryview(body)
            head, raw = view[:header_bytes], view[header_bytes:]
        try:
            request = _decode_request(head)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
            raise _as_invalid(wrong, "") from wrong
        inputs = self._read_inputs(request.inputs, raw)
        rows = self._rows(request.inputs) if self._batches else 1
        key: tuple[tuple[int, ...], ...] = ()
        if self._is_dynamic:
            first = 1 if self._batches else 0
            key = tuple([inputs[name].shape[first:] for name in self._inputs])
        if request.outputs is None and request.parameters is None:
            return InferRequest(request.id, inputs, rows, key)
        binary_all = request.parameters is not None and request.parameters.binary_data_output is True
        names, binary = self._read_outputs(request.outputs or ())
        return InferRequest(request.id, inputs, rows, key, names, binary_all, binary)

    def _read_inputs(self, given: Sequence[_Input], raw: memoryview | None) -> dict[str, Array]:
        found: dict[str, Array] = {}
        used = 0
        for at, item in enumerate(given):
            reader = self._inputs.get(item.name)
            if reader is None:
                raise InvalidInput(
                    f"no input is called {item.name!r}; this model takes {sorted(self._inputs)}",
                    field=f"inputs[{at}].name",
                )
            if item.name in found:
                raise InvalidInput(f"{item.name!r} is given twice", field=f"inputs[{at}].name")
            if item.datatype != reader.datatype:
                raise InvalidInput(
                    f"{item.name!r} takes {reader.datatype}, not {item.datatype!r}", field=f"inputs[{at}].datatype"
                )
            count = reader.check_shape(item.shape, at)
            if item.parameters is None:
                if item.data is UNSET:
                    raise InvalidInput(f"{item.name!r} has no data", field=f"inputs[{at}].data")
                found[item.name] = reader.from_json(item.data, item.shape, count, at)
            else:
                used = _read_marked(reader, item, at, (raw, used, count), found)
        if len(found) < len(self._inputs):
            missing = sorted(self._inputs.keys() - found.keys())
            raise InvalidInput(f"{missing} missing; this model takes {sorted(self._inputs)}", field="inputs")
        if raw is not None and used != len(raw):
            raise InvalidInput(f"{len(raw) - used} bytes of binary data belong to no input", field="inputs")
        return found

    def _rows(self, given: Sequence[_Input]) -> int:
        rows = given[0].shape[0] if given else 1
        if len(given) <= 1:
            return rows
        for at, item in enumerate(given):
            if item.shape[0] != rows:
                raise InvalidInput(
                    f"{item.name!r} has {item.shape[0]} rows where {given[0].name!r} has {rows}",
                    field=f"inputs[{at}].shape",
                )
        return rows

    def _read_outputs(self, given: Sequence[_Output]) -> tuple[tuple[str, ...], dict[str, bool]]:
        binary: dict[str, bool] = {}
        names: list[str] = []
        for at, item in enumerate(given):
            if item.name not in self._outputs:
                raise InvalidInput(
                    f"no output is called {item.name!r}; this model gives {sorted(self._outputs)}",
                    field=f"outputs[{at}].name",
                )
            if item.name in names:
                raise InvalidInput(f"{item.name!r} is asked for twice", field=f"outputs[{at}].name")
            names.append(item.name)
            if item.parameters is None:
                continue
            if item.parameters.classification:
                raise Unsupported("the classification extension", field=f"outputs[{at}].parameters.classification")
            if item.parameters.shared_memory_region is not None:
                raise _no_shared_memory(f"outputs[{at}]")
            if item.parameters.binary_data is not None:
                binary[item.name] = item.parameters.binary_data
        return tuple(names), binary


def _read_marked(
    reader: _InputReader, item: _Input, at: int, place: tuple[memoryview | None, int, int], found: dict[str, Array]
) -> int:
    """Read an input that has parameters into `found`; return how many raw bytes are used up after it."""
    raw, used, count = place
    assert item.parameters is not None
    if item.parameters.shared_memory_region is not None:
        raise _no_shared_memory(f"inputs[{at}]")
    size = item.parameters.binary_data_size
    if size is None:
        if item.data is UNSET:
            raise InvalidInput(f"{item.name!r} has no data", field=f"inputs[{at}].data")
        found[item.name] = reader.from_json(item.data, item.shape, count, at)
        return used
    field = f"inputs[{at}].parameters.binary_data_size"
    if item.data is not UNSET:
        raise InvalidInput(f"{item.name!r} has both data and binary data", field=f"inputs[{at}].data")
    if raw is None:
        raise InvalidInput("binary data needs the header Inference-Header-Content-Length", field=field)
    if size < 0 or size > len(raw) - used:
        raise InvalidInput(f"{size} bytes are announced where {len(raw) - used} are left in the body", field=field)
    found[item.name] = read_tensor(reader.datatype, item.shape, raw[used : used + size], f"inputs[{at}]")
    return used + size


def _no_shared_memory(field: str) -> Unsupported:
    return Unsupported("shared memory regions; send the data", field=f"{field}.parameters.shared_memory_region")


def _as_invalid(wrong: Exception, field: str) -> InvalidInput:
    """Return what msgspec said as this project's error, with the path inside `field`."""
    if isinstance(wrong, RecursionError):
        return InvalidInput("nested too deeply", field=field or None)
    if not isinstance(wrong, msgspec.ValidationError):
        return InvalidInput(f"the body is not valid JSON: {wrong}", field=field or None)
    text, _, where = str(wrong).partition(" - at `$")
    return InvalidInput(text, field=(field + where.rstrip("`")).lstrip(".") or None)
