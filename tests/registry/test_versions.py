import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import skops.io
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from stoker.observe.drift.reference import build
from stoker.registry import collect, inspector, versions
from stoker.registry.inspection import InspectionJob
from stoker.registry.versions import Given
from stoker.types.drift import REFERENCE_BYTES_MAX, REFERENCE_FILE
from stoker.types.errors import InvalidInput, NotFound, RefusedArtifact, StokerError
from stoker.types.ids import Digest
from stoker.types.models import FileEntry, Lineage, TensorSpec, VersionManifest, manifest_digest
from tests.registry.rig import METADATA, Registry, encoder, gguf, onnx_model

ROWS = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 5.0], [3.0, 3.0]])
MODEL_PY = b"""
class Model:
    inputs = {"x": ("FP32", [-1, 4])}
    outputs = {"y": ("FP32", [-1])}
    def predict(self, inputs): return {"y": inputs["x"].sum(axis=1)}
"""


class Custom(BaseEstimator):
    def fit(self, rows: Any, labels: Any) -> "Custom":
        self.n_features_in_ = 2
        return self

    def predict(self, rows: Any) -> Any:
        return rows


def classifier() -> bytes:
    model = make_pipeline(StandardScaler(), DecisionTreeClassifier(random_state=0)).fit(ROWS, ["a", "b", "a", "b"])
    return bytes(skops.io.dumps(model))


def test_an_onnx_file_becomes_a_version_with_its_signature(registry: Registry) -> None:
    manifest = registry.push({"digits.onnx": onnx_model()}, lineage=Lineage(source="here"))
    assert (manifest.format, manifest.entry, manifest.tasks) == ("onnx", "digits.onnx", ("predict",))
    assert manifest.signature.inputs == (TensorSpec("x", "FP32", (-1, 4)),)
    assert manifest.signature.outputs == (TensorSpec("y", "FP32", (-1, 4)),)
    assert (manifest.metadata["opset"], manifest.lineage.source) == (17, "here")
    assert registry.leftovers() == []


@pytest.mark.parametrize(
    ("files", "options"),
    [
        ({"model.onnx": encoder(), "tokenizer.json": b"{}"}, {"pooling": "mean", "normalize": True}),
        (
            {
                "model.onnx": encoder(),
                "tokenizer.json": b"{}",
                "1_Pooling/config.json": b'{"pooling_mode_cls_token": true}',
            },
            {"pooling": "cls", "normalize": True},
        ),
        (
            {"onnx/model.onnx": encoder(), "onnx/tokenizer.json": b"{}", "1_Pooling/config.json": b"not json"},
            {"pooling": "mean", "normalize": True, "tokenizer": "onnx/tokenizer.json"},
        ),
        (
            {"model.onnx": encoder("sentence_embedding", 2), "tokenizer.json": b"{}"},
            {"pooling": "none", "normalize": True},
        ),
    ],
)
def test_an_encoder_with_its_tokenizer_is_for_embedding(
    registry: Registry, files: dict[str, bytes], options: dict[str, Any]
) -> None:
    manifest = registry.push(files)
    assert (manifest.tasks, manifest.options, manifest.metadata["dimensions"]) == (("embed",), options, 4)


def test_an_encoder_without_its_tokenizer_takes_tensors(registry: Registry) -> None:
    assert registry.push({"model.onnx": encoder()}).tasks == ("predict",)
    assert registry.push({"model.onnx": encoder("logits"), "tokenizer.json": b"{}"}).tasks == ("predict",)


def test_a_gguf_becomes_a_chat_model(registry: Registry) -> None:
    manifest = registry.push({"tiny.gguf": gguf()})
    assert (manifest.format, manifest.tasks) == ("gguf", ("chat",))
    assert manifest.metadata == {
        "architecture": "llama",
        "name": "Tiny",
        "context_length": 128,
        "parameters": 8,
        "tensors": 1,
        "vocabulary": 3,
        "quantization": "F32",
        "chat_template": True,
    }


def test_the_parts_of_a_split_gguf_must_all_be_there(registry: Registry) -> None:
    parts = {f"m-0000{n}-of-00003.gguf": gguf(METADATA | {"split.count": 3, "split.no": n - 1}) for n in (1, 2, 3)}
    assert registry.push(parts).entry == "m-00001-of-00003.gguf"
    del parts["m-00002-of-00003.gguf"]
    with pytest.raises(RefusedArtifact, match="part 2 is missing"):
        registry.push(parts)


def test_a_skops_classifier_says_its_columns_labels_and_outputs(registry: Registry) -> None:
    manifest = registry.push({"model.skops": classifier()})
    assert (manifest.format, manifest.tasks, manifest.metadata["labels"]) == ("skops", ("predict",), ["a", "b"])
    assert manifest.signature.inputs == (TensorSpec("input", "FP64", (-1, 2)),)
    assert manifest.signature.outputs == (
        TensorSpec("label", "BYTES", (-1,)),
        TensorSpec("probabilities", "FP64", (-1, 2)),
    )


@pytest.mark.parametrize(
    ("model", "datatype"), [(LinearRegression().fit(ROWS, [1.0, 2, 3, 4]), "FP64"), (KMeans(2).fit(ROWS), "INT32")]
)
def test_other_estimators_predict(registry: Registry, model: Any, datatype: str) -> None:
    manifest = registry.push({"model.skops": bytes(skops.io.dumps(model))})
    assert manifest.signature.outputs == (TensorSpec("prediction", datatype, (-1,)),)  # type: ignore[arg-type]


def test_a_python_folder_says_what_it_does_without_being_run(registry: Registry) -> None:
    files = {"model.py": MODEL_PY + b"\nraise SystemExit('never at push')\n", "weights/w.bin": b"123"}
    manifest = registry.push(files)
    assert (manifest.format, manifest.entry, manifest.tasks) == ("python", "model.py", ("predict",))
    assert manifest.metadata == {"class": "Model"}
    assert manifest.signature.inputs == (TensorSpec("x", "FP32", (-1, 4)),)


def test_the_card_in_the_files_says_the_rest_and_the_pusher_has_the_last_word(registry: Registry) -> None:
    card = b"""
class: Other
tasks: [embed]
inputs: [{name: a, datatype: FP64, shape: [-1]}]
options: {slots: 2, batch: true}
metadata: {owner: us, labels: [x, y]}
"""
    files = {
        "stoker.yaml": card,
        "model.py": b"class Base: pass\nclass Other(Base): pass\nclass Model:\n  def predict(self): ...\n",
    }
    manifest = registry.push(files, options={"slots": 3}, tasks=("chat",))
    assert manifest.metadata == {"class": "Other", "owner": "us", "labels": ["x", "y"]}
    assert (manifest.options, manifest.tasks) == ({"slots": 3, "batch": True}, ("chat",))
    assert manifest.signature.inputs == (TensorSpec("a", "FP64", (-1,)),)


def test_a_remote_model_has_no_files(registry: Registry) -> None:
    manifest = registry.push({}, format="remote", options={"base_url": "https://x/v1"})
    assert (manifest.files, manifest.tasks, manifest.entry) == ((), ("chat",), ".")


def test_the_same_files_are_the_same_version_whoever_pushes_them(registry: Registry) -> None:
    first = registry.push({"b.onnx": onnx_model(), "a.txt": b"x"}, lineage=Lineage(pushed_by="me"))
    second = registry.push({"a.txt": b"x", "b.onnx": onnx_model()}, lineage=Lineage(pushed_by="you", trained_at_s=5.0))
    assert manifest_digest(first) == manifest_digest(second)


def test_a_version_keeps_the_digest_that_it_had_before_its_training_had_a_time() -> None:
    file = FileEntry("model.onnx", Digest("sha256:" + "0" * 64), 3)
    manifest = VersionManifest("onnx", (file,), "model.onnx", metadata={"a": ["b"]})
    assert manifest_digest(manifest) == "sha256:d733764350acc382dbbf3542f85c90515d99c84ad437456c43fb125b7d3951c9"


def tampered_tree(**children: int) -> bytes:
    """Return a decision tree whose root points at nodes that are not there; scikit-learn does not look."""
    good = bytes(skops.io.dumps(DecisionTreeClassifier(random_state=0).fit(ROWS, [0, 1, 0, 1])))
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if b"left_child" in data and name.endswith(".npy"):
                nodes = np.load(io.BytesIO(data))
                for field, value in children.items():
                    nodes[field] = value
                rewritten = io.BytesIO()
                np.save(rewritten, nodes)
                data = rewritten.getvalue()
            target.writestr(name, data)
    return out.getvalue()


def untrusted() -> bytes:
    return bytes(skops.io.dumps(Custom().fit(ROWS, None)))


BAD: list[tuple[dict[str, bytes], str]] = [
    ({"model.onnx": b""}, "not an ONNX model"),
    ({"model.onnx": b"\x00" * 100}, "not an ONNX model"),
    ({"model.onnx": onnx_model()[:-20]}, "not an ONNX model|cannot open"),
    ({"model.onnx": onnx_model().replace(b"Add", b"Adx")}, "ONNX Runtime cannot open model.onnx"),
    ({"model.onnx": onnx_model(external="../../secret")}, r"has its data in '../../secret'"),
    ({"model.onnx": onnx_model(external="/etc/passwd")}, "has its data in '/etc/passwd'"),
    ({"model.onnx": onnx_model(external="w.bin")}, "not a file of this version"),
    ({"model.onnx": onnx_model(external="../secret", nested=True)}, "has its data in"),
    ({"model.onnx": onnx_model(external="w.bin", offset=8), "w.bin": bytes(16)}, "ends beyond the end of 'w.bin'"),
    ({"m.gguf": b"GGUF"}, "ends inside its header"),
    ({"m.gguf": gguf()[:-4]}, "cut short"),
    ({"m.gguf": gguf({"general.architecture": "llama"})}, "no tokenizer"),
    ({"m.gguf": gguf(tensors=False)}, "no weights"),
    ({"m.gguf": gguf(METADATA | {"general.type": "adapter"})}, "GGUF adapter"),
    ({"m.skops": b"PK\x03\x04 not a zip"}, "damaged zip"),
    ({"m.skops": b"text"}, "not a skops file"),
    ({"m.skops": untrusted()}, "types that are not trusted: .*Custom"),
    ({"m.skops": bytes(skops.io.dumps(StandardScaler()))}, "not fitted, or cannot predict"),
    ({"m.skops": tampered_tree(left_child=2**40, right_child=2**40)}, "crashed its parser|scikit-learn cannot open"),
    ({"model.py": b"class Model:"}, "not Python"),
    ({"model.py": b"x = 1"}, "no class with a method predict"),
    ({"model.py": MODEL_PY.replace(b"FP32", b"FP33")}, "Invalid enum value 'FP33'"),
    ({"model.py": b"class A:\n  def predict(self): ...\nclass B:\n  def embed(self): ..."}, "several classes"),
    ({"model.py": MODEL_PY, "stoker.yaml": b"class: Nope"}, "no class Nope"),
    (
        {"model.py": MODEL_PY, "stoker.yaml": b"clas: X\ntasks: [fly]"},
        "line 1: clas: unknown field; did you mean class?",
    ),
    ({"weights.safetensors": b"\x02\0\0\0\0\0\0\0{}"}, "convert the model to GGUF or ONNX"),
    ({"notes.txt": b"x"}, "known: .onnx, .gguf, .skops"),
    ({"a.onnx": onnx_model(), "b.onnx": onnx_model(nested=True)}, "several models: a.onnx, b.onnx"),
    ({"a.onnx": onnx_model(), "b.gguf": gguf()}, "several formats"),
]


@pytest.mark.parametrize(("files", "said"), BAD, ids=[f"{'+'.join(files)}: {said[:30]}" for files, said in BAD])
def test_what_is_damaged_hostile_or_unknown_is_refused_and_leaves_nothing(
    registry: Registry, files: dict[str, bytes], said: str
) -> None:
    entries = registry.upload(files)
    with pytest.raises(RefusedArtifact, match=said):
        versions.build_manifest(entries, registry.blobs, Given(), scratch=registry.tmp)
    assert collect.discard(entries, registry.blobs, []) == len({entry.digest for entry in entries})
    assert registry.leftovers() == []
    assert list(registry.blobs.list()) == []


@pytest.mark.parametrize(
    "paths",
    [
        ["../m.onnx"],
        ["/m.onnx"],
        ["a/../m.onnx"],
        [""],
        ["a//b"],
        ["M.onnx", "m.onnx"],
        ["a", "a/b"],
        ["a\\b"],
        ["a\x00"],
        ["x" * 300],
    ],
)
def test_paths_that_could_leave_the_folder_or_collide_are_refused(registry: Registry, paths: list[str]) -> None:
    with pytest.raises(RefusedArtifact):
        registry.push(dict.fromkeys(paths, b"x"))
    assert registry.leftovers() == []


def test_a_size_that_does_not_hold_is_refused_and_a_missing_blob_named(registry: Registry) -> None:
    (entry,) = registry.upload({"m.onnx": onnx_model()})
    with pytest.raises(RefusedArtifact, match="bytes, not 5"):
        versions.build_manifest([FileEntry("m.onnx", entry.digest, 5)], registry.blobs, Given(), scratch=registry.tmp)
    absent = FileEntry("n.onnx", Digest("sha256:" + "0" * 64), 5)
    with pytest.raises(NotFound, match=r"n\.onnx"):
        versions.build_manifest([entry, absent], registry.blobs, Given(), scratch=registry.tmp)
    with pytest.raises(RefusedArtifact, match="at least one file"):
        registry.push({})


def test_what_the_pusher_says_wrongly_is_their_error(registry: Registry) -> None:
    for given in ({"tasks": ("fly",)}, {"options": {"x": "y" * 5000}}):
        with pytest.raises(InvalidInput):
            registry.push({"m.onnx": onnx_model()}, **given)
    with pytest.raises(RefusedArtifact, match=r"the entry 'x\.onnx' is not one of the files"):
        registry.push({"m.onnx": onnx_model()}, entry="x.onnx")


def inspect(registry: Registry, data: bytes, name: str, *, seconds: float, memory_bytes: int = 2**33) -> None:
    folder = registry.tmp / "files"
    folder.mkdir()
    (folder / name).write_bytes(data)
    inspector.inspect(InspectionJob(str(folder), (name,), "skops", name, seconds, memory_bytes), registry.tmp)


def test_a_model_that_makes_its_reader_loop_for_ever_is_refused_in_time(registry: Registry) -> None:
    with pytest.raises(RefusedArtifact, match="took longer than 4 s"):
        inspect(registry, tampered_tree(left_child=0, right_child=0), "m.skops", seconds=4)


def test_a_reader_that_needs_more_memory_than_it_may_have_ends_alone(registry: Registry) -> None:
    with pytest.raises(StokerError):
        inspect(registry, classifier(), "m.skops", seconds=20, memory_bytes=200 * 2**20)


def test_the_inspection_sees_no_secrets_of_its_parent(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert "HF_TOKEN" not in inspector._environment()


def test_a_card_is_read_strictly(registry: Registry) -> None:
    with pytest.raises(RefusedArtifact, match="given twice"):
        registry.push({"model.py": MODEL_PY, "stoker.yaml": b"tasks: [predict]\ntasks: [chat]"})
    with pytest.raises(RefusedArtifact, match="larger than"):
        registry.push({"model.py": MODEL_PY, "stoker.yaml": b"#" * (2**18 + 1)})


def test_models_of_other_sklearn_versions_do_not_print_into_the_reply(registry: Registry) -> None:
    data = classifier()
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "schema.json":
                schema = json.loads(content)
                schema["_skops_version"] = "0.1"
                content = json.dumps(schema).encode()
            target.writestr(name, content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert registry.push({"m.skops": out.getvalue()}).tasks == ("predict",)


def test_nothing_of_a_push_stays_in_the_scratch_folder_when_links_cannot_be_made(
    registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "blocked").write_bytes(b"")
    entries = registry.upload({"m.onnx": onnx_model()})
    with pytest.raises(NotADirectoryError):
        versions.build_manifest(entries, registry.blobs, Given(), scratch=tmp_path / "blocked")
    assert registry.leftovers() == []


def test_a_reference_goes_with_a_version_only_when_it_is_whole_and_the_models_own(registry: Registry) -> None:
    rows = {f"f{at}": np.arange(60.0) for at in range(4)}
    made = msgspec.json.encode(build(rows, source="rows.csv", made_at_s=0.0))
    manifest = registry.push({"model.py": MODEL_PY, REFERENCE_FILE: made})
    assert [entry.path for entry in manifest.files] == ["model.py", REFERENCE_FILE]
    with pytest.raises(RefusedArtifact, match="not a reference"):
        registry.push({"model.py": MODEL_PY, REFERENCE_FILE: made[:-1]})
    with pytest.raises(RefusedArtifact, match="larger than 524288 bytes"):
        registry.push({"model.py": MODEL_PY, REFERENCE_FILE: b" " * (REFERENCE_BYTES_MAX + 1)})
    del rows["f3"]
    other = msgspec.json.encode(build(rows, source="rows.csv", made_at_s=0.0))
    with pytest.raises(RefusedArtifact, match="3 columns, 'f0' first, are none of the model's"):
        registry.push({"model.py": MODEL_PY, REFERENCE_FILE: other})
