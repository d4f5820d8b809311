"""Models of a real MLflow tracking server, fetched by run, by name and by alias, and who asks.

By name, `pytest bench/test_mlflow.py`: MLflow is installed into a folder of its own in the benchmark's cache (1 GB).
"""

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.peers.install import Package, place
from bench.up import free_port
from stoker.client.upload import find_files
from stoker.registry import tracking
from stoker.registry.precheck import check_local
from stoker.types.errors import NotFound, RefusedArtifact

MLFLOW = Package("mlflow", "3.17.2", ("onnx==1.23.2", "onnxruntime==1.32.0"))
PATIENCE_S = 120.0
LOG = """
import sys, mlflow, mlflow.onnx, mlflow.sklearn
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression
mlflow.set_tracking_uri(sys.argv[1])
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negated", ends[:1], ends[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
with mlflow.start_run() as run:
    mlflow.onnx.log_model(model, name="model", registered_model_name="churn", save_as_external_data=False)
mlflow.MlflowClient().set_registered_model_alias("churn", "prod", "1")
with mlflow.start_run():
    mlflow.sklearn.log_model(LogisticRegression(), name="model", registered_model_name="pickled",
                             serialization_format="cloudpickle")
print(run.info.run_id)
"""


class Served(NamedTuple):
    """A server, and the run that made `churn` version 1, which is `prod`."""

    url: str
    run: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder, home = tmp_path_factory.mktemp("mlflow"), place(MLFLOW)
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(home / "bin" / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", "sqlite:///store.db", "--artifacts-destination", "./kept"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        answers(f"{url}/health", server)
        logged = [str(home / "bin" / "python"), "-c", LOG, url]
        done = subprocess.run(logged, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        yield Served(url, done.stdout.split()[-1])
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(url: str, server: "subprocess.Popen[bytes]") -> None:
    """Return once `url` answers."""
    end_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < end_s, "the server did not start"
            time.sleep(0.2)


def fetch(served: Served, named: str, folder: Path) -> tracking.Found:
    settings = tracking.settings_from({"MLFLOW_TRACKING_URI": served.url})
    return tracking.fetch(f"mlflow:{named}", folder, lambda *_: None, settings)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("named", ["RUN", "RUN/model", "models:/churn/1", "models:/churn@prod"])
def test_a_model_comes_by_run_by_version_and_by_alias_and_can_be_pushed(
    served: Served, tmp_path: Path, named: str
) -> None:
    found = fetch(served, named.replace("RUN", served.run), tmp_path / "f")
    assert (found.entry, found.run) == ("model.onnx", served.run)
    assert {"MLmodel", "model.onnx", "conda.yaml"} <= {path.name for path in (tmp_path / "f").iterdir()}
    check_local(find_files(tmp_path / "f"), None, found.entry)


def test_what_cannot_be_served_or_is_not_there_is_told(served: Served, tmp_path: Path) -> None:
    with pytest.raises(RefusedArtifact, match="pickle, which runs code"):
        fetch(served, "models:/pickled/1", tmp_path / "p")
    with pytest.raises(NotFound, match="has no models:/churn/7"):
        fetch(served, "models:/churn/7", tmp_path / "n")
