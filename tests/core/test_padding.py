"""Padding: what a manifest's `pad` means for a model, and what is said when it does not fit."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.padding import Dimension, Fault, padded_size, resolve
from stoker.types.models import Signature, TensorSpec
from stoker.types.resources import Pad

ENCODER = Signature(
    (TensorSpec("ids", "INT64", (-1, -1)), TensorSpec("mask", "INT64", (-1, -1)), TensorSpec("kind", "INT64", (-1, 1))),
    (TensorSpec("tokens", "FP32", (-1, -1, 16)), TensorSpec("pooled", "FP32", (-1, 16))),
)
NAMES = {
    "ids": ("batch", "sequence"),
    "mask": ("batch", "sequence"),
    "kind": ("batch", ""),
    "tokens": ("batch", "sequence", ""),
    "pooled": ("batch", ""),
}
UNNAMED = {name: ("",) * len(axes) for name, axes in NAMES.items()}


def test_a_named_dimension_needs_nothing_but_its_name() -> None:
    assert resolve({"sequence": Pad()}, ENCODER, NAMES) == (
        Dimension("sequence", (), {"ids": 1, "mask": 1}, {"tokens": 1}, {}),
    )


def test_a_model_without_names_is_told_where_the_dimension_is() -> None:
    pad = Pad(to=[64, 16], axes={"ids": 1, "mask": 1, "tokens": 1}, values={"ids": 3})
    assert resolve({"length": pad}, ENCODER, UNNAMED) == (
        Dimension("length", (16, 64), {"ids": 1, "mask": 1}, {"tokens": 1}, {"ids": 3}),
    )


def test_what_is_declared_wins_over_the_models_names() -> None:
    found = resolve({"sequence": Pad(axes={"mask": None, "tokens": None})}, ENCODER, NAMES)
    assert found == (Dimension("sequence", (), {"ids": 1}, {}, {}),)


@pytest.mark.parametrize(
    ("pads", "names", "field", "says"),
    [
        ({"seq": Pad()}, NAMES, "spec.batching.pad.seq", "the model's names are: sequence"),
        ({"seq": Pad()}, UNNAMED, "spec.batching.pad.seq", "the model names none"),
        ({"s": Pad(axes={"idz": 1})}, None, "spec.batching.pad.s.axes.idz", "it has ids, kind, mask, pooled, tokens"),
        ({"s": Pad(axes={"ids": 0})}, None, "spec.batching.pad.s.axes.ids", "behind the rows is 1 to 1"),
        ({"s": Pad(axes={"kind": 1})}, None, "spec.batching.pad.s.axes.kind", "the fixed size 1"),
        ({"s": Pad(to=[])}, None, "spec.batching.pad.s.to", "1 to 64 sizes"),
        ({"s": Pad(to=[0, 4])}, None, "spec.batching.pad.s.to", "1 or more"),
        ({"s": Pad(values={"tokens_": 0})}, None, "spec.batching.pad.s.values.tokens_", "no input"),
        (
            {"sequence": Pad(values={"kind": 0})},
            NAMES,
            "spec.batching.pad.sequence.values.kind",
            "those are: ids, mask",
        ),
        ({"sequence": Pad(values={"ids": 0.5})}, None, "spec.batching.pad.sequence.values.ids", "0.5 is no INT64"),
        ({"sequence": Pad(values={"ids": 1 << 63})}, None, "spec.batching.pad.sequence.values.ids", "is no INT64"),
        ({"sequence": Pad(values={"ids": True})}, None, "spec.batching.pad.sequence.values.ids", "True is no INT64"),
        ({"s": Pad(axes={"ids": 1}), "t": Pad(axes={"ids": 1})}, None, "spec.batching.pad.t.axes", "is 's' already"),
        ({"s": Pad(axes={"ids": 1, "mask": 1})}, UNNAMED, "spec.batching.pad.s.axes", "write tokens: 1 when it is"),
    ],
)
def test_what_does_not_fit_the_model_is_said_with_its_field(
    pads: dict[str, Pad], names: Any, field: str, says: str
) -> None:
    found = resolve(pads, ENCODER, names)
    assert isinstance(found, Fault)
    assert found.field == field
    assert says in found.message


def test_an_output_whose_size_an_exporter_made_up_a_name_for_must_be_declared() -> None:
    names = {**NAMES, "tokens": ("batch", "Addtokens_dim_1", "")}
    found = resolve({"sequence": Pad()}, ENCODER, names)
    assert isinstance(found, Fault)
    assert isinstance(resolve({"sequence": Pad(axes={"tokens": 1})}, ENCODER, names), tuple)


def test_before_the_model_is_asked_only_what_is_surely_wrong_is_refused() -> None:
    assert isinstance(resolve({"seq": Pad()}, ENCODER, None), tuple)
    assert resolve({"seq": Pad(axes={"idz": 1})}, Signature(), None) == ()


@given(size=st.integers(1, 10_000), sizes=st.lists(st.integers(1, 5000), max_size=8).map(sorted))
def test_a_size_is_never_cut_and_padded_to_no_more_than_the_next(size: int, sizes: list[int]) -> None:
    padded = padded_size(size, sizes)
    assert padded >= size
    assert padded_size(padded, sizes) == padded
    if sizes:
        assert padded == min([each for each in sizes if each >= size], default=size)
    else:
        assert padded < 2 * size
        assert padded.bit_count() == 1
