"""How the tensors that clients know become those of a version that has others, and back: a manifest's `mapping`.

Each entry is named after what it makes: an input after the version's, an output after the one that clients read.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from stoker.types.models import Datatype, TensorSpec

TENSORS_MAX: Final = 64
INDICES_MAX: Final = 16_384
DIMENSIONS_MAX: Final = 8

TensorName = Annotated[str, Meta(max_length=256)]
Shape = Annotated[tuple[Annotated[int, Meta(ge=-1, le=1 << 40)], ...], Meta(max_length=DIMENSIONS_MAX)]
Value = bool | int | float | str | list[Any]
# same: clients' rows are the version's. one-by-one: the version takes one row, and clients' are asked one after the
# other. added: clients send one row without a first dimension, and the version has one.
Rows = Literal["same", "one-by-one", "added"]


class Take(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Some entries along an axis, in an order of their own: a permutation, or fewer."""

    axis: Annotated[int, Meta(ge=0, lt=DIMENSIONS_MAX, description="which axis of the tensor that they are taken from")]
    indices: Annotated[
        tuple[Annotated[int, Meta(ge=0)], ...],
        Meta(min_length=1, max_length=INDICES_MAX, description="which entries, counted from 0, in the order wanted"),
    ]


class MappedInput(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename={"source": "from"}
):
    """Where an input of the version comes from."""

    source: Annotated[TensorName, Meta(description="the input that clients send; by default the one of its name")] = ""
    datatype: Annotated[Datatype | None, Meta(description="what clients send; by default what the version takes")] = (
        None
    )
    shape: Annotated[
        Shape | None, Meta(description="what clients send, -1 for any size; by default what the version takes")
    ] = None
    take: Annotated[Take | None, Meta(description="which entries of it, along an axis; by default all")] = None
    value: Annotated[
        Value | None, Meta(description="a constant instead: one value, or nested lists of the values of a row")
    ] = None


class MappedOutput(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename={"source": "from"}
):
    """Where an output that clients read comes from."""

    source: Annotated[TensorName, Meta(description="the version's output; by default the one of its name")] = ""
    datatype: Annotated[Datatype | None, Meta(description="what clients read; by default what the version gives")] = (
        None
    )
    shape: Annotated[
        Shape | None, Meta(description="what clients read, -1 for any size; by default what the version gives")
    ] = None
    take: Annotated[Take | None, Meta(description="which entries of it, along an axis; by default all")] = None


class SchemaMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What makes a version of another schema one that an endpoint's clients can go on with. What is not named stays."""

    inputs: Annotated[
        dict[str, MappedInput], Meta(max_length=TENSORS_MAX, description="by input of the version: how it is made")
    ] = {}
    outputs: Annotated[
        dict[str, MappedOutput | None],
        Meta(max_length=TENSORS_MAX, description="by output that clients read: how it is made; null drops it"),
    ] = {}
    ignored: Annotated[
        tuple[TensorSpec, ...],
        Meta(max_length=TENSORS_MAX, description="inputs that clients go on sending and the version does not need"),
    ] = ()
    rows: Annotated[
        Rows,
        Meta(
            description="same: clients' rows are the version's; one-by-one: it takes one row, and clients' are asked "
            "one after the other; added: clients send one row without a first dimension, and it has one"
        ),
    ] = "same"
