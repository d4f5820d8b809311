"""References of files that go with a version: columns, vectors and texts, each where it is in the model."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from stoker.core.reference import Misplaced, bind
from stoker.core.watched import seen_of
from stoker.observe.drift.pushed import reference_of
from stoker.types.drift import REFERENCE_BYTES_MAX, Reference, decode_reference
from stoker.types.errors import InvalidInput
from stoker.types.models import Signature, TensorSpec

WIDE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("hidden", "FP32", (-1, 300)),))


def pushed(path: Path, task: str, signature: Signature = WIDE) -> Reference | Misplaced:
    data = msgspec.json.encode(reference_of(path, [task]))
    assert len(data) <= REFERENCE_BYTES_MAX
    seen = seen_of(task, signature)
    return bind(decode_reference(data), seen.signature, seen.planes)


def test_vectors_of_an_npz_are_a_space_and_their_length_a_feature(tmp_path: Path) -> None:
    path = tmp_path / "good.npz"
    rng = np.random.default_rng(0)
    np.savez(path, embedding=rng.normal(size=(700, 32)).astype(np.float32))
    found = pushed(path, "embed")
    assert isinstance(found, Reference), found
    assert [(one.name, one.width, one.rows) for one in found.spaces] == [("embedding", 32, 600)]
    assert [one.name for one in found.features] == ["embedding.norm"]
    assert isinstance(pushed(path, "predict"), Misplaced)


def test_a_wide_output_of_a_predict_model_is_a_space_beside_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "good.npz"
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.normal(size=(80, 2)), hidden=rng.normal(size=(80, 300)))
    found = pushed(path, "predict")
    assert isinstance(found, Reference), found
    assert [one.name for one in found.features] == ["x[0]", "x[1]"]
    assert [(one.name, one.side) for one in found.spaces] == [("hidden", "output")]
    np.savez(path, hidden=rng.normal(size=(80, 301)))
    assert isinstance(pushed(path, "predict"), Misplaced)
    np.savez(path, hidden=rng.normal(size=(20, 300)))
    with pytest.raises(InvalidInput, match="50 vectors or more, not 20"):
        reference_of(path, ["predict"])


def test_texts_of_a_model_of_texts_are_profiled_and_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "good.jsonl"
    rows = [{"prompt": f"What is {n} plus {n}, please?", "answer": f"It is {2 * n}."} for n in range(700)]
    path.write_bytes(b"\n".join(map(msgspec.json.encode, rows)))
    found = pushed(path, "chat")
    assert isinstance(found, Reference), found
    assert {one.name for one in found.spaces} == {"prompt.wording", "answer.wording"}
    assert {"prompt.characters", "answer.script", "prompt.trigram"} <= {one.name for one in found.features}
    assert "please" not in msgspec.json.encode(found).decode()
    columns = reference_of(path, ["predict"])  # of another model they are ordinary text columns
    assert {one.name for one in columns.features} == {
        "prompt.length",
        "prompt.script",
        "answer.length",
        "answer.script",
    }
