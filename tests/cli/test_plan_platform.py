"""What a platform kept of an endpoint's day is asked in the language of its history, and becomes demand and engine."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stoker.cli.plan_platform import Known, ask
from stoker.client.views import Chart, Line
from stoker.sim.platform import plan
from stoker.sim.sizing.demand import GRID
from stoker.types.errors import InvalidInput
from stoker.types.resources import EndpointSpec
from tests.observe.rig import LABELS, Counting, Rig

REVISION = {key: value for key, value in LABELS.items() if key != "method"}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "metrics.db")
    yield made
    made.close()


def known(rig: Rig) -> Known:
    def query(text: str, *, since_s: float = 0.0, step_s: float | None = None) -> Chart:
        found = rig.run(rig.history.query(text, since_s=since_s, step_s=step_s or 60.0))
        return Chart(list(found.times), [Line(dict(each.labels), list(each.values)) for each in found.lines])

    return ask(query, EndpointSpec(), "default", "a", 0)


def spent(process: Counting, count: int, **phases: float) -> None:
    for phase, seconds in phases.items():
        histogram = process.registry.histogram("stoker_request_phase_seconds", phase=phase, **REVISION)
        for _ in range(count):
            histogram.observe(seconds)


def measured(process: Counting, count: int, **values: float) -> None:
    for name, value in values.items():
        labels = REVISION if name == "batch_rows" else LABELS
        histogram = process.registry.histogram(f"stoker_{name}", **labels)
        for _ in range(count):
            histogram.observe(value)


def test_a_classifier_is_known_by_its_minutes(rig: Rig) -> None:
    process = Counting()
    rig.tick(process, seconds=60)
    for count, rows in ((10, 1.0), (40, 4.0), (20, 8.0)):
        process.request(count)
        spent(process, count, compute=0.01 + 0.002 * rows, network=0.003, queue=5.0)
        measured(process, count, batch_rows=rows)
        process.latency(*[0.02] * count)
        process.registry.gauge("stoker_replicas", project="default", endpoint="a", phase="ready").set(2)
        rig.tick(process, seconds=60)
    found = known(rig)
    assert isinstance(found.engine, plan.Batching)
    assert found.engine.base_s == pytest.approx(0.01, rel=0.15)
    assert found.engine.row_s == pytest.approx(0.002, rel=0.15)
    assert found.around_s == pytest.approx((0.003,) * len(GRID), rel=0.1)
    assert found.cold_start_s is None
    assert found.recorded.began_s == pytest.approx(rig.clock.now_s - 180.0, abs=61.0)
    assert np.bincount((found.recorded.at_s // 60.0).astype(int))[:3].tolist() == [10, 40, 20]
    assert "a call takes" in found.said[0]
    assert found.measured["latency p50"] == pytest.approx(0.02, rel=0.1)
    assert found.measured["ttft p50"] == 0.0
    assert found.measured["replica-hours"] == pytest.approx(3 * 2 / 60)


def test_a_language_model_is_known_by_its_tokens_slots_and_starts(rig: Rig) -> None:
    process, replica = Counting(), Counting("replica")
    rig.tick(process, replica, seconds=60)
    for count in (30, 60, 120):
        process.request(count)
        spent(process, count, prefill=0.2, decode=1.0 + count / 60.0)
        measured(process, count, prompt_tokens=400.0, output_tokens=51.0)
        start = {"project": "default", "endpoint": "a", "node": "here", "phase": "total"}
        process.registry.histogram("stoker_cold_start_seconds", **start).observe(8.0)
        process.registry.gauge("stoker_replicas", project="default", endpoint="a", phase="ready").set(1)
        replica.registry.gauge("stoker_engine_slots", replica="a-1", **REVISION).set(6)
        rig.tick(process, replica, seconds=60)
    found = known(rig)
    assert isinstance(found.engine, plan.Generating)
    assert found.engine.slots == 6
    assert found.engine.chunk_tokens == 128
    assert 0.0 < 400.0 * found.engine.read_token_s < 0.2, "less than prefill: others write meanwhile"
    assert found.engine.sequence_s > 0.0
    assert found.cold_start_s == pytest.approx(8.0, rel=0.1)
    assert 350 < found.recorded.input_tokens.mean() < 450
    assert len(found.recorded) == 210


def test_a_day_that_says_too_little_is_refused_with_what_to_do(rig: Rig) -> None:
    rig.tick(Counting(), seconds=60)
    with pytest.raises(InvalidInput, match=r"a had 0 requests in the last day, too few to plan by: give --trace"):
        known(rig)
    process = Counting()
    rig.tick(process, seconds=60)
    process.request(100)
    rig.tick(process, seconds=60)
    with pytest.raises(InvalidInput, match="nothing is known of what its engine takes: give --engine"):
        known(rig)
