"""Control with a real agent, gateway and replicas: rollouts under load, crashes with their reasons, kills."""

import http.client
import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec

from stoker.core.shapes import AWAITED_S_MAX
from stoker.store import shapes
from stoker.store.engine import Database, open_engine, sqlite_url
from stoker.telemetry.build import build
from stoker.types.errors import StokerError
from stoker.types.shapes import Shape, ShapeCost
from stoker.types.statuses import Condition, EndpointStatus
from tests.control.rig import WAIT_S, Rig, conditions, endpoint, infer, is_served, python_model, until

READY_S = WAIT_S


def apply(rig: Rig, manifest: dict[str, object]) -> None:
    status, body, _ = rig.request("POST", "/api/v1/apply", manifest)
    assert status == 200, body


def serving(rig: Rig, name: str = "a") -> str:
    return rig.client.endpoint("default", name).status.serving


def wait_settled(rig: Rig, revision: str, name: str = "a") -> None:
    def settled() -> bool:
        found = conditions(rig, name)
        return serving(rig, name) == revision and found["Ready"].status and found["Progressing"].reason == "Complete"

    until(settled, f"{revision} serves alone: {rig.client.endpoint('default', name)}", READY_S)


def numbers(rig: Rig) -> str:
    """Return control's own series; those of other processes have their name."""
    _, text, _ = rig.request("GET", "/metrics")
    own = ("stoker_replica", "stoker_cold_start", "stoker_restarts", "stoker_drift", "stoker_predictions")
    return "\n".join(line for line in text.decode().splitlines() if line.startswith(own))


def replica_processes(rig: Rig) -> dict[str, int]:
    return {name: pid for name, pid in rig.processes().items() if name.startswith("default.")}


class Load:
    """Calls an endpoint without pause and keeps what went wrong."""

    def __init__(self, rig: Rig, name: str = "a") -> None:
        self.values: Counter[float] = Counter()
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(rig, name)) for _ in range(2)]

    def _run(self, rig: Rig, name: str) -> None:
        while not self._stop.is_set():
            try:
                self.values[infer(rig, name)[0]] += 1
            except (AssertionError, OSError, http.client.HTTPException) as wrong:
                self.failures.append(repr(wrong))

    def __str__(self) -> str:
        return f"{dict(self.values)} answered, {len(self.failures)} failed: {self.failures[-3:]}"

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def test_rolling_out_rolling_back_and_scaling_lose_no_request(rig: Rig, onnx_files: list[Path]) -> None:
    rig.start_agent()
    for file in onnx_files[:2]:
        rig.push("m", file)
    apply(rig, endpoint(model="m@1"))
    wait_settled(rig, "default.a-1")
    until(lambda: answers(rig), "the gateway serves it")
    with Load(rig) as load:
        until(lambda: load.values[4.0] > 20, "the first version answers")
        database = Database(open_engine(sqlite_url(rig.home.database)))
        # So long that it is only worth it because the first version serves meanwhile.
        cost = ShapeCost(Shape(3), 1000, AWAITED_S_MAX + 1, 0.1)
        database.write(lambda connection: shapes.keep(connection, ("default", "a"), [cost], time.time()))
        apply(rig, endpoint(model="m@2", replicas={"min": 2, "max": 2}))
        wait_settled(rig, "default.a-2")
        specs = [rig.home.replicas / f"{name}.json" for name in replica_processes(rig) if "a-2" in name]
        assert [json.loads(spec.read_bytes())["shapes"] for spec in specs] == [[{"rows": 3, "sizes": []}]] * 2
        until(lambda: load.values[8.0] > 20, "the second version answers")
        apply(rig, endpoint(model="m@2", replicas={"min": 1, "max": 1}))
        until(lambda: len(replica_processes(rig)) == 1, "one replica is left", READY_S)
        rig.client.rollback("default", "a", 1)
        wait_settled(rig, "default.a-1")
    assert load.failures == []
    stats = rig.client.stats()
    assert [(each.index, each.build) for each in stats.gateways] == [(0, build())]
    (mine,) = stats.endpoints
    assert (mine.task, mine.ready, mine.replicas_ready) == ("predict", True, 1)
    assert mine.requests_per_s > 0
    assert 0 < mine.p50_s <= mine.p99_s
    assert mine.errors_per_s == 0
    asked = 'increase by (code) (stoker_requests_total{project="default", endpoint="a"}[1h])'

    def answered() -> float:
        return {line.labels["code"]: line.values[0] or 0 for line in rig.client.query(asked).lines}.get("200", 0)

    until(lambda: answered() > 20, "the history saw the gateway's requests")
    until(lambda: len(replica_processes(rig)) == 1, "one replica is left")
    until(lambda: len(list(rig.home.replicas.glob("*.json"))) == 1, "files of ended replicas are gone")
    every = sorted(["control", "agent-local", *replica_processes(rig)])
    until(lambda: measured(rig) == every, lambda: f"{every} are measured, not {measured(rig)}")
    text = rig.request("GET", "/metrics", key=None)[1].decode()
    assert 'stoker_cold_start_seconds_count{project="default",endpoint="a",node="local",phase="engine"}' in text
    wanted = {"order", "imports", "verify", "engine", "weights", "warm-up", "total", "first answer"}
    until(lambda: wanted <= first_start(rig).keys(), lambda: f"its phases are known: {first_start(rig)}")
    phases = first_start(rig)
    assert {"process", "forked"} & set(phases)
    text = rig.request("GET", "/metrics", key=None)[1].decode()
    sums = re.findall(r'^stoker_cold_start_seconds_sum\{.*endpoint="a".*phase="([^"]+)"\} (\S+)', text, re.MULTILINE)
    spent = {name: float(seconds) for name, seconds in sums}
    assert phases.keys() - {"order"} <= spent.keys()
    parts = sum(seconds for name, seconds in spent.items() if name not in ("order", "total", "first answer"))
    # Of all starts together: medians of phases need not add up to the median of wholes.
    assert 0 < parts < 1.1 * spent["total"], "what is measured adds up to what the agent saw"


def measured(rig: Rig) -> list[str]:
    """Return whose memory control's metrics tell."""
    text = rig.request("GET", "/metrics", key=None)[1].decode()
    return sorted(re.findall(r'^process_resident_memory_bytes\{process="([^"]+)"\}', text, re.MULTILINE))


def first_start(rig: Rig) -> dict[str, float]:
    """Return what the first revision's starts usually took, by phase."""
    found = [each for each in rig.client.endpoint("default", "a").starts if each.revision == "default.a-1"]
    return {each.phase: each.median_s for one in found[:1] for each in one.phases}


def answers(rig: Rig) -> bool:
    try:
        infer(rig)
    except (AssertionError, OSError):
        return False
    return True


def test_a_revision_that_crashes_takes_no_traffic_and_tells_why_in_its_own_words(
    rig: Rig, onnx_files: list[Path], tmp_path: Path
) -> None:
    rig.start_agent()
    rig.push("m", onnx_files[0])
    rig.push("m", python_model(tmp_path / "bad", load="raise ValueError('the weights are for another shape')"))
    apply(rig, endpoint(model="m@1"))
    wait_settled(rig, "default.a-1")
    until(lambda: is_served(rig), "the gateway serves it")
    apply(rig, endpoint(model="m@2", gates={"schema": "off"}))
    until(lambda: conditions(rig)["Progressing"].reason == "CrashLoop", "it crashes three times", READY_S)
    found = conditions(rig)
    assert not found["Progressing"].status
    assert found["Progressing"].message.startswith("replica crashed 3 times loading: ")
    assert "the weights are for another shape" in found["Progressing"].message
    assert found["Ready"].status
    assert serving(rig) == "default.a-1"
    assert infer(rig) == [4.0, 4.0, 4.0]
    broken = next(each for each in rig.client.endpoint("default", "a").replicas if each.revision == "default.a-2")
    assert "another shape" in broken.last_error
    assert b"another shape" in b"".join(rig.client.replica_log(broken.replica))
    rig.client.rollback("default", "a", 1)
    until(lambda: len(replica_processes(rig)) == 1, "the broken replica is gone", READY_S)


def test_without_room_for_the_next_revision_the_condition_has_the_arithmetic(rig: Rig, onnx_files: list[Path]) -> None:
    rig.start_apart()
    rig.push("m", onnx_files[0])
    apply(rig, endpoint())
    wait_settled(rig, "default.a-1")
    cores = rig.client.nodes()[0].cores
    apply(rig, endpoint(resources={"cpu": cores, "memory": "256Mi"}))
    until(lambda: conditions(rig)["Progressing"].reason == "NoCapacity", "it does not fit")
    noun = "core" if cores == 1 else "cores"
    expected = (
        f"needs {cores} {noun}, largest free is {cores - 0.25} on node test; "
        "default.a-1 has that room: `rollout.strategy: recreate` has it go first"
    )
    assert conditions(rig)["Progressing"].message == expected
    assert conditions(rig)["Ready"].status


def test_control_killed_in_the_middle_of_a_rollout_loses_no_request(rig: Rig, onnx_files: list[Path]) -> None:
    rig.start_agent()
    for file in onnx_files[:2]:
        rig.push("m", file)
    apply(rig, endpoint(model="m@1"))
    wait_settled(rig, "default.a-1")
    until(lambda: answers(rig), "the gateway serves it")
    with Load(rig) as load:
        until(lambda: load.values[4.0] > 20, "the first version answers")
        apply(rig, endpoint(model="m@2"))
        os.kill(rig.processes()["control"], signal.SIGKILL)
        until(lambda: ready_with(rig, "a", "m@2"), "control is back and finished", READY_S)
        until(lambda: load.values[8.0] > 20, "the second version answers")
    assert load.failures == []


def test_control_killed_again_and_again_in_the_middle_of_changes_converges_and_reloads_nothing(
    rig: Rig, onnx_files: list[Path]
) -> None:
    random.seed(11)
    rig.start_apart()
    for file in onnx_files:
        rig.push("m", file)
    apply(rig, endpoint("steady", model="m@1"))
    wait_settled(rig, "default.steady-1", "steady")
    steady = replica_processes(rig)
    for at in range(5):
        apply(rig, endpoint("a", model=f"m@{at % 3 + 1}"))
        time.sleep(random.uniform(0.0, 0.5))
        rig.kill()
        rig.start()
    until(lambda: ready_with(rig, "a", "m@2"), "the last version serves", READY_S)
    until(lambda: len(rig.client.endpoint("default", "a").replicas) == 1, "one replica is left")
    until(lambda: len(replica_processes(rig)) == 2, "nothing else is left running", READY_S)
    assert steady.items() <= replica_processes(rig).items(), "nothing was reloaded"
    until(lambda: len(list(rig.home.replicas.glob("*.json"))) == 2, "files of ended replicas are gone")


def ready_with(rig: Rig, name: str, model: str) -> bool:
    try:
        detail = rig.client.endpoint("default", name)
    except StokerError:
        return False
    serves = [each.model for each in detail.revisions if each.serving]
    reasons = [each.reason for each in detail.status.conditions]
    return serves == [model] and reasons[:2] == ["ReplicasReady", "Complete"]


def test_a_lost_database_ends_what_ran_and_serves_what_is_asked_for_next(rig: Rig, onnx_files: list[Path]) -> None:
    rig.start_apart()
    rig.push("m", onnx_files[0])
    apply(rig, endpoint())
    wait_settled(rig, "default.a-1")
    rig.kill()
    rig.start()  # the second to hold the lease: the agent obeys token 2 from now on
    apply(rig, endpoint(resources={"cpu": 0.3, "memory": "256Mi"}))
    wait_settled(rig, "default.a-2")
    assert rig.client.nodes()[0].fence == 2
    rig.kill()
    rig.has_database = False
    for path in rig.home.root.glob("state.db*"):
        path.unlink()
    rig.start()
    until(lambda: not replica_processes(rig), "what nobody knows is ended", READY_S)
    rig.push("m", onnx_files[1])
    apply(rig, endpoint())
    wait_settled(rig, "default.a-1")


def test_deleting_an_endpoint_ends_its_processes_and_a_new_one_of_that_name_starts_fresh(
    rig: Rig, onnx_files: list[Path]
) -> None:
    rig.start_apart()
    rig.push("m", onnx_files[0])
    apply(rig, endpoint())
    wait_settled(rig, "default.a-1")
    old = set(replica_processes(rig))
    until(lambda: 'stoker_replicas_wanted{project="default",endpoint="a"}' in numbers(rig), "its series are there")
    rig.client.delete_endpoint("default", "a")
    until(lambda: not rig.client.endpoints(), "it is gone", READY_S)
    until(lambda: 'endpoint="a"' not in numbers(rig), "its series are gone", READY_S)
    until(lambda: not replica_processes(rig), "its processes are gone")
    until(lambda: not list(rig.home.replicas.iterdir()), "its files are gone")
    apply(rig, endpoint())
    wait_settled(rig, "default.a-1")
    assert old.isdisjoint(replica_processes(rig))


def test_an_agent_that_is_gone_and_back_changes_nothing(rig: Rig, onnx_files: list[Path]) -> None:
    rig.start_agent()
    rig.push("m", onnx_files[0])
    apply(rig, endpoint())
    wait_settled(rig, "default.a-1")
    before = replica_processes(rig)
    assert rig.process is not None
    rig.process.send_signal(signal.SIGSTOP)
    stands = standing(rig)
    made = rig.client.create_key("default", "meanwhile", admin=False, expires_in_s=None)
    assert made.id in rig.key_ids()
    rig.process.send_signal(signal.SIGCONT)
    until(rig.client.nodes, "the agent is back")
    assert standing(rig) == stands
    assert replica_processes(rig) == before


def standing(rig: Rig) -> tuple[EndpointStatus, list[Condition]]:
    """Return how the endpoint stands by the loop alone; others add conditions at times of their own."""
    status = rig.client.endpoint("default", "a").status
    said = [each for each in status.conditions if each.type in ("Ready", "Progressing")]
    return msgspec.structs.replace(status, conditions=()), said
