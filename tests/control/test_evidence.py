"""Labels as evidence in a rollout: each arm's own, since it began, only ever more; and a bad canary that they end."""

import http.client
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stoker.client.rollouts import RolloutClient
from stoker.control import evidence
from stoker.core.feedback import Label
from stoker.core.rollout.state import RolloutState
from stoker.observe.feedback.store import FeedbackStore, Source
from stoker.store import endpoints, rollouts
from stoker.store.engine import Connection, Database
from stoker.store.projects import put as put_project
from stoker.types.errors import NotFound
from stoker.types.feedback import Prediction
from stoker.types.resources import EndpointSpec, Feedback
from stoker.types.rollouts import WRONG, Arms
from tests.control.rig import WAIT_S, Rig, endpoint, is_served, until
from tests.databases import migrated
from tests.store import rows
from tests.store.test_rollouts import state

SAME = 'return {"y": inputs["x"]}'
SWAPPED = 'return {"y": inputs["x"][:, ::-1].copy()}'
MODEL = """
class Model:
    inputs = {{"x": ("FP32", [-1, 2])}}
    outputs = {{"y": ("FP32", [-1, 2])}}
    def load(self, folder):
        pass
    def predict(self, inputs):
        {}
"""


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore(tmp_path / "feedback.db")


def predicts(
    store: FeedbackStore, revision: str, ids: range, at_s: float, max_: int = 1000, tolerance: float | None = None
) -> None:
    source = Source("default", "a", revision, 1e9, max_, tolerance)
    said: float | str = "1" if tolerance is None else 1.0
    store.put(source, [Prediction(f"{revision}-{at}", at_s, said) for at in ids], at_s)


def labels(store: FeedbackStore, revision: str, ids: range, truth: str | float, at_s: float = 100.0) -> None:
    how = "label" if isinstance(truth, str) else "value"
    store.label("default", [Label(f"{revision}-{at}", how, truth, at_s) for at in ids], at_s)


def seen(store: FeedbackStore, of: RolloutState) -> tuple[tuple[int, int], tuple[int, int]]:
    arms = evidence.labelled(store, of).arms
    canary, baseline = arms.canary, arms.baseline
    return (canary.bad.get(WRONG, 0), canary.total), (baseline.bad.get(WRONG, 0), baseline.total)


def test_only_what_each_arm_predicted_since_the_rollout_began_counts(store: FeedbackStore) -> None:
    one = state(began_s=10.0)
    predicts(store, "default.a-1", range(5), 9.0)
    predicts(store, "default.a-1", range(5, 15), 11.0)
    predicts(store, "default.a-2", range(4), 11.0)
    predicts(store, "default.a-7", range(3), 11.0)
    for revision, ids in (("default.a-1", range(12)), ("default.a-2", range(3)), ("default.a-7", range(3))):
        labels(store, revision, ids, "0")
    assert seen(store, one) == ((3, 3), (7, 7))
    labels(store, "default.a-1", range(5, 9), "1", 101.0)  # it turned out otherwise
    assert seen(store, one) == ((3, 3), (3, 7))
    store.close()


def test_a_value_beyond_the_tolerance_is_wrong_and_without_one_nothing_is(store: FeedbackStore) -> None:
    one = state(began_s=0.0)
    predicts(store, "default.a-2", range(4), 1.0, tolerance=0.5)
    labels(store, "default.a-2", range(2), 1.4)
    labels(store, "default.a-2", range(2, 4), 1.6)
    assert seen(store, one) == ((2, 4), (0, 0))
    store.close()


def test_what_the_store_drops_stays_counted(store: FeedbackStore, tmp_path: Path) -> None:
    engine = migrated(tmp_path / "state.db")
    database = Database(engine)

    def begin(connection: Connection) -> RolloutState:
        put_project(connection, rows.project(), 1.0)
        spec = EndpointSpec(model="m", feedback=Feedback())
        endpoints.put(connection, msgspec.structs.replace(rows.endpoint(), spec=spec), 1, 1.0)
        assert evidence.asked(connection) == []
        rollouts.keep(connection, state(began_s=0.0))
        (one,) = evidence.asked(connection)
        return one

    one = database.write(begin)

    def look() -> tuple[bool, int]:
        found = evidence.labelled(store, one)
        is_new = database.write(lambda connection: evidence.keep(connection, [found]))
        kept = database.read(lambda connection: rollouts.get(connection, "default", one.number)).posted[WRONG]
        return is_new, kept.canary.total

    assert look() == (True, 0)  # the metric is known from the beginning
    assert look() == (False, 0)
    predicts(store, "default.a-2", range(100), 1.0)
    labels(store, "default.a-2", range(100), "0")
    assert look() == (True, 100)
    predicts(store, "default.a-2", range(100, 120), 2.0, max_=20)
    assert seen(store, one)[0] == (0, 0)
    assert look() == (False, 100)
    store.close()
    database.close()


def infer(rig: Rig, id_: str, row: list[float]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=WAIT_S)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": row}
    headers = {"Authorization": f"Bearer {rig.key}", "Content-Type": "application/json", "x-request-id": id_}
    try:
        connection.request("POST", "/v2/models/a/infer", json.dumps({"inputs": [tensor]}), headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
    finally:
        connection.close()


def test_a_canary_whose_answers_turn_out_wrong_is_rolled_back_by_their_labels(rig: Rig, tmp_path: Path) -> None:
    rig.start_agent()
    for name, work in (("a", SAME), ("b", SWAPPED)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.py").write_text(MODEL.format(work))
        rig.push("m", folder, tasks=("predict",))
    rollout: dict[str, Any] = {"steps": [30], "strategy": "canary", "dwell": "0s", "requests_min": 1_000_000}
    client = RolloutClient(rig.client.connection)

    def phase() -> str:
        try:
            return client.newest("default", "a").phase
        except NotFound:
            return ""

    rig.request("POST", "/api/v1/apply", endpoint(model="m@1", feedback={}, rollout=rollout))
    until(lambda: rig.client.endpoint("default", "a").status.serving, "the first revision serves")
    rig.request("POST", "/api/v1/apply", endpoint(model="m@2", feedback={}, rollout=rollout))
    until(lambda: phase() == "stepping", "the canary has its share")
    until(lambda: is_served(rig), "the gateway serves it")
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        ids = [f"r{sent + at}" for at in range(count)]
        for id_ in ids:
            infer(rig, id_, [0.1, 0.9])
        sent += count
        items = [{"id": id_, "label": "1"} for id_ in ids]
        assert rig.request("POST", "/api/v1/feedback?project=default", {"items": items})[0] == 200

    def judged() -> int:
        arms = client.newest("default", "a").posted.get(WRONG, Arms())
        return min(arms.canary.total, 1) * (arms.canary.total + arms.baseline.total)

    def is_heard() -> bool:
        send(5)
        return judged() > 0

    until(is_heard, "both revisions' predictions are kept and labelled")
    while phase() == "stepping":  # no faster than control looks: how many it takes depends on no machine
        assert sent < 2000
        goal = judged() + 100
        send(100)
        until(lambda: judged() >= goal or phase() != "stepping", "the labels are counted")  # noqa: B023
    until(lambda: phase() == "rolled-back", "labels take the traffic away")
    found = client.newest("default", "a")
    assert found.because.startswith("wrong: ")
    assert found.lines[0].metric == WRONG
