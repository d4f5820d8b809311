"""Models of an MLflow tracking server: found by run and by name, fetched whole, within bounds, with clear refusals."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.client.upload import find_files
from stoker.registry import tracking
from stoker.registry.tracking import Found
from stoker.types.errors import (
    InvalidInput,
    NotFound,
    RefusedArtifact,
    StokerError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from tests.registry.mlflow_server import Tracking, serve
from tests.registry.test_mlflow import ONNX, PICKLED, RUN

MODEL = "m-" + "0" * 32


@pytest.fixture
def server() -> Iterator[Tracking]:
    """A run with one model, which is version 3 and `prod` in the registry."""
    with serve() as made:
        made.run(RUN)
        put(made, f"1/{RUN}/artifacts/model")
        made.version("churn", 3, f"mlflow-artifacts:/1/{RUN}/artifacts/model", RUN, alias="prod")
        yield made


def put(server: Tracking, folder: str, description: str = ONNX) -> None:
    server.artifacts[f"{folder}/MLmodel"] = description.encode()
    server.artifacts[f"{folder}/model.onnx"] = b"weights"
    server.artifacts[f"{folder}/data/a b.bin"] = b"more of them"


def fetch(server: Tracking, named: str, folder: Path, **environ: str) -> Found:
    settings = tracking.settings_from({"MLFLOW_TRACKING_URI": f"{server.url}/", **environ})
    return tracking.fetch(f"mlflow:{named}", folder / "f", lambda *_: None, settings)


@pytest.mark.parametrize("named", [RUN, f"{RUN}/model", "models:/churn/3", "models:/churn@prod"])
def test_a_run_and_a_version_bring_the_whole_folder_of_the_model(server: Tracking, tmp_path: Path, named: str) -> None:
    found = fetch(server, named, tmp_path)
    assert found == Found("model.onnx", RUN, f"{server.url}/#{named}", tmp_path / "f")
    files = {path.relative_to(tmp_path / "f").as_posix(): path.read_bytes() for path in (tmp_path / "f").rglob("*.*")}
    assert files == {"model.onnx": b"weights", "data/a b.bin": b"more of them"}
    assert (tmp_path / "f" / "MLmodel").read_text() == ONNX


def test_models_that_are_kept_beside_runs_are_found_by_their_run_name_and_version(
    server: Tracking, tmp_path: Path
) -> None:
    run = RUN.replace("0", "9")
    server.run(run, models=(MODEL,))
    server.logged(MODEL, "classifier", run)
    server.version("spam", 1, f"models:/{MODEL}")
    put(server, f"1/models/{MODEL}/artifacts")
    for named in (run, f"{run}/classifier", f"{run}/{MODEL}", "models:/spam/1"):
        assert fetch(server, named, tmp_path / named.replace("/", "_")).run == run


@pytest.mark.parametrize(
    ("environ", "authorization"),
    [
        ({"MLFLOW_TRACKING_TOKEN": "t0ken"}, "Bearer t0ken"),
        ({"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "pass"}, "Basic YWRhOnBhc3M="),
    ],
)
def test_who_asks_is_said_as_the_environment_has_it(
    server: Tracking, tmp_path: Path, environ: dict[str, str], authorization: str
) -> None:
    server.authorization = authorization
    fetch(server, RUN, tmp_path, **environ)
    assert {each for _, each in server.asked} == {authorization}
    with pytest.raises(Unauthenticated, match="set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and"):
        fetch(server, RUN, tmp_path)


@pytest.mark.parametrize(
    ("named", "kind", "said"),
    [
        (RUN.replace("0", "8"), NotFound, f"has no run {RUN.replace('0', '8')}"),
        ("models:/gone/1", NotFound, "has no models:/gone/1"),
        ("models:/churn/latest", InvalidInput, "write mlflow:models:/NAME/VERSION or models:/NAME@ALIAS"),
        (f"{RUN}/other", NotFound, f"run {RUN} has no model at 'other'"),
        (f"{RUN}/../x", InvalidInput, "is refused"),
    ],
)
def test_what_is_not_there_is_told_by_its_name(
    server: Tracking, tmp_path: Path, named: str, kind: type[StokerError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        fetch(server, named, tmp_path)


def test_of_several_models_of_a_run_one_is_to_be_named(server: Tracking, tmp_path: Path) -> None:
    put(server, f"1/{RUN}/artifacts/other")
    with pytest.raises(InvalidInput, match=f"not exactly one model: model, other; write mlflow:{RUN}/ARTIFACT"):
        fetch(server, RUN, tmp_path)
    assert fetch(server, f"{RUN}/other", tmp_path).entry == "model.onnx"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (
            "s3://bucket/1/model",
            r"lie at s3://bucket/1/model, .*credentials of S3 .*--artifact-uri s3://bucket/1/model -d",
        ),
        ("gs://bucket/1", "credentials of Google Cloud Storage"),
        ("wasbs://ann:key@account.blob.core.windows.net/1", r"wasbs://account\.blob\.core\.windows\.net/1, .*Azure"),
        ("abfss://box@account.dfs.core.windows.net/1", r"abfss://box@account\.dfs.*credentials of Azure"),
        ("ftp://host/1", "credentials of that store"),
        ("file://other-host/srv/1", "does not give them out"),
        ("mlflow-artifacts://elsewhere:99/1", "does not give them out"),
    ],
)
def test_files_in_a_store_of_their_own_are_told_with_what_fetches_them(
    server: Tracking, tmp_path: Path, uri: str, said: str
) -> None:
    server.version("far", 1, uri)
    server.run(RUN.replace("0", "7"), uri)
    for named in ("models:/far/1", RUN.replace("0", "7")):
        with pytest.raises(Unsupported, match=said) as refused:
            fetch(server, named, tmp_path)
        assert "key@" not in str(refused.value)


def on_disk(folder: Path) -> Path:
    """Lay out a run's artifacts with one model, as a server without a proxy does."""
    model = folder / "mlruns" / "1" / RUN / "artifacts" / "a model"
    model.mkdir(parents=True)
    (model / "MLmodel").write_text(ONNX)
    (model / "model.onnx").write_bytes(b"weights")
    return model


@pytest.mark.parametrize("scheme", ["file://", "file://localhost", ""])
def test_files_on_this_disk_are_read_below_the_folder_that_was_allowed(
    server: Tracking, tmp_path: Path, scheme: str
) -> None:
    model = on_disk(tmp_path)
    server.run(RUN, f"{scheme}{model.parent}")
    server.version("near", 1, f"{scheme}{model}".replace(" ", "%20") if scheme else str(model), RUN)
    settings = tracking.settings_from({"MLFLOW_TRACKING_URI": server.url})

    def near(named: str, allowed: Path | None) -> Found:
        return tracking.fetch(f"mlflow:{named}", tmp_path / "f", lambda *_: None, settings, allowed)

    for named in (RUN, f"{RUN}/a model", "models:/near/1"):
        found = near(named, tmp_path / "mlruns")
        assert (found.entry, found.run, found.folder) == ("model.onnx", RUN, model.resolve())
        with pytest.raises(Unsupported, match=r"allow the folder \(stoker push --artifacts FOLDER\)"):
            near(named, None)
        with pytest.raises(Unsupported, match="is not below"):
            near(named, tmp_path / "other")
    assert not (tmp_path / "f").exists()


def test_no_path_and_no_link_leads_out_of_the_folder_that_was_allowed(server: Tracking, tmp_path: Path) -> None:
    model = on_disk(tmp_path)
    allowed, secret = tmp_path / "mlruns", tmp_path / "secret"
    secret.mkdir()
    (secret / "MLmodel").write_text(ONNX)
    (allowed / "link").symlink_to(secret)
    settings = tracking.settings_from({"MLFLOW_TRACKING_URI": server.url})
    for at, uri in enumerate(
        (f"file://{allowed}/../secret", f"file://{allowed}/%2e%2e/secret", f"{allowed}/link", "/")
    ):
        server.version("out", at, uri)
        with pytest.raises(Unsupported, match="is not below"):
            tracking.fetch(f"mlflow:models:/out/{at}", tmp_path / "f", lambda *_: None, settings, allowed)
    (model / "model.onnx").unlink()
    (model / "model.onnx").symlink_to(secret / "MLmodel")
    server.version("near", 1, str(model))
    found = tracking.fetch("mlflow:models:/near/1", tmp_path / "f", lambda *_: None, settings, allowed)
    with pytest.raises(RefusedArtifact, match="outside the folder"):
        find_files(found.folder)


def test_a_model_that_cannot_be_served_is_told_before_its_files_are_fetched(server: Tracking, tmp_path: Path) -> None:
    put(server, f"1/{RUN}/artifacts/model", PICKLED)
    with pytest.raises(RefusedArtifact, match="pickle, which runs code"):
        fetch(server, RUN, tmp_path)
    assert not [path for path, _ in server.asked if path.endswith("model.onnx")]


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "a/../../b", "nul\0"])
def test_names_that_lead_out_of_the_folder_are_refused(server: Tracking, tmp_path: Path, path: str) -> None:
    server.listing[f"1/{RUN}/artifacts/model"] = [{"path": "MLmodel"}, {"path": "model.onnx"}, {"path": path}]
    with pytest.raises(RefusedArtifact, match="it has a file"):
        fetch(server, RUN, tmp_path)
    assert sorted(each.name for each in tmp_path.rglob("*") if each.is_file()) == ["MLmodel"]


def test_a_listing_without_end_and_a_description_without_end_are_given_up(
    server: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "FILES_MAX", 2)
    with pytest.raises(RefusedArtifact, match="more than 2 files"):
        fetch(server, RUN, tmp_path)
    monkeypatch.setattr(tracking, "FOLDERS_MAX", 1)
    with pytest.raises(RefusedArtifact, match="more than 1 folders"):
        fetch(server, RUN, tmp_path)
    server.artifacts[f"1/{RUN}/artifacts/model/MLmodel"] = b"#" * (tracking.DESCRIPTION_BYTES_MAX + 1)
    with pytest.raises(TooLarge):
        fetch(server, RUN, tmp_path)


def test_what_is_no_tracking_server_is_told(server: Tracking, tmp_path: Path) -> None:
    server.answers["runs/get", RUN] = {"hello": "world"}
    with pytest.raises(Unavailable, match="in a form that is not MLflow's"):
        fetch(server, RUN, tmp_path)
    with pytest.raises(InvalidInput, match="MLFLOW_TRACKING_USERNAME and _PASSWORD"):
        tracking.settings_from({"MLFLOW_TRACKING_URI": "https://ada:pass@host"})


def test_a_server_is_asked_only_where_there_is_one_and_no_folder_of_that_name(tmp_path: Path) -> None:
    there = {"MLFLOW_TRACKING_URI": "https://host/mlflow"}
    assert tracking.is_on_server(f"mlflow:{RUN}/model", there, tmp_path)
    assert tracking.is_on_server("mlflow:models:/a/1", there, tmp_path)
    assert not tracking.is_on_server("mlflow:folder", there, tmp_path)
    assert not tracking.is_on_server(f"mlflow:{RUN}", {}, tmp_path)
    assert not tracking.is_on_server(f"mlflow:{RUN}", {"MLFLOW_TRACKING_URI": "file:///srv"}, tmp_path)
    with pytest.raises(InvalidInput, match="set MLFLOW_TRACKING_URI"):
        tracking.is_on_server("mlflow:models:/a/1", {}, tmp_path)
