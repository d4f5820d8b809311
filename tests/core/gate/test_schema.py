"""Which signatures clients of another can go on with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.gate.schema import breaches
from stoker.types.models import Datatype, Signature, TensorSpec, VersionManifest

X = TensorSpec("x", "FP32", (-1, 4))
Y = TensorSpec("y", "FP32", (-1, 3))
Z = TensorSpec("z", "INT64", (-1,))


def manifest(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], **metadata: int) -> VersionManifest:
    return VersionManifest("onnx", (), ".", Signature(inputs, outputs), metadata=dict(metadata))


def found(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> tuple[str, ...]:
    return breaches(manifest((X,), (Y,)), manifest(inputs, outputs), "predict", "predict")


def test_more_outputs_sizes_and_wider_numbers_hurt_nobody() -> None:
    assert found((X,), (Y, Z)) == ()
    assert found((TensorSpec("x", "FP32", (-1, -1)),), (Y,)) == ()
    assert found((X,), (TensorSpec("y", "FP64", (-1, 3)),)) == ()
    assert (
        breaches(manifest((X,), (TensorSpec("y", "FP32", (-1, -1)),)), manifest((X,), (Y,)), "predict", "predict") == ()
    )


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        ((TensorSpec("features", "FP32", (-1, 4)),), (Y,), "input 'x' is called 'features' now"),
        ((X, Z), (Y,), "input 'z' is new and needed"),
        ((TensorSpec("x", "FP16", (-1, 4)),), (Y,), "input 'x' takes FP16, not FP32; clients send FP32"),
        ((TensorSpec("x", "FP64", (-1, 4)),), (Y,), "input 'x' takes FP64"),
        ((TensorSpec("x", "FP32", (-1, 5)),), (Y,), "input 'x' takes 5 in dimension 1, where clients send 4"),
        ((TensorSpec("x", "FP32", (8, 4)),), (Y,), "input 'x' takes 8 in dimension 0, where clients send any size"),
        ((TensorSpec("x", "FP32", (-1, 4, 1)),), (Y,), "input 'x' has the shape [-1, 4, 1], not [-1, 4]"),
        ((X,), (Z,), "output 'y' is not there any more; clients read it"),
        ((X,), (TensorSpec("y", "FP16", (-1, 3)),), "output 'y' is FP16, not FP32"),
        ((X,), (TensorSpec("y", "INT64", (-1, 3)),), "output 'y' is INT64, not FP32"),
        ((X,), (TensorSpec("y", "FP32", (-1, 4)),), "output 'y' has 4 in dimension 1, where clients read 3"),
        ((X,), (TensorSpec("y", "FP32", (-1, -1)),), "output 'y' has any size in dimension 1"),
    ],
)
def test_what_breaks_clients_names_its_tensor(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], said: str
) -> None:
    (one,) = found(inputs, outputs)
    assert said in one


def test_a_signature_that_nobody_knows_breaks_nothing_that_could_be_told() -> None:
    nothing = manifest((), ())
    assert breaches(nothing, manifest((X,), (Y,)), "predict", "predict") == ()
    assert breaches(manifest((X,), (Y,)), nothing, "predict", "predict") == ()


def test_another_task_is_another_protocol_and_vectors_keep_their_width() -> None:
    (said,) = breaches(manifest((X,), (Y,)), manifest((X,), (Y,)), "chat", "predict")
    assert "it serves predict" in said
    narrow, wide = manifest((X,), (Y,), dimensions=384), manifest((Z,), (Y,), dimensions=768)
    assert breaches(narrow, narrow, "embed", "embed") == ()
    (said,) = breaches(narrow, wide, "embed", "embed")
    assert "vectors have 768 values, not 384" in said


datatypes = st.sampled_from(["FP16", "FP32", "FP64", "INT8", "INT64", "BOOL", "BYTES"])


@st.composite
def tensors(draw: st.DrawFn) -> tuple[TensorSpec, ...]:
    names = draw(st.lists(st.sampled_from("abcd"), unique=True, min_size=1, max_size=3))
    made = []
    for name in names:
        datatype: Datatype = draw(datatypes)
        made.append(TensorSpec(name, datatype, tuple(draw(st.lists(st.integers(-1, 3).filter(bool), max_size=3)))))
    return tuple(made)


@given(tensors(), tensors(), tensors())
def test_the_same_breaks_nothing_and_what_two_steps_allow_one_step_allows(
    first: tuple[TensorSpec, ...], second: tuple[TensorSpec, ...], third: tuple[TensorSpec, ...]
) -> None:
    def allowed(old: tuple[TensorSpec, ...], new: tuple[TensorSpec, ...]) -> bool:
        return not breaches(manifest(old, old), manifest(new, new), "predict", "predict")

    assert allowed(first, first)
    if allowed(first, second) and allowed(second, third):
        assert allowed(first, third)
