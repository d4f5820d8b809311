"""Models as MLflow writes them: which of their files is served, by which run, and what is said where none can be."""

from pathlib import Path

import pytest

from stoker.registry import mlflow
from stoker.types.errors import InvalidInput, NotFound, RefusedArtifact, StokerError, Unsupported

RUN = "0123456789abcdef0123456789abcdef"
ONNX = f"""
artifact_path: model
flavors:
  onnx:
    code: null
    data: model.onnx
    onnx_version: 1.17.0
    providers: [CPUExecutionProvider]
  python_function:
    data: model.onnx
    env: {{conda: conda.yaml, virtualenv: python_env.yaml}}
    loader_module: mlflow.onnx
    python_version: 3.11.9
mlflow_version: 3.4.0
model_size_bytes: 1234
model_uuid: aabbccdd
run_id: {RUN}
utc_time_created: '2026-03-01 10:11:12.131415'
"""
PICKLED = """
flavors:
  python_function: {loader_module: mlflow.sklearn, model_path: model.pkl}
  sklearn: {pickled_model: model.pkl, serialization_format: cloudpickle, sklearn_version: 1.6.0}
"""
SKOPS = PICKLED.replace("cloudpickle", "skops").replace("model.pkl", "model.skops")


def model(folder: Path, description: str = ONNX, file: str = "model.onnx") -> Path:
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text(description)
    (folder / file).write_bytes(b"x")
    return folder


def test_a_folder_says_its_file_and_run(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    assert mlflow.resolve("mlflow:m", {}, tmp_path) == (folder, "model.onnx", RUN)
    assert mlflow.resolve(f"mlflow:{folder}", {}, Path("/")) == (folder, "model.onnx", RUN)
    kept = model(tmp_path / "s", SKOPS, "model.skops")
    assert mlflow.resolve("mlflow:s", {}, tmp_path) == (kept, "model.skops", "")


def test_a_run_is_found_in_the_store(tmp_path: Path) -> None:
    folder = model(tmp_path / "mlruns" / "1" / RUN / "artifacts" / "model")
    assert mlflow.resolve(f"mlflow:{RUN}", {}, tmp_path).folder == folder
    elsewhere = {"MLFLOW_TRACKING_URI": f"file://{tmp_path}/mlruns"}
    assert mlflow.resolve(f"mlflow:{RUN}/model", elsewhere, Path("/")).folder == folder
    model(folder.parent / "other")
    with pytest.raises(InvalidInput, match="not exactly one model: model, other"):
        mlflow.resolve(f"mlflow:{RUN}", {}, tmp_path)


@pytest.mark.parametrize(
    ("description", "kind", "said"),
    [
        (PICKLED, RefusedArtifact, "pickle, which runs code.*skops"),
        ("flavors:\n  keras: {data: data}\n", RefusedArtifact, "convert the model to ONNX"),
        ("flavors: {}\n", RefusedArtifact, "convert the model to ONNX"),
        ("run_id: x\n", RefusedArtifact, "no description"),
        ("flavors: [", RefusedArtifact, "no description"),
        ("", RefusedArtifact, "no description"),
        ("a: &a [x]\nflavors: *a\n", RefusedArtifact, "no description"),
        (ONNX.replace("data: model.onnx", "data: ../../secret"), RefusedArtifact, "names the file '../../secret'"),
        (ONNX.replace("data: model.onnx", "data: gone.onnx"), NotFound, "gone.onnx, which is not there"),
    ],
)
def test_what_cannot_be_served_is_told_with_what_to_do(
    tmp_path: Path, description: str, kind: type[StokerError], said: str
) -> None:
    model(tmp_path / "m", description)
    with pytest.raises(kind, match=said):
        mlflow.resolve("mlflow:m", {}, tmp_path)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    for source in ("mlflow:nowhere", f"mlflow:{RUN}", f"mlflow:{RUN}/model"):
        with pytest.raises(NotFound):
            mlflow.resolve(source, {}, tmp_path)
    model(tmp_path / "mlruns" / "1" / RUN / "artifacts" / "model")
    with pytest.raises(InvalidInput, match="is refused"):
        mlflow.resolve(f"mlflow:{RUN}/../../x", {}, tmp_path)
    with pytest.raises(Unsupported, match="mlflow artifacts download"):
        mlflow.resolve(f"mlflow:{RUN}", {"MLFLOW_TRACKING_URI": "http://tracking:5000"}, tmp_path)
