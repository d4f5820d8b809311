"""The onnx engine beyond what all predict engines share: types, shapes, broken files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from stoker.runtime.engines import registry
from stoker.types.errors import EngineFailed, InvalidInput, RefusedArtifact
from stoker.types.models import TensorSpec
from tests.runtime.models import Digits, spec_of


def model(folder: Path, op: str, kind: int, shape: list[Any], *, out: int | None = None, **attributes: Any) -> Any:
    """Write a model of one operator and load it."""
    node = helper.make_node(op, ["x"], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", out or kind, shape if op != "ReduceSum" else [])],
    )
    folder.mkdir(exist_ok=True)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9
    save(made, folder / "model.onnx")
    return registry.load(spec_of(folder, "onnx"), lambda stage, fraction: None)


def test_text_goes_in_and_out_as_bytes(tmp_path: Path) -> None:
    engine = model(tmp_path, "Identity", TensorProto.STRING, [None])
    assert engine.signature.inputs == (TensorSpec("x", "BYTES", (-1,)),)
    given = np.array([b"a", "é".encode()], object)
    assert engine.predict({"x": given}, ())["y"].tolist() == given.tolist()
    with pytest.raises(InvalidInput, match="UTF-8"):
        engine.predict({"x": np.array([b"\xff"], object)}, ())


@pytest.mark.parametrize(("kind", "dtype"), [(TensorProto.FLOAT16, np.float16), (TensorProto.BOOL, np.bool_)])
def test_small_types_pass_unchanged(tmp_path: Path, kind: int, dtype: Any) -> None:
    engine = model(tmp_path, "Identity", kind, [None, 2])
    given = np.array([[1, 0]], dtype)
    assert engine.predict({"x": given}, ())["y"].dtype == dtype


def test_a_model_of_fixed_size_is_not_batched(tmp_path: Path) -> None:
    assert not model(tmp_path / "a", "Identity", TensorProto.FLOAT, [2, 3]).batches
    assert not model(tmp_path / "b", "ReduceSum", TensorProto.FLOAT, [None, 3], keepdims=0).batches
    assert model(tmp_path / "c", "Identity", TensorProto.FLOAT, ["n", 3]).batches


def test_the_runtimes_words_arrive_on_one_line(tmp_path: Path) -> None:
    engine = model(tmp_path, "Identity", TensorProto.FLOAT, [None, 2])
    with pytest.raises(EngineFailed, match="ONNX Runtime: ") as raised:
        engine.predict({"x": np.zeros((1, 3), np.float32)}, ())
    assert "\n" not in raised.value.message


@pytest.mark.parametrize("broken", [b"", b"garbage" * 100, "half"])
def test_a_broken_file_is_refused_with_its_name(tmp_path: Path, digits: Digits, broken: Any) -> None:
    whole = (digits.folders["onnx"] / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(whole[: len(whole) // 2] if broken == "half" else broken)
    with pytest.raises(RefusedArtifact, match=r"model\.onnx"):
        registry.load(spec_of(tmp_path, "onnx"), lambda stage, fraction: None)


def test_the_batch_option_overrides_what_the_shapes_say(digits: Digits) -> None:
    assert not registry.load(digits.spec("onnx", options={"batch": False}), lambda s, f: None).batches  # type: ignore[union-attr]
