"""An engine as clients know it: a mapping (types/mapping.py) around a model whose tensors are others.

It stands between what is checked and batched and the engine, so that everything outside it sees the mapped signature:
requests in every protocol, batches, padding, samples, drift, predictions. An engine without a mapping is not wrapped.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from stoker.core import mapping as core
from stoker.core.mapping import Constant, Move, Plan
from stoker.protocol.oip_binary import DTYPES
from stoker.runtime.engines.port import Array, NamesAxes, PredictEngine
from stoker.types.errors import EngineFailed, InvalidInput
from stoker.types.mapping import SchemaMapping
from stoker.types.models import Signature

_Refuse = Callable[[str], Exception]


def mapped(engine: PredictEngine, mapping: SchemaMapping | None) -> PredictEngine:
    """Return `engine` as clients know it; itself without a mapping. Raises InvalidInput when that does not fit it."""
    if mapping is None:
        return engine
    found = core.plan(engine.signature, mapping)
    if isinstance(found, core.Fault):
        raise InvalidInput(f"it does not fit the model: {found.message}", field=found.field)
    return MappedEngine(engine, found)


class MappedEngine:
    """A PredictEngine around another one."""

    def __init__(self, engine: PredictEngine, plan: Plan) -> None:
        self.signature: Signature = plan.signature
        self.may_inline = engine.may_inline
        self.batches = _batches(engine, plan)
        self.axis_names = _axis_names(engine, plan)
        self._engine = engine
        self._is_by_row = plan.rows == "one-by-one"
        self._adds_row = plan.rows == "added"
        self._first = plan.signature.inputs[0].name
        self._moves = [_Mover(each, _bad_input(each)) for each in plan.inputs if isinstance(each, Move)]
        self._constants = [_Filled(each, plan) for each in plan.inputs if isinstance(each, Constant)]
        self._outputs = {each.target.name: _Mover(each, _bad_output(each)) for each in plan.outputs}
        self._sources = tuple(dict.fromkeys(each.source.name for each in plan.outputs))
        # The model's names of inputs, as its own words have them, and those that clients know.
        self._known = {
            each.target.name: each.source.name
            for each in plan.inputs
            if isinstance(each, Move) and each.target.name != each.source.name
        }

    def predict(self, inputs: Mapping[str, Array], outputs: tuple[str, ...]) -> dict[str, Array]:
        """See PredictEngine."""
        movers = {name: self._outputs[name] for name in outputs} if outputs else self._outputs
        sources = tuple(dict.fromkeys(each.source for each in movers.values())) if outputs else self._sources
        if not self._is_by_row:
            return self._call(inputs, movers, sources)
        rows = inputs[self._first].shape[0]
        found = [
            self._call({name: array[row, ...] for name, array in inputs.items()}, movers, sources)
            for row in range(rows)
        ]
        return {name: _stacked(name, [each[name] for each in found]) for name in movers}

    def close(self) -> None:
        """See PredictEngine."""
        self._engine.close()

    def _call(
        self, inputs: Mapping[str, Array], movers: Mapping[str, "_Mover"], sources: tuple[str, ...]
    ) -> dict[str, Array]:
        given = {each.target: each.move(inputs[each.source]) for each in self._moves}
        if self._adds_row:
            given = {name: array[None] for name, array in given.items()}
        for each in self._constants:
            given[each.target] = each.fill(inputs)
        try:
            found = self._engine.predict(given, sources)
        except InvalidInput as refused:
            raise self._renamed(refused) from refused
        if self._adds_row:
            found = {name: _only_row(name, array) for name, array in found.items()}
        return {name: each.move(found[each.source]) for name, each in movers.items()}

    def _renamed(self, refused: InvalidInput) -> InvalidInput:
        """Return what the engine refuses in the names that clients know."""
        message = refused.message
        for own, known in self._known.items():
            message = message.replace(repr(own), repr(known))
        return InvalidInput(message, field=self._known.get(refused.field or "", refused.field))


class _Mover:
    """Makes one tensor of another. refuse: makes the error for values that cannot become the other's."""

    __slots__ = ("_cast", "_free", "_move", "_refuse", "_take", "source", "target")

    def __init__(self, move: Move, refuse: _Refuse) -> None:
        self.source = move.source.name
        self.target = move.target.name
        self._move = move
        self._refuse = refuse
        self._take = None if move.take is None else (np.array(move.take.indices), move.take.axis)
        self._free = [at for at, size in enumerate(move.taken) if size == -1] if move.is_reshaped else None
        self._cast = DTYPES[move.target.datatype] if move.target.datatype != move.source.datatype else None

    def move(self, array: Array) -> Array:
        """Return the other tensor; a view where nothing has to be copied."""
        if self._take is None and self._free is None and self._cast is None:
            return array
        if not _has(array, self._move.source.shape):
            raise self._refuse(f"came with the shape {list(array.shape)}, which is not {list(self._move.source.shape)}")
        if self._take is not None:
            array = array.take(*self._take)
        if self._free is not None:
            free = iter([array.shape[at] for at in self._free])
            array = array.reshape([next(free) if size == -1 else size for size in self._move.target.shape])
        return array if self._cast is None else self._as_other(array, self._cast)

    def _as_other(self, array: Array, dtype: np.dtype[Any]) -> Array:
        """Return the same numbers in another type. Raises where one of them is none there."""
        if array.dtype == dtype:  # an engine may give more than its signature says
            return array
        if dtype.kind == "f":
            try:
                with np.errstate(over="raise"):
                    return array.astype(dtype)
            except FloatingPointError:
                raise self._refuse(f"has a value out of the range of {self._move.target.datatype}") from None
        if array.dtype.kind != "b" and array.size:
            bounds = np.iinfo(dtype)
            # As Python numbers: numpy compares UINT64 with INT64 as floats.
            low, high = array.min().item(), array.max().item()
            if not (bounds.min <= low and high <= bounds.max):
                raise self._refuse(f"has a value out of the range of {self._move.target.datatype}")
            if array.dtype.kind == "f" and (np.trunc(array) != array).any():
                raise self._refuse(f"has a value that is no whole number, as {self._move.target.datatype} needs")
        return array.astype(dtype)


class _Filled:
    """Makes an input of a constant."""

    __slots__ = ("_has_rows", "_rows_of", "_value", "target")

    def __init__(self, constant: Constant, plan: Plan) -> None:
        self.target = constant.target.name
        self._has_rows = constant.has_rows
        self._value = _values(constant)
        # Where clients' rows are the version's, each input with rows in front has as many of them.
        sent = (each.name for each in plan.signature.inputs if each.shape[:1] == (-1,))
        self._rows_of = next(sent, "") if plan.rows == "same" else ""

    def fill(self, inputs: Mapping[str, Array]) -> Array:
        """Return the constant, for as many rows as `inputs` have."""
        if not self._has_rows:
            return self._value
        rows = inputs[self._rows_of].shape[0] if self._rows_of else 1
        return np.repeat(self._value[None], rows, axis=0)


def _values(constant: Constant) -> Array:
    dtype = DTYPES[constant.target.datatype]
    if dtype.kind != "O":
        return np.array(np.broadcast_to(np.array(constant.value, dtype), constant.row))
    found = np.empty(constant.row, object)
    texts = np.array(constant.value, object)
    found[...] = np.vectorize(str.encode, otypes=[object])(texts)
    return found


def _bad_input(move: Move) -> _Refuse:
    name = move.source.name
    return lambda what: InvalidInput(f"{name!r} {what}", field=name)


def _bad_output(move: Move) -> _Refuse:
    name, source = move.target.name, move.source.name
    return lambda what: EngineFailed(f"output {name!r} cannot be made: the version's {source!r} {what}")


def _has(array: Array, shape: tuple[int, ...]) -> bool:
    return len(array.shape) == len(shape) and all(
        wanted in (-1, size) for size, wanted in zip(array.shape, shape, strict=True)
    )


def _only_row(name: str, array: Array) -> Array:
    if array.shape[:1] != (1,):
        raise EngineFailed(f"the version's output {name!r} has the shape {list(array.shape)} for one row")
    only: Array = array[0, ...]  # an array also where nothing is left of its shape
    return only


def _stacked(name: str, rows: Sequence[Array]) -> Array:
    try:
        return np.stack(rows)
    except ValueError as uneven:
        raise EngineFailed(f"output {name!r} has another shape for each row, so rows cannot be joined") from uneven


def _batches(engine: PredictEngine, plan: Plan) -> bool:
    """Return whether requests may be joined along what clients know as rows."""
    if plan.rows != "same":
        return plan.rows == "one-by-one"
    moves = [*(each for each in plan.inputs if isinstance(each, Move)), *plan.outputs]
    every = (*plan.signature.inputs, *plan.signature.outputs)
    is_kept = all(each.source.shape[:1] == each.target.shape[:1] == (-1,) for each in moves)
    return engine.batches and is_kept and all(each.shape[:1] == (-1,) for each in every)


def _axis_names(engine: PredictEngine, plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return the model's names of axes for the tensors that clients know, where those are the same axes."""
    names: Final = engine.axis_names if isinstance(engine, NamesAxes) else {}
    if plan.rows != "same":
        return {}
    sides = [(each, each.target.name, each.source.name) for each in plan.inputs if isinstance(each, Move)]
    sides += [(each, each.source.name, each.target.name) for each in plan.outputs]
    return {known: names[own] for move, own, known in sides if own in names and not move.is_reshaped}
