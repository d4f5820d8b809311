"""Requests of different sizes made equal: padded when they are joined, their outputs cut back to what each one sent.

Nothing is copied before the engine call: `measure` says how large a request will be, `join` writes all of them into
one array that was filled with the padding value.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from stoker.core.latency import Shapes, values_of
from stoker.core.padding import Dimension, padded_size
from stoker.protocol.oip_binary import DTYPES
from stoker.protocol.oip_request import InferRequest
from stoker.runtime.engines.port import Array
from stoker.types.errors import EngineFailed, InvalidInput
from stoker.types.models import Signature

Sizes = tuple[int, ...]  # of one request: its own size in each dimension
_ZEROS: Final[dict[str, Any]] = {"BYTES": b""}


class Padder:
    """Pads and cuts along the `dimensions` of a model."""

    def __init__(self, dimensions: Sequence[Dimension], signature: Signature) -> None:
        self._dimensions = dimensions
        self._names = [spec.name for spec in signature.inputs]
        self._dtypes = {spec.name: DTYPES[spec.datatype] for spec in signature.inputs}
        self._values = {spec.name: _value(spec.name, spec.datatype, dimensions) for spec in signature.inputs}
        self._cuts = [
            (name, axis, at) for at, dimension in enumerate(dimensions) for name, axis in dimension.outputs.items()
        ]
        self.cuts = bool(self._cuts)

    def measure(self, request: InferRequest) -> tuple[Sizes, Shapes]:
        """Return the request's own size in each dimension, and its shapes once padded.

        Raises InvalidInput when its inputs disagree about a size.
        """
        shapes = [list(shape) for shape in request.key]
        sizes = []
        for dimension in self._dimensions:
            size = 0
            for name, axis in dimension.inputs.items():
                found = request.inputs[name].shape[axis]
                if size and found != size:
                    first = next(iter(dimension.inputs))
                    raise InvalidInput(
                        f"{name!r} has {found} along {dimension.name!r} where {first!r} has {size}", field="inputs"
                    )
                size = found
            sizes.append(size)
            padded = padded_size(size, dimension.sizes)
            for name, axis in dimension.inputs.items():
                shapes[self._names.index(name)][axis - 1] = padded
        return tuple(sizes), tuple(map(tuple, shapes))

    def join(self, parts: Sequence[Mapping[str, Array]], shapes: Shapes) -> dict[str, Array]:
        """Return the inputs of all `parts` as one call's, with rows of the padded `shapes`."""
        joined: dict[str, Array] = {}
        for name, shape in zip(self._names, shapes, strict=True):
            arrays = [part[name] for part in parts]
            if all(array.shape[1:] == shape for array in arrays):
                joined[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
                continue
            rows = sum([array.shape[0] for array in arrays])
            whole = np.full((rows, *shape), self._values[name], self._dtypes[name])
            start = 0
            for array in arrays:
                end = start + array.shape[0]
                whole[(slice(start, end), *map(slice, array.shape[1:]))] = array
                start = end
            joined[name] = whole
        return joined

    def check(self, outputs: Mapping[str, Array], shapes: Shapes) -> None:
        """Raise EngineFailed when an output cannot be cut back, because it does not have its inputs' size there."""
        for name, axis, at in self._cuts:
            dimension = self._dimensions[at]
            first, first_axis = next(iter(dimension.inputs.items()))
            size = shapes[self._names.index(first)][first_axis - 1]
            if name in outputs and outputs[name].shape[axis : axis + 1] != (size,):
                raise EngineFailed(
                    f"output {name!r} has the shape {list(outputs[name].shape)} for inputs padded to {size} along "
                    f"{dimension.name!r}, so axis {axis} is not that; set spec.batching.pad.{dimension.name}.axes"
                )

    def cut(self, outputs: Mapping[str, Array], sizes: Sizes) -> dict[str, Array]:
        """Return outputs of one request cut to its own sizes (views)."""
        own = dict(outputs)
        for name, axis, at in self._cuts:
            if name in own:
                own[name] = own[name][(slice(None),) * axis + (slice(sizes[at]),)]
        return own

    def padding(self, rows: int, shapes: Shapes, own: Sequence[tuple[int, Shapes]]) -> tuple[int, int]:
        """Return how many values a call of `rows` rows has, and how many of them are not of `own` (rows, shapes)."""
        values = rows * values_of(shapes)
        return values, values - sum([count * values_of(shape) for count, shape in own])

    def largest(self, shapes: Shapes) -> Shapes:
        """Return `shapes` with the padded sizes as large as they are listed."""
        found = [list(shape) for shape in shapes]
        for dimension in self._dimensions:
            for name, axis in dimension.inputs.items():
                found[self._names.index(name)][axis - 1] = max(dimension.sizes, default=1)
        return tuple(map(tuple, found))


def bytes_of(shapes: Shapes, item_bytes: Sequence[int]) -> int:
    """Return the bytes of one row."""
    return sum([math.prod(shape) * item for shape, item in zip(shapes, item_bytes, strict=True)])


def _value(name: str, datatype: str, dimensions: Sequence[Dimension]) -> Any:
    for dimension in dimensions:
        if name in dimension.values:
            value = dimension.values[name]
            return value.encode() if isinstance(value, str) else value
    return _ZEROS.get(datatype, 0)
