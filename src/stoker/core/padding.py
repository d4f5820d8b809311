"""Which axes of a model are padded, to what sizes, and where its outputs are cut back: a manifest's `pad`, resolved."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from stoker.types.models import Signature, TensorSpec
from stoker.types.resources import Pad

SIZES_MAX: Final = 64  # of one list: each is a bucket with its own batches
Value = bool | int | float | str
# For each input and output the name of every axis, "" for one without. None: the model was not asked yet.
AxisNames = Mapping[str, tuple[str, ...]] | None


class Dimension(msgspec.Struct, frozen=True):
    """One padded dimension. `inputs`, `outputs`: on which axis each tensor has it. `sizes`: none for powers of two."""

    name: str
    sizes: tuple[int, ...]
    inputs: dict[str, int]
    outputs: dict[str, int]
    values: dict[str, Value]


class Fault(msgspec.Struct, frozen=True):
    """Why a `pad` does not fit a model; `field` is the manifest's."""

    message: str
    field: str


def padded_size(size: int, sizes: Sequence[int]) -> int:
    """Return what `size` is padded to: the next of `sizes` (ascending), or power of two; itself beyond the last."""
    if not sizes:
        return 1 << (size - 1).bit_length()
    for wanted in sizes:
        if wanted >= size:
            return wanted
    return size


def resolve(pads: Mapping[str, Pad], signature: Signature, names: AxisNames) -> tuple[Dimension, ...] | Fault:
    """Return the dimensions that `pads` describes, or the first reason why they do not fit `signature`.

    With `names` None, what only the model itself can tell is left to the replica that loads it.
    """
    tensors = {spec.name: spec for spec in (*signature.inputs, *signature.outputs)}
    if not tensors:
        return ()  # nobody knows yet
    found: list[Dimension] = []
    owners: dict[tuple[str, int], str] = {}
    for name, pad in pads.items():
        field = f"spec.batching.pad.{name}"
        axes = dict(_named(name, names or {}))
        for tensor, axis in pad.axes.items():
            axes.pop(tensor, None)
            if message := _wrong_axis(tensor, axis, tensors):
                return Fault(message, f"{field}.axes.{tensor}")
            if axis is not None:
                axes[tensor] = axis
        for place in axes.items():
            if owners.setdefault(place, name) != name:
                return Fault(f"axis {place[1]} of {place[0]!r} is {owners[place]!r} already", f"{field}.axes")
        dimension = Dimension(
            name,
            () if isinstance(pad.to, str) else tuple(sorted(pad.to)),
            {spec.name: axes[spec.name] for spec in signature.inputs if spec.name in axes},
            {spec.name: axes[spec.name] for spec in signature.outputs if spec.name in axes},
            pad.values,
        )
        if fault := _wrong_sizes(pad, field) or _wrong_values(dimension, tensors, field, names):
            return fault
        if names is not None and not dimension.inputs:
            return Fault(f"no axis of an input is called {name!r}{_known(names)}; say in axes where it is", field)
        found.append(dimension)
    if names is not None and found and (fault := _unsaid(pads, found, signature, names)):
        return fault
    return tuple(found)


def _named(name: str, names: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """Return the axis called `name` of each tensor that has one behind its rows."""
    return {tensor: axes.index(name, 1) for tensor, axes in names.items() if name in axes[1:]}


def _wrong_axis(tensor: str, axis: int | None, tensors: Mapping[str, TensorSpec]) -> str:
    spec = tensors.get(tensor)
    if spec is None:
        return f"the model has no input or output {tensor!r}; it has {', '.join(sorted(tensors))}"
    if axis is None:
        return ""
    if not 1 <= axis < len(spec.shape):
        return f"{tensor!r} has the shape {list(spec.shape)}; an axis behind the rows is 1 to {len(spec.shape) - 1}"
    if spec.shape[axis] != -1:
        return f"axis {axis} of {tensor!r} has the fixed size {spec.shape[axis]}; only a free one can be padded"
    return ""


def _wrong_sizes(pad: Pad, field: str) -> Fault | None:
    if isinstance(pad.to, str):
        return None
    if not 1 <= len(pad.to) <= SIZES_MAX or min(pad.to) < 1:
        return Fault(f"1 to {SIZES_MAX} sizes of 1 or more are needed", f"{field}.to")
    return None


def _wrong_values(
    dimension: Dimension, tensors: Mapping[str, TensorSpec], field: str, names: AxisNames
) -> Fault | None:
    for tensor, value in dimension.values.items():
        where = f"{field}.values.{tensor}"
        spec = tensors.get(tensor)
        if spec is None or (names is not None and tensor not in dimension.inputs):
            known = ", ".join(dimension.inputs) or "none"
            return Fault(f"{tensor!r} is no input with this dimension; those are: {known}", where)
        if not holds(value, spec.datatype):
            return Fault(f"{value!r} is no {spec.datatype}", where)
    return None


def holds(value: Value, datatype: str) -> bool:
    """Return whether a tensor of `datatype` can hold a value that a manifest says."""
    if datatype == "BYTES":
        return isinstance(value, str)
    if datatype == "BOOL":
        return isinstance(value, bool)
    if isinstance(value, bool | str):
        return False
    if datatype.startswith("FP"):
        return True
    low, bits = (0, int(datatype[4:])) if datatype.startswith("UINT") else (None, int(datatype[3:]) - 1)
    return isinstance(value, int) and (-(1 << bits) if low is None else 0) <= value < 1 << bits


def _unsaid(
    pads: Mapping[str, Pad], found: Sequence[Dimension], signature: Signature, names: Mapping[str, tuple[str, ...]]
) -> Fault | None:
    """Return a Fault for an output whose free axis may or may not be a padded one: guessing would corrupt answers.

    A name that no input has says nothing: exporters make one up for a size they did not follow through the graph.
    """
    of_inputs = {name for spec in signature.inputs for name in names.get(spec.name, ()) if name}
    for spec in signature.outputs:
        if any(spec.name in pad.axes for pad in pads.values()):
            continue
        cut = {dimension.outputs[spec.name] for dimension in found if spec.name in dimension.outputs}
        called = names.get(spec.name, ())
        for axis, size in enumerate(spec.shape):
            if axis and size == -1 and axis not in cut and not of_inputs.intersection(called[axis : axis + 1]):
                name = found[0].name
                return Fault(
                    f"the model does not say whether axis {axis} of the output {spec.name!r} is {name!r}; "
                    f"write {spec.name}: {axis} when it is, {spec.name}: null when it is not",
                    f"spec.batching.pad.{name}.axes",
                )
    return None


def _known(names: Mapping[str, tuple[str, ...]]) -> str:
    known = sorted({name for axes in names.values() for name in axes[1:] if name})
    return f"; the model's names are: {', '.join(known)}" if known else "; the model names none"
