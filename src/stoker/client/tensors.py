"""Arrays to an Open Inference Protocol request and answers back to arrays; apart, because numpy is slow to import."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from stoker.client.connection import decode
from stoker.protocol.oip_binary import DTYPES, Array, datatype_of, write_tensor
from stoker.types.errors import InvalidInput
from stoker.types.models import TensorSpec

# Shorter tensors travel as JSON, which a person can read in a trace.
JSON_VALUES_MAX: Final = 256


class Output(msgspec.Struct, frozen=True):
    """One output of an answer in JSON; `data` is flat, in row-major order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any]

    def array(self) -> Array:
        """Return the values in their shape."""
        return np.array(self.data, dtype=DTYPES.get(self.datatype, np.dtype(object))).reshape(self.shape)


class InferAnswer(msgspec.Struct, frozen=True):
    """An answer whose outputs came as JSON."""

    model_name: str
    outputs: tuple[Output, ...]
    model_version: str = ""
    id: str | None = None


def read_answer(body: bytes) -> InferAnswer:
    """Return an answer's outputs."""
    return decode(body, InferAnswer)


def as_array(value: object, spec: TensorSpec) -> Array:
    """Return a JSON value or an array as the tensor that `spec` wants; a single row gets its batch dimension.

    Raises InvalidInput when it cannot be one; whether sizes fit is the server's to say.
    """
    try:
        if isinstance(value, np.ndarray):
            array: Array = value.astype(DTYPES[spec.datatype], casting="same_kind", copy=False)
        else:
            array = np.array(value, dtype=DTYPES[spec.datatype])
    except (ValueError, TypeError, OverflowError) as wrong:
        raise InvalidInput(f"{spec.name} takes {spec.datatype}{list(spec.shape)}: {wrong}", field=spec.name) from wrong
    is_row = array.ndim == len(spec.shape) - 1 and spec.shape[:1] == (-1,)
    return array[None] if is_row else array


def load_npy(path: str) -> Array:
    """Return the array of a .npy file; one that holds Python objects is refused, because reading it runs code."""
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as wrong:
        raise InvalidInput(f"{path} is not a .npy file of numbers: {wrong}") from wrong
    return array


def infer_body(inputs: Sequence[tuple[str, Array]]) -> tuple[bytes, int | None]:
    """Return a request and the length of its JSON part (None when all of it is JSON); outputs are asked for as JSON."""
    described: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for name, array in inputs:
        one: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype_of(array)}
        is_finite = array.dtype.kind != "f" or bool(np.isfinite(array).all())  # JSON has no NaN
        if array.size <= JSON_VALUES_MAX and is_finite:
            one["data"] = array.ravel().tolist()
        else:
            raw.append(write_tensor(array))
            one["parameters"] = {"binary_data_size": len(raw[-1])}
        described.append(one)
    head = msgspec.json.encode({"inputs": described, "parameters": {"binary_data_output": False}})
    return b"".join([head, *raw]), len(head) if raw else None
