"""Where the columns of a reference are in a model: nobody who makes one need know how the model calls its tensors."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from stoker.types.drift import FEATURES_MAX, Plane, Reference, Side
from stoker.types.models import Signature, TensorSpec

_INDEXED: Final = re.compile(r"(.*)\[(\d{1,6})\]", re.DOTALL)


class Misplaced(msgspec.Struct, frozen=True):
    """Why the columns are not the model's."""

    message: str


class Place(msgspec.Struct, frozen=True):
    """A position within a row of an input or output."""

    tensor: str
    index: int
    side: Side


def bind(reference: Reference, signature: Signature, planes: Sequence[Plane] = ()) -> Reference | Misplaced:
    """Return the reference with the place of each feature, inputs first; its spaces are where `planes` are.

    A column is `TENSOR`, `TENSOR[3]`, or, of a model with one input of d numbers, one of d columns in their order. A
    tensor whose rows differ in length is not watched.
    """
    places = place(dict.fromkeys(one.column for one in reference.features), signature)
    if isinstance(places, Misplaced):
        return places
    bound = []
    for one in reference.features:
        at = places[one.column]
        bound.append(msgspec.structs.replace(one, tensor=at.tensor, index=at.index, side=at.side))
    bound.sort(key=lambda one: one.side == "output")
    if len({(one.tensor, one.side, one.index, one.read) for one in bound}) != len(bound):
        return Misplaced("two of its columns are the same value of the model")
    for space in reference.spaces:
        if not any(one.name == space.name and one.width in (0, space.width) for one in planes):
            return Misplaced(f"the model has no vectors {space.name!r} of {space.width} values")
    return msgspec.structs.replace(reference, features=tuple(bound))


def place(columns: Iterable[str], signature: Signature) -> dict[str, Place] | Misplaced:
    """Return where each column is."""
    found: dict[str, Place] = {}
    rest = []
    for column in columns:
        at = _named(column, signature)
        if at is not None:
            found[column] = at
        else:
            rest.append(column)
    if not rest:
        return found
    if not signature.inputs:
        return Misplaced("the model says nothing of its inputs, so columns cannot be placed")
    first = signature.inputs[0]
    if len(signature.inputs) > 1 or width(first) != len(rest):
        known = ", ".join(one.name for one in (*signature.inputs, *signature.outputs))
        has = f"its input {first.name!r} has {width(first) or 'any number of'} values a row"
        return Misplaced(f"{len(rest)} columns, {rest[0]!r} first, are none of the model's ({known}), and {has}")
    return found | {column: Place(first.name, at, "input") for at, column in enumerate(rest)}


def names(tensor: TensorSpec) -> list[str]:
    """Return the columns of a tensor; none of one with too many values a row, or not always as many."""
    many = width(tensor)
    if not 1 <= many <= FEATURES_MAX:
        return []
    return [tensor.name] if many == 1 else [f"{tensor.name}[{at}]" for at in range(many)]


def width(tensor: TensorSpec) -> int:
    """Return the values of a row; 0 when that differs."""
    many = 1
    for size in tensor.shape[1:]:
        many *= max(size, 0)
    return many


def _named(column: str, signature: Signature) -> Place | None:
    match = _INDEXED.fullmatch(column)
    sides: tuple[tuple[Side, tuple[TensorSpec, ...]], ...] = (
        ("input", signature.inputs),
        ("output", signature.outputs),
    )
    for side, tensors in sides:
        for one in tensors:
            if column == one.name and width(one) == 1:
                return Place(one.name, 0, side)
            if match and match[1] == one.name and int(match[2]) < width(one):
                return Place(one.name, int(match[2]), side)
    return None
