"""What replicas and agents say of themselves is in the history of a real platform, and counted once over kills."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stoker.client.registration import Registration
from stoker.client.upload import push
from tests.whole.load import Load
from tests.whole.nvml import Gpus
from tests.whole.rig import Platform, until

MODEL = """
import pathlib, time
class Model:
    inputs = {"x": ("FP32", [-1, 1])}
    outputs = {"y": ("FP32", [-1, 1])}
    def predict(self, inputs):
        time.sleep(0.2 if pathlib.Path("{folder}/slow").exists() else 0.02)
        return {"y": inputs["x"]}
"""
MANIFEST = """
apiVersion: stoker/v1
kind: Endpoint
metadata: {name: echo}
spec: {model: echo, replicas: {min: 1, max: 1}, resources: {cpu: 0.1, memory: 256Mi}}
"""
BODY = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}


def test_what_replicas_and_gpus_do_is_kept_and_counted_once_over_kills(
    fresh: Callable[..., Platform], tmp_path: Path
) -> None:
    gpus = Gpus(tmp_path / "nvml")
    platform = fresh()
    platform.environment["PYTHONPATH"] = str(gpus.folder)
    gpus.do(30, used_gib=6)
    platform.up()
    until(lambda: [each.gpus for each in platform.client.nodes()] == [1], what="the node tells of its GPU")
    (tmp_path / "echo").mkdir()
    (tmp_path / "echo" / "model.py").write_text(MODEL.replace("{folder}", str(tmp_path)))
    push(platform.client, "echo", tmp_path / "echo", Registration(files=()), lambda *_: None)
    platform.client.apply(MANIFEST.encode())
    until(lambda: platform.client.endpoint("default", "echo").status.replicas_ready, what="it is ready")
    answered = 0

    def ask(more: int) -> None:
        nonlocal answered
        with Load(f"{platform.url}/v2/models/echo/infer", platform.key, BODY, connections=2) as load:
            load.wait_for(more)
        answered += load.outcome.statuses[200]

    def said(text: str) -> float:
        lines = platform.client.query(text).lines
        return sum(line.values[-1] or 0.0 for line in lines)

    def all_counted() -> bool:
        return said('sum(increase(stoker_engine_finished_total{endpoint="echo"}[30m]))') == answered

    def restarted() -> bool:
        found = platform.client.endpoint("default", "echo").replicas
        return [(each.phase, each.restarts) for each in found] == [("ready", 1)]

    ask(20)
    platform.kill("control")
    until(platform.client.is_ready, what="control is back")
    until(all_counted, what="what was answered is counted, whoever was told of it before")
    platform.kill("default.echo")
    until(restarted, what="the replica is back")
    ask(20)
    until(all_counted, what="what two starts of the replica answered, each once")
    assert said('max(stoker_gpu_utilization_ratio{node="local", gpu="0"})') == pytest.approx(0.3)
    assert said('min(process_resident_memory_bytes{process="agent-local"})') > 1e6
    shown = platform.cli("describe", "echo")
    assert "In the last minute" in shown
    print(shown)
    node = platform.cli("describe", "node")
    assert "0 30% 6.0 GiB of 8.0 GiB" in " ".join(node.split()), node
    print(platform.cli("query", "max by (replica) (stoker_engine_running)"))

    # Somebody else takes the GPU, and the model's work takes longer.
    gpus.do(99, used_gib=6)
    (tmp_path / "slow").touch()
    with Load(f"{platform.url}/v2/models/echo/infer", platform.key, BODY, connections=2) as load:
        load.wait_for(30)

        def named() -> bool:
            causes = platform.client.why("default", "echo", since_s=10.0).diagnosis.causes
            return bool(causes) and causes[0].kind == "gpu_saturation"

        until(named, what="why names the GPU")
        until(lambda: "GPU local/0 busy" in platform.cli("why", "echo", "--since", "10s"), what="a person reads it too")
    platform.down()
