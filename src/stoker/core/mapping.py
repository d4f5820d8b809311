"""What clients see of a version whose schema is mapped, and how each tensor is made; or why a mapping does not fit it.

A tensor is made of another in three steps, always in this order: entries are taken along an axis, they get another
shape, they get another datatype. A shape may change where no value gets another place in row-major order and no free
size (-1) has to be guessed: units come and go, fixed sizes between two free ones are multiplied or divided.
"""

import math
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple

import msgspec

from stoker.core.padding import holds
from stoker.types.mapping import DIMENSIONS_MAX, MappedInput, MappedOutput, Rows, SchemaMapping, Take, Value
from stoker.types.models import Signature, TensorSpec

VALUES_MAX: Final = 4_096  # of a constant
WORDS_MAX: Final = 600  # characters
_FLOAT_MAX: Final = {"FP16": 65_504.0, "FP32": 3.4028234663852886e38}
_FIXED: Final = "entries are taken of a fixed one"


class Fault(msgspec.Struct, frozen=True):
    """Why a mapping does not fit a version; `field` is the manifest's."""

    message: str
    field: str


class Move(msgspec.Struct, frozen=True):
    """One tensor made of another. Of shapes and `take.axis` the row is left out where `Plan.rows` is not `same`."""

    source: TensorSpec
    target: TensorSpec
    take: Take | None = None

    @property
    def taken(self) -> tuple[int, ...]:
        """The shape after `take`."""
        return _taken(self.source.shape, self.take)

    @property
    def is_reshaped(self) -> bool:
        """Whether the shape changes after `take`."""
        return not _is_same(self.taken, self.target.shape)


class Constant(msgspec.Struct, frozen=True):
    """An input that no client sends. has_rows: `row` is the shape of a row, and there are as many as clients send."""

    target: TensorSpec
    value: Value
    row: tuple[int, ...]
    has_rows: bool


class Plan(msgspec.Struct, frozen=True):
    """A mapping that fits a version. signature: what clients see. inputs: of the version. outputs: for clients."""

    signature: Signature
    inputs: tuple[Move | Constant, ...]
    outputs: tuple[Move, ...]
    rows: Rows


class _Misfit(ValueError):
    """Raised inside only. Arguments: what is wrong, and where below `spec.mapping`."""


class _Whole(NamedTuple):
    """A Move, and the tensor that clients know of it with its row."""

    move: Move
    known: TensorSpec


def plan(signature: Signature, mapping: SchemaMapping) -> Plan | Fault:
    """Return how `mapping` is carried out on a version with `signature`, or the first reason why it cannot be."""
    try:
        return _plan(signature, mapping)
    except _Misfit as wrong:
        message, where = wrong.args
        return Fault(message, f"spec.mapping{where}")


def why_not(mapping: SchemaMapping, signature: Signature) -> Fault | None:
    """Return why `mapping` does not fit; None where it does, or nobody knows the version's signature yet."""
    if not signature.inputs or not signature.outputs:
        return None
    found = plan(signature, mapping)
    return found if isinstance(found, Fault) else None


def mapped(signature: Signature, mapping: SchemaMapping | None) -> Signature:
    """Return what clients see: of a mapping that does not fit, or a signature that nobody knows, the version's own."""
    if mapping is None or not signature.inputs or not signature.outputs:
        return signature
    found = plan(signature, mapping)
    return signature if isinstance(found, Fault) else found.signature


def reshapes(source: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Return whether every tensor of the shape `source` is one of `target`, or becomes one by the same values."""
    return _is_same(source, target) or _segments(source) == _segments(target)


def casts(source: str, target: str) -> bool:
    """Return whether values of one datatype can become another's: numbers can, but for texts and for truth."""
    return source == target or ("BYTES" not in (source, target) and target != "BOOL")


def lines(mapping: SchemaMapping) -> list[tuple[str, str]]:
    """Return what a mapping does for people: a side, and a tensor with what it is made of."""
    found = [("input", _input_words(name, each)) for name, each in mapping.inputs.items()]
    found += [("input", f"{each.name} is ignored") for each in mapping.ignored]
    found += [
        ("output", f"{name} is dropped" if each is None else f"{name} = {_made_of(name, each)}")
        for name, each in mapping.outputs.items()
    ]
    return [*found, ("rows", mapping.rows)] if mapping.rows != "same" else found


def words(mapping: SchemaMapping) -> str:
    """Return `lines` in one line, not longer than WORDS_MAX."""
    text = "; ".join(f"{side} {what}" for side, what in lines(mapping))
    return text if len(text) <= WORDS_MAX else text[: WORDS_MAX - 1] + "…"


def _plan(signature: Signature, mapping: SchemaMapping) -> Plan:
    inputs: list[Move | Constant] = []
    sent: dict[str, TensorSpec] = {}
    _no_others(mapping.inputs, signature.inputs, "input", ".inputs")
    for spec in signature.inputs:
        where = f".inputs.{spec.name}"
        entry = mapping.inputs.get(spec.name, MappedInput())
        if entry.value is not None:
            inputs.append(_constant(spec, entry, mapping.rows, where))
            continue
        made = _input(spec, entry, mapping.rows, where)
        inputs.append(made.move)
        before = sent.setdefault(made.known.name, made.known)
        if before != made.known:
            one, other = _words(before), _words(made.known)
            raise _Misfit(f"clients would send {one} and {other}; a tensor has one datatype and shape", where)
    if not sent:
        raise _Misfit("every input is a constant; at least one must come from clients", ".inputs")
    for at, each in enumerate(mapping.ignored):
        where = f".ignored[{at}]"
        if each.name in sent:
            raise _Misfit(f"{each.name!r} is not ignored: an input of the version is made of it", where)
        _inner(each.shape, mapping.rows, where)
        sent[each.name] = each
    outputs = _outputs(signature, mapping)
    seen = Signature(tuple(sent.values()), tuple(each.known for each in outputs))
    return Plan(seen, tuple(inputs), tuple(each.move for each in outputs), mapping.rows)


def _outputs(signature: Signature, mapping: SchemaMapping) -> list[_Whole]:
    """Return what clients read, each at the place of what it is made of; the order of entries says nothing."""
    by_source: dict[str, dict[str, MappedOutput]] = {each.name: {} for each in signature.outputs}
    for name in sorted(mapping.outputs):
        entry = mapping.outputs[name]
        source = (entry.source if entry is not None else "") or name
        if source not in by_source:
            hint = "" if entry is None or entry.source else "; say with `from` which one it is made of"
            raise _Misfit(f"{_has_no('output', source, by_source)}{hint}", f".outputs.{name}")
        if entry is not None:
            by_source[source][name] = entry
    made_of = {each.source for each in mapping.outputs.values() if each is not None and each.source}
    found = []
    for spec in signature.outputs:
        entries = by_source[spec.name]
        if not entries and spec.name not in made_of and spec.name not in mapping.outputs:
            entries = {spec.name: MappedOutput()}
        found += [_output(spec, name, each, mapping.rows, f".outputs.{name}") for name, each in entries.items()]
    if not found:
        raise _Misfit("nothing is left of its outputs; clients read at least one", ".outputs")
    return found


def _input(spec: TensorSpec, entry: MappedInput, rows: Rows, where: str) -> _Whole:
    target = _version(spec, rows, where)
    shape = entry.shape
    if shape is None:
        shape = (-1, *_unit_off(target.shape)) if rows == "one-by-one" else target.shape
    known = TensorSpec(entry.source or spec.name, entry.datatype or spec.datatype, shape)
    source = TensorSpec(known.name, known.datatype, _inner(known.shape, rows, f"{where}.shape"))
    shift = 1 if rows == "one-by-one" else 0
    move = Move(source, target, _take(entry.take, shift, source, "clients send", f"{where}.take"))
    if not reshapes(move.taken, target.shape):
        raise _Misfit(
            f"{list(move.taken)} of {known.name!r} cannot become {list(target.shape)}, which the version takes; say "
            "in `shape` what clients send",
            f"{where}.shape",
        )
    if not casts(known.datatype, spec.datatype):
        raise _Misfit(f"no {spec.datatype} is made of {known.datatype}, which clients would send", f"{where}.datatype")
    return _Whole(move, known)


def _output(spec: TensorSpec, name: str, entry: MappedOutput, rows: Rows, where: str) -> _Whole:
    source = _version(spec, rows, where)
    shift = 1 if rows == "added" else 0
    take = _take(entry.take, shift, source, "the version gives", f"{where}.take")
    taken = _taken(source.shape, take)
    shape = entry.shape
    if shape is None:
        shape = (-1, *_unit_off(taken)) if rows == "one-by-one" else taken
    known = TensorSpec(name, entry.datatype or spec.datatype, shape)
    target = TensorSpec(name, known.datatype, _inner(shape, rows, f"{where}.shape"))
    if not reshapes(taken, target.shape):
        raise _Misfit(
            f"{list(taken)} of the version's {spec.name!r} cannot become {list(target.shape)}, as clients would read",
            f"{where}.shape",
        )
    if not casts(spec.datatype, known.datatype):
        raise _Misfit(f"no {known.datatype} is made of {spec.datatype}, which the version gives", f"{where}.datatype")
    return _Whole(Move(source, target, take), known)


def _constant(spec: TensorSpec, entry: MappedInput, rows: Rows, where: str) -> Constant:
    if entry.source or entry.datatype or entry.shape is not None or entry.take is not None:
        raise _Misfit("a constant comes from no client; leave out `from`, `datatype`, `shape` and `take`", where)
    assert entry.value is not None
    has_rows = rows == "added" or (rows == "same" and spec.shape[:1] == (-1,))
    row = _version(spec, rows, where).shape if rows == "added" else spec.shape[1:] if has_rows else spec.shape
    shape, leaves = _measured(entry.value)
    if shape is None:
        raise _Misfit("its lists are not of one length", f"{where}.value")
    if len(leaves) > VALUES_MAX:
        raise _Misfit(f"more than {VALUES_MAX} values; put them into the model", f"{where}.value")
    for each in leaves:
        if not _is_value(each, spec.datatype):
            raise _Misfit(f"{each!r} is no {spec.datatype}, which the version takes", f"{where}.value")
    if isinstance(entry.value, list):
        if len(shape) != len(row) or not _is_same(shape, row):
            raise _Misfit(f"it has the shape {list(shape)}; a row of the version's is {list(row)}", f"{where}.value")
        row = shape
    elif -1 in row:
        raise _Misfit(f"its shape {list(spec.shape)} has a free size; give all values as lists", f"{where}.value")
    return Constant(spec, entry.value, row, has_rows)


def _version(spec: TensorSpec, rows: Rows, where: str) -> TensorSpec:
    """Return a tensor of the version without its row, where one is added to what clients send."""
    if rows != "added":
        return spec
    if spec.shape[:1] not in ((-1,), (1,)):
        raise _Misfit(f"`rows: added` needs rows in the version, and {_words(spec)} has none in front", where)
    return TensorSpec(spec.name, spec.datatype, spec.shape[1:])


def _inner(shape: tuple[int, ...], rows: Rows, where: str) -> tuple[int, ...]:
    """Return the shape of what clients know without its row, where the version has none."""
    if 0 in shape or min(shape, default=1) < -1 or len(shape) > DIMENSIONS_MAX:
        raise _Misfit(f"{list(shape)} is no shape: up to {DIMENSIONS_MAX} sizes of 1 or more, or -1 for any", where)
    if rows != "one-by-one":
        return shape
    if shape[:1] != (-1,):
        raise _Misfit(f"with `rows: one-by-one` clients send rows, and {list(shape)} has no -1 in front", where)
    return shape[1:]


def _take(take: Take | None, shift: int, source: TensorSpec, whose: str, where: str) -> Take | None:
    """Return `take` with its axis counted without the row. shift: 1 where there is one in front of `source`."""
    if take is None:
        return None
    axis = take.axis - shift
    if axis < 0:
        raise _Misfit("axis 0 is the rows; entries are taken of another one", f"{where}.axis")
    if axis >= len(source.shape):
        raise _Misfit(f"there is no axis {take.axis}; {whose} {_words(source)}", f"{where}.axis")
    size = source.shape[axis]
    if size == -1:
        raise _Misfit(f"axis {take.axis} of {_words(source)} has a free size: {_FIXED}", f"{where}.axis")
    if beyond := next((each for each in take.indices if each >= size), None):
        hint = "; say in `shape` what clients send" if whose == "clients send" else ""
        raise _Misfit(f"there is no entry {beyond}: {whose} {_words(source)}{hint}", f"{where}.indices")
    return Take(axis, take.indices)


def _taken(shape: tuple[int, ...], take: Take | None) -> tuple[int, ...]:
    if take is None:
        return shape
    return (*shape[: take.axis], len(take.indices), *shape[take.axis + 1 :])


def _is_same(source: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Return whether every tensor of the shape `source` has the shape `target` as it is."""
    return len(source) == len(target) and all(wanted in (-1, size) for size, wanted in zip(source, target, strict=True))


def _segments(shape: tuple[int, ...]) -> list[int]:
    """Return the product of the fixed sizes before, between and behind the free ones."""
    found = [1]
    for size in shape:
        if size == -1:
            found.append(1)
        else:
            found[-1] *= size
    return found


def _unit_off(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without the one row that a version was exported with."""
    return shape[1:] if shape[:1] == (1,) else shape


def _no_others(named: Iterable[str], known: Iterable[TensorSpec], side: str, where: str) -> None:
    names = [each.name for each in known]
    if odd := next((each for each in named if each not in names), None):
        raise _Misfit(_has_no(side, odd, names), f"{where}.{odd}")


def _has_no(side: str, name: str, known: Iterable[str] | Mapping[str, Any]) -> str:
    return f"the version has no {side} {name!r}; it has {', '.join(known)}"


def _measured(value: Value) -> tuple[tuple[int, ...] | None, list[Any]]:
    """Return the shape of nested lists, None where they are ragged, and what is in them."""
    shape: list[int] = []
    level: list[Any] = [value]
    while level and any(isinstance(each, list) for each in level):
        sizes = {len(each) if isinstance(each, list) else -1 for each in level}
        if len(sizes) > 1 or 0 in sizes or len(shape) >= DIMENSIONS_MAX:
            return None, []
        shape.append(sizes.pop())
        level = list(chain.from_iterable(level))
    return tuple(shape), level


def _is_value(value: Any, datatype: str) -> bool:
    if not isinstance(value, bool | int | float | str) or not holds(value, datatype):
        return False
    return not isinstance(value, float) or (math.isfinite(value) and abs(value) <= _FLOAT_MAX.get(datatype, math.inf))


def _words(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.datatype}{list(spec.shape)}"


def _input_words(name: str, entry: MappedInput) -> str:
    if entry.value is None:
        return f"{name} = {_made_of(name, entry)}"
    text = repr(entry.value)
    return f"{name} = the constant {text if len(text) <= 40 else text[:39] + '…'}"


def _made_of(name: str, entry: MappedInput | MappedOutput) -> str:
    known = f"{entry.datatype or ''}{list(entry.shape) if entry.shape is not None else ''}"
    text = entry.source or name
    if isinstance(entry, MappedInput) and known:
        text += f" as clients send it, {known}"
    if entry.take is not None:
        text += f", {len(entry.take.indices)} entries of axis {entry.take.axis}"
    return f"{text}, as {known}" if isinstance(entry, MappedOutput) and known else text
