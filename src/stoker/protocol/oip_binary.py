"""How tensors look as raw bytes in the Open Inference Protocol, and which numpy type each datatype is.

Little endian, row major. BYTES: for each element four bytes of length, then the element.
"""

import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stoker.types.errors import InvalidInput
from stoker.types.models import Datatype

Array = npt.NDArray[Any]

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
_NAMES: Final[dict[str, Datatype]] = {
    "b": "BOOL",
    "u1": "UINT8",
    "u2": "UINT16",
    "u4": "UINT32",
    "u8": "UINT64",
    "i1": "INT8",
    "i2": "INT16",
    "i4": "INT32",
    "i8": "INT64",
    "f2": "FP16",
    "f4": "FP32",
    "f8": "FP64",
}
_LENGTH: Final = struct.Struct("<I")


def datatype_of(array: Array) -> Datatype:
    """Return the protocol's name for the type of `array`. Raises ValueError for one it has no name for."""
    kind = array.dtype.kind
    if kind in "OSU":
        return "BYTES"
    name = _NAMES.get("b" if kind == "b" else f"{kind}{array.dtype.itemsize}")
    if name is None:
        raise ValueError(f"{array.dtype} has no datatype in the Open Inference Protocol")
    return name


def read_tensor(datatype: str, shape: Sequence[int], raw: memoryview, field: str) -> Array:
    """Return the tensor that `raw` holds, read-only and without a copy where memory allows.

    Raises InvalidInput naming `field` when `raw` is not exactly as long as datatype and shape say.
    """
    count = 1
    for size in shape:
        count *= size
    if datatype == "BYTES":
        return _read_bytes(count, raw, field).reshape(shape)
    dtype = DTYPES[datatype]
    if len(raw) != count * dtype.itemsize:
        raise InvalidInput(
            f"{len(raw)} bytes of binary data; {datatype} of shape {list(shape)} needs {count * dtype.itemsize}",
            field=field,
        )
    if datatype == "BOOL":
        octets = np.frombuffer(raw, np.uint8)
        if octets.size and octets.max() > 1:
            raise InvalidInput("BOOL data holds a byte that is neither 0 nor 1", field=field)
        return octets.astype(np.bool_).reshape(shape)
    array = np.frombuffer(raw, dtype)
    if not array.flags.aligned:  # some kernels read whole words
        array = array.copy()
    return array.reshape(shape)


def _read_bytes(count: int, raw: memoryview, field: str) -> Array:
    if count * 4 > len(raw):
        raise InvalidInput(f"{len(raw)} bytes cannot hold {count} BYTES elements of four bytes or more", field=field)
    found = np.empty(count, object)
    at, size = 0, len(raw)
    for number in range(count):
        if at + 4 > size:
            raise InvalidInput(f"BYTES element {number} of {count} has no length before the data ends", field=field)
        (length,) = _LENGTH.unpack_from(raw, at)
        at += 4
        if length > size - at:
            raise InvalidInput(
                f"BYTES element {number} says {length} bytes where {size - at} are left (truncated?)", field=field
            )
        found[number] = bytes(raw[at : at + length])
        at += length
    if at != size:
        raise InvalidInput(f"{size - at} bytes are left over after {count} BYTES elements", field=field)
    return found


def write_tensor(array: Array) -> bytes:
    """Return `array` as the protocol's raw bytes."""
    if array.dtype.kind in "OSU":
        pieces: list[bytes] = []
        for element in array.reshape(-1):
            data = element if isinstance(element, bytes) else str(element).encode()
            pieces.append(_LENGTH.pack(len(data)))
            pieces.append(data)
        return b"".join(pieces)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
