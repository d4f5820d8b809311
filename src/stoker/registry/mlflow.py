"""Models that MLflow keeps: which files of a model folder can be served, and the run that made them.

`mlflow:FOLDER` is a folder with an `MLmodel` file; `mlflow:RUN_ID[/ARTIFACT]` is looked up in a tracking store on this
disk (on a server: tracking.py). MLflow itself is not needed and nothing of the model is loaded.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from stoker.protocol import yamltree
from stoker.registry.paths import unsafe_reason
from stoker.types.errors import InvalidInput, NotFound, RefusedArtifact, Unsupported

PREFIX: Final = "mlflow:"
DESCRIPTION: Final = "MLmodel"
DESCRIPTION_BYTES_MAX: Final = 2**20
EXPERIMENTS_MAX: Final = 10_000
RUN: Final = re.compile(r"[0-9a-f]{32}")


class Found(NamedTuple):
    """A model folder, the file in it that is served, and the run that made it ("" when it does not say)."""

    folder: Path
    entry: str
    run: str


class _Description(msgspec.Struct):
    flavors: dict[str, dict[str, Any]]
    run_id: str | None = None


def resolve(source: str, environ: Mapping[str, str], here: Path) -> Found:
    """Return what `mlflow:…` means.

    Args:
        source: with its prefix.
        environ: MLFLOW_TRACKING_URI says where the tracking store is; `mlruns` below `here` without it.
        here: the working folder.

    Raises:
        NotFound: no such folder, run or artifact.
        InvalidInput: several models; name the artifact.
        RefusedArtifact: no flavor that can be served; the message says what to do instead.
        Unsupported: the tracking store is a database.
    """
    named = source.removeprefix(PREFIX)
    run, _, artifact = named.partition("/")
    if not RUN.fullmatch(run):
        folder = here / named
        if not (folder / DESCRIPTION).is_file():
            raise NotFound(f"there is no {DESCRIPTION} file in {folder}; write mlflow:FOLDER or mlflow:RUN_ID/ARTIFACT")
        return _read(folder)
    return _read(_artifact(_store(environ, here), run, artifact))


def _store(environ: Mapping[str, str], here: Path) -> Path:
    address = environ.get("MLFLOW_TRACKING_URI", "")
    parts = urlsplit(address)
    if parts.scheme not in ("", "file"):
        raise Unsupported(
            f"the tracking store is {parts.scheme}:…, and only folders and servers are asked; fetch the model first: "
            "mlflow artifacts download --run-id RUN_ID --artifact-path ARTIFACT, then push mlflow:FOLDER"
        )
    return here / (unquote(parts.path) if address else "mlruns")


def _artifact(store: Path, run: str, artifact: str) -> Path:
    if artifact and (reason := unsafe_reason(artifact)):
        raise InvalidInput(f"the artifact {artifact[:200]!r} is refused: {reason}")
    experiments = list(store.iterdir())[:EXPERIMENTS_MAX] if store.is_dir() else []
    homes = [each / run / "artifacts" for each in experiments if (each / run / "artifacts").is_dir()]
    if not homes:
        raise NotFound(f"no run {run} in {store}; MLFLOW_TRACKING_URI names another store")
    if artifact:
        if not (homes[0] / artifact / DESCRIPTION).is_file():
            raise NotFound(f"run {run} has no model at {artifact!r}")
        return homes[0] / artifact
    models = sorted(path.parent for path in homes[0].glob(f"*/{DESCRIPTION}"))
    if len(models) != 1:
        names = ", ".join(path.name for path in models[:8]) or "none"
        raise InvalidInput(f"run {run} has not exactly one model: {names}; write mlflow:{run}/ARTIFACT")
    return models[0]


def served(file: Path) -> tuple[str, str]:
    """Return the file that a description names to be served, and its run. Raises RefusedArtifact."""
    if file.stat().st_size > DESCRIPTION_BYTES_MAX:
        raise RefusedArtifact(f"{file} is larger than {DESCRIPTION_BYTES_MAX} bytes")
    documents, faults = yamltree.parse(file.read_bytes())
    try:
        if faults or len(documents) != 1:
            raise ValueError(faults[0].message if faults else f"it has {len(documents)} documents")
        described = msgspec.convert(yamltree.plain(documents[0]), _Description)
    except ValueError as error:
        raise RefusedArtifact(f"{file} is no description of a model: {error}") from error
    entry = _served(described.flavors)
    if not entry:
        raise RefusedArtifact(f"{file} has the flavors {', '.join(described.flavors)}, and {_advice(described)}")
    if reason := unsafe_reason(entry):
        raise RefusedArtifact(f"{file} names the file {entry[:200]!r}: {reason}")
    return entry, described.run_id or ""


def _read(folder: Path) -> Found:
    file = folder / DESCRIPTION
    entry, run = served(file)
    if not (folder / entry).is_file():
        raise NotFound(f"{file} names {entry}, which is not there")
    return Found(folder, entry, run)


def _served(flavors: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the file of the first flavor that can be served, "" when there is none."""
    if isinstance(data := flavors.get("onnx", {}).get("data"), str):
        return data
    saved = flavors.get("sklearn", {})
    if saved.get("serialization_format") == "skops" and isinstance(data := saved.get("pickled_model"), str):
        return data
    return ""


def _advice(described: _Description) -> str:
    if "sklearn" in described.flavors:
        return (
            "its scikit-learn model is a pickle, which runs code when it is loaded: "
            "log it with serialization_format='skops', or convert it with skl2onnx and mlflow.onnx.log_model"
        )
    return "none of them can be served: convert the model to ONNX and log it with mlflow.onnx.log_model"
