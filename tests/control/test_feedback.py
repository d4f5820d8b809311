"""Feedback with real replicas: what is fetched of them, and labels before, after and over a killed control."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from stoker.control.feedback import AMOUNTS_MAX, ESTIMATE, SEGMENTS_MAX, FeedbackWatch
from stoker.core.feedback import Amount, Label
from stoker.observe.feedback import amounts as business
from stoker.observe.feedback import quality
from stoker.observe.feedback.expected import expected
from stoker.observe.feedback.store import FeedbackStore
from stoker.protocol import frames
from stoker.protocol.frames import EndHead, Hello
from stoker.protocol.link import Exchange, serve
from stoker.runtime.predictions import Predictions, Rows
from stoker.store import endpoints, models, revisions
from stoker.store.engine import Database, open_engine, sqlite_url
from stoker.store.projects import put as put_project
from stoker.store.schema import metadata
from stoker.telemetry.metrics import OTHER, Registry
from stoker.types.errors import Conflict, Unavailable
from stoker.types.feedback import Demand
from stoker.types.ids import ModelName
from stoker.types.models import Signature, TensorSpec
from stoker.types.replica import ReplicaStats
from stoker.types.resources import EndpointSpec, Feedback
from stoker.types.slos import Objective
from tests.control.rig import WAIT_S, Rig, conditions, endpoint, until
from tests.store import rows

MODEL = """
class Model:
    inputs = {"x": ("FP32", [-1, 2])}
    outputs = {"y": ("FP32", [-1, 2])}
    def load(self, folder):
        pass
    def predict(self, inputs):
        return {"y": inputs["x"]}
"""


def predict(rig: Rig, id_: str, chance: float, segment: str = "") -> None:
    """Ask the endpoint, which says class 1 with that chance."""
    connection = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=WAIT_S)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1 - chance, chance]}
    headers = {"Authorization": f"Bearer {rig.key}", "Content-Type": "application/json", "x-request-id": id_}
    try:
        body = json.dumps({"inputs": [tensor]})
        connection.request(
            "POST", "/v2/models/a/infer", body, headers | ({"x-stoker-segment": segment} if segment else {})
        )
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert answer.getheader("x-request-id") == id_
        answer.read()
    finally:
        connection.close()


def send(rig: Rig, *items: dict[str, Any], key: str | None = "", query: str = "") -> Any:
    status, body, _ = rig.request("POST", f"/api/v1/feedback{query}", {"items": list(items)}, key=key)
    return [one["outcome"] for one in body["items"]] if status == 200 else (status, body)


def kept(rig: Rig) -> int:
    return rig.client.quality("default", "a", 3600.0).whole.predictions


def test_labels_find_their_predictions_whatever_dies_between(rig: Rig, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.py").write_text(MODEL)
    rig.start_agent()
    rig.push("m", folder)
    assert rig.request("POST", "/api/v1/apply", endpoint(feedback={"keep": "1d"}))[0] == 200
    until(lambda: "Ready" in conditions(rig) and conditions(rig)["Ready"].status, "it serves")

    def is_watched() -> bool:
        with contextlib.suppress(AssertionError):  # the gateway does not know it yet
            predict(rig, "first", 0.9, "eu")
        return kept(rig) == 1

    until(is_watched, "predictions are kept")
    assert send(rig, {"id": "first", "label": 1}) == ["joined"]
    predict(rig, "second", 0.8, "us")
    pid = rig.processes()["control"]
    os.kill(pid, signal.SIGKILL)
    predict(rig, "third", 0.7, "us")  # made and kept while there is no control
    until(lambda: rig.processes().get("control", pid) != pid and rig.is_ready(), "control is back")
    early = send(rig, {"id": "fourth", "label": "0"})
    assert early == ["unknown"]
    predict(rig, "fourth", 0.6)
    until(lambda: kept(rig) == 4, "all are there")
    items = ({"id": "first", "label": 0}, {"id": "second", "label": "1.0"}, {"id": "third", "score": 0.25})
    assert send(rig, *items) == ["duplicate", "joined", "joined"]
    assert send(rig, *items) == ["duplicate"] * 3
    view = rig.client.quality("default", "a", 3600.0)
    assert (view.whole.labelled, view.whole.accuracy) == (4, (0 + 1 + 0.25 + 0) / 4)
    assert {one.name: one.accuracy for one in view.segments} == {"eu": 0.0, "us": 0.625, "": 0.0}
    text = rig.request("GET", "/metrics")[1].decode()
    judged = [line for line in text.splitlines() if line.startswith("stoker_predictions_judged_total")]
    assert sum(float(line.rpartition(" ")[2]) for line in judged) == 3  # since the new control began
    rig.home.feedback.write_bytes(b"broken")  # under the running control
    until(lambda: send(rig, {"id": "new", "label": 1}) == ["unknown"], "a new file is begun")
    assert rig.request("GET", "/api/v1/endpoints")[0] == 200


WHOSE = {"project": "default", "endpoint": "a"}
KEY = ("default", "a")


class Replica:
    """A replica as control sees it: it hands over what it predicted."""

    body_max_bytes = 1 << 20

    def __init__(self) -> None:
        self.kept = Predictions(Signature((), (TensorSpec("y", "FP32", (-1, 2)),)), batches=True)

    def hello(self) -> Hello:
        return Hello(wire=frames.WIRE_VERSION, name="r", kind="replica", pid=1, boot="b", state="ready")

    def stats(self) -> ReplicaStats:
        return ReplicaStats()

    def drain(self) -> None: ...

    def request(self, exchange: Exchange) -> None: ...

    def call(self, exchange: Exchange) -> None:
        answer = self.kept.answer(msgspec.msgpack.decode(exchange.body, type=Demand))
        exchange.end(EndHead(), msgspec.msgpack.encode(answer))

    def predicts(self, *ids: str, segment: str = "", rows: int = 1) -> None:
        for id_ in ids:
            self.kept.add({"y": np.full((rows, 2), 0.5)}, [Rows(id_, segment, 0, 0, rows)])


class Watched:
    """A database with one endpoint that serves, its replica, and the watch."""

    def __init__(self, folder: Path) -> None:
        engine = open_engine(sqlite_url(folder / "state.db"))
        metadata.create_all(engine)
        self.database = Database(engine)
        self.metrics = Registry("control")
        self.replica = Replica()
        self.store = FeedbackStore(folder / "feedback.db")
        self.watch = FeedbackWatch(self.database, self.store, lambda _: f"unix:{folder}/r", self.metrics, expected)
        self.now_s = time.time()

        def write(connection: Any) -> None:
            put_project(connection, rows.project(), 1.0)
            version, _ = models.add(connection, ModelName("m"), rows.manifest(), 1.0)
            endpoints.put(connection, self.resource(Feedback()), 1, 1.0)
            one = rows.revision(version)
            revisions.add(connection, one)
            revisions.assign(connection, rows.assignment(one))
            endpoints.set_serving(connection, *KEY, one.revision)

        self.database.write(write)

    def resource(self, feedback: Feedback | None) -> Any:
        return msgspec.structs.replace(rows.endpoint(), spec=EndpointSpec(model="m", feedback=feedback))

    def promise(self, objective: Objective) -> None:
        spec = EndpointSpec(model="m", feedback=Feedback(), slos=(objective,))
        resource = msgspec.structs.replace(rows.endpoint(), spec=spec)
        self.database.write(lambda connection: endpoints.put(connection, resource, 2, 1.0))

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.counter(name, **WHOSE, **labels).value


def run(folder: Path, body: Callable[[Watched], Awaitable[None]]) -> None:
    async def main() -> None:
        rig = Watched(folder)
        server = await serve(f"unix:{folder}/r", rig.replica)
        try:
            async with asyncio.timeout(WAIT_S):
                await rig.watch.turn(rig.now_s)
                await body(rig)
        finally:
            await server.close()
            await rig.watch.close()
            rig.database.close()

    asyncio.run(main())


def test_predictions_are_fetched_once_dropped_ones_are_counted_and_off_is_told(tmp_path: Path) -> None:
    async def body(rig: Watched) -> None:
        rig.replica.predicts("a", "b")
        rig.replica.predicts("large", rows=100)
        for _ in range(3):
            await rig.watch.turn(rig.now_s)
        assert (await rig.watch.view(*KEY, 60.0)).whole.predictions == 66
        assert rig.counted("stoker_predictions_total", outcome="kept") == 66
        assert rig.counted("stoker_predictions_total", outcome="dropped") == 36
        off = rig.resource(None)
        rig.database.write(lambda connection: endpoints.put(connection, off, 2, 1.0))
        await rig.watch.turn(rig.now_s)
        assert not rig.replica.kept.is_on
        with pytest.raises(Conflict):
            await rig.watch.view(*KEY, 60.0)
        await rig.watch.turn(rig.now_s + 3601)
        assert rig.store.read("SELECT count(*) FROM predictions", ()) == [(0,)]

    run(tmp_path, body)


def test_what_cannot_be_stored_stays_with_the_replica(tmp_path: Path) -> None:
    async def body(rig: Watched) -> None:
        await rig.watch.close()
        (tmp_path / "feedback.db").unlink()
        (tmp_path / "feedback.db").mkdir()
        rig.replica.predicts("a", "b")
        await rig.watch.turn(rig.now_s)
        with pytest.raises(Unavailable):
            await rig.watch.label("default", [Label("a", "label", "0", 1.0)])
        (tmp_path / "feedback.db").rmdir()
        await rig.watch.turn(rig.now_s)
        assert await rig.watch.label("default", [Label("a", "label", "0", 1.0)]) == ["joined"]

    run(tmp_path, body)


def test_segments_in_metrics_are_bounded_and_labels_are_judged_once(tmp_path: Path) -> None:
    async def body(rig: Watched) -> None:
        for at in range(SEGMENTS_MAX + 10):
            rig.replica.predicts(f"r{at}", segment=f"s{at}")
        await rig.watch.turn(rig.now_s)
        for _ in range(2):
            labels = [Label(f"r{at}", "label", str(at % 2), rig.now_s) for at in range(SEGMENTS_MAX + 10)]
            await rig.watch.label("default", labels)
        series = {
            labels: value
            for metric in rig.metrics.snapshot().metrics
            if metric.name == "stoker_predictions_judged_total"
            for labels, value in ((one.labels, one.value) for one in metric.series)
        }
        assert len(series) == SEGMENTS_MAX + 1
        assert {value for labels, value in series.items() if OTHER in labels} == {10}
        assert sum(series.values()) == SEGMENTS_MAX + 10
        scores = rig.metrics.snapshot().matching("stoker_prediction_score_ratio", **WHOSE)
        assert len(scores) == SEGMENTS_MAX + 1
        whole = rig.metrics.snapshot().distribution("stoker_prediction_score_ratio", **WHOSE)
        assert whole.count == SEGMENTS_MAX + 10

    run(tmp_path, body)


def test_a_segment_that_an_objective_names_is_told_apart_however_many_came_before(tmp_path: Path) -> None:
    async def body(rig: Watched) -> None:
        rig.promise(Objective(name="eu", target=0.9, sli="quality", at_least=1.0, segment="eu"))
        await rig.watch.turn(rig.now_s)
        for at, segment in enumerate([*(f"s{at}" for at in range(SEGMENTS_MAX + 5)), "eu"]):
            rig.replica.predicts(f"r{at}", segment=segment)
        await rig.watch.turn(rig.now_s)
        labels = [Label(f"r{at}", "label", "1", rig.now_s) for at in range(SEGMENTS_MAX + 6)]
        await rig.watch.label("default", labels)
        assert rig.metrics.histogram("stoker_prediction_score_ratio", segment="eu", **WHOSE).read().count == 1

    run(tmp_path, body)


def test_an_amount_is_counted_once_for_the_endpoint_and_its_segment_and_goes_with_its_prediction(
    tmp_path: Path,
) -> None:
    async def body(rig: Watched) -> None:
        def sent(id_: str, amount: float, at_s: float = 1.0) -> Amount:
            return Amount(id_, "revenue", amount, at_s)

        assert await rig.watch.add("default", [sent("r0", 5.0)]) == ["unknown"]
        rig.replica.predicts("r0", segment="eu")
        rig.replica.predicts("r1", segment="us")
        await rig.watch.turn(rig.now_s)
        first = [sent("r0", 5.0, rig.now_s), sent("r1", 0.0, rig.now_s), sent("gone", 1.0)]
        assert await rig.watch.add("default", first) == ["joined", "joined", "unknown"]
        again = [sent("r0", 7.0, rig.now_s), sent("r0", 9.0, 1.0)]  # a later one replaces, an earlier one does not
        assert await rig.watch.add("default", again) == ["duplicate", "duplicate"]
        seen = rig.metrics.histogram("stoker_feedback_amount", segment="eu", metric="revenue", **WHOSE).read()
        assert (seen.count, seen.sum) == (1, 5.0)
        (shown,) = (await rig.watch.view(*KEY, 3600.0)).amounts
        assert (shown.name, shown.rows, shown.mean) == ("revenue", 2, 3.5)
        assert await rig.watch.add("other", [sent("r0", 1.0)]) == ["unknown"]  # another project's
        rig.store.sweep(())
        assert rig.store.read("SELECT count(*) FROM amounts", ()) == [(0,)]

    run(tmp_path, body)


def test_names_of_amounts_in_metrics_are_bounded_but_for_those_that_are_promised(tmp_path: Path) -> None:
    async def body(rig: Watched) -> None:
        rig.promise(Objective(name="worth", target=0.9, sli="business", metric="revenue", at_least=1.0))
        rig.replica.predicts("r0")
        await rig.watch.turn(rig.now_s)
        names = [*(f"m{at}" for at in range(AMOUNTS_MAX + 5)), "revenue"]
        await rig.watch.add("default", [Amount("r0", name, 1.0, rig.now_s) for name in names])
        known = rig.metrics.snapshot().matching("stoker_feedback_amount", **WHOSE)
        assert len(known) == AMOUNTS_MAX + 1
        assert rig.metrics.histogram("stoker_feedback_amount", segment="", metric="revenue", **WHOSE).read().count == 1

    run(tmp_path, body)


def test_a_file_of_an_earlier_release_takes_amounts(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "feedback.db")
    store.act(
        lambda connection: [connection.execute(f"DROP {what}") for what in ("TRIGGER amounts_go", "TABLE amounts")]
    )
    store.close()
    store = FeedbackStore(tmp_path / "feedback.db")
    assert business.add(store, "default", [Amount("r0", "revenue", 1.0, 1.0)]) == (["unknown"], [])
    store.close()


def test_the_estimate_is_a_gauge_while_it_can_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "LABELS_MIN", 100)

    async def body(rig: Watched) -> None:
        rig.replica.predicts(*(f"r{at}" for at in range(300)))
        await rig.watch.turn(rig.now_s + 10)
        assert ESTIMATE not in {metric.name for metric in rig.metrics.snapshot().metrics}
        await rig.watch.label("default", [Label(f"r{at}", "label", str(at // 2 % 2), 1.0) for at in range(200)])
        await rig.watch.turn(rig.now_s + 70)
        assert rig.metrics.gauge(ESTIMATE, **WHOSE).value == pytest.approx(0.5, abs=0.01)
        await rig.watch.label("default", [Label(f"r{at}", "label", "0", 1.0) for at in range(200, 300)])
        await rig.watch.turn(rig.now_s + 140)
        found = [metric for metric in rig.metrics.snapshot().metrics if metric.name == ESTIMATE]
        assert not any(metric.series for metric in found)

    run(tmp_path, body)
