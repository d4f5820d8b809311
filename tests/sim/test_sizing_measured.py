"""What a platform measured becomes an engine and a demand, and two ways are compared on the same draws."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.sim.sizing import demand, measured
from stoker.sim.sizing.answer import Range
from stoker.sim.sizing.change import Change, compared
from stoker.sim.sizing.validation import Checked, validated
from tests.sim.test_sizing import POOL, RECORDED, STEADY

MINUTE = st.tuples(st.floats(1.0, 1e4), st.floats(1.0, 64.0), st.floats(1e-5, 1.0))


def by_name(change: Change) -> dict[str, tuple[float, float, bool]]:
    return {each.name: (each.now, each.then, each.is_clear) for each in change.lines}


@given(base_s=st.floats(0.0, 0.1), row_s=st.floats(0.0, 0.1))
def test_a_line_that_was_measured_is_found_again(base_s: float, row_s: float) -> None:
    minutes = [measured.Batches(10.0, rows, base_s + row_s * rows) for rows in (1.0, 2.0, 7.0, 20.0)]
    found = measured.batching(minutes, 32)
    assert (found.base_s, found.row_s) == pytest.approx((base_s, row_s), abs=1e-9)


@given(st.lists(MINUTE, min_size=1, max_size=20))
def test_nothing_takes_less_than_no_time_and_the_mean_is_kept(minutes: list[tuple[float, float, float]]) -> None:
    found = measured.batching([measured.Batches(*each) for each in minutes], 32)
    assert found.base_s >= 0.0
    assert found.row_s >= 0.0
    weights, rows, took = (np.array(each) for each in zip(*minutes, strict=True))
    mean_s = found.base_s + found.row_s * float(np.average(rows, weights=weights))
    assert mean_s == pytest.approx(float(np.average(took, weights=weights)))


def test_where_every_batch_was_of_one_nothing_is_won_by_batching() -> None:
    found = measured.batching([measured.Batches(50.0, 1.0, 0.02), measured.Batches(60.0, 1.01, 0.021)], 32)
    assert found.base_s == 0.0
    assert found.row_s == pytest.approx(0.02, rel=0.1)


def test_a_language_model_is_found_again_from_its_minutes() -> None:
    minutes = [
        measured.Generation(30.0, 400.0, 400.0 * 0.001, 101.0, 100.0 * (0.02 + 0.005 * running), running)
        for running in (1.0, 2.0, 4.0, 6.0)
    ]
    found = measured.generating(minutes, 8)
    assert (found.step_s, found.sequence_s, found.read_token_s) == pytest.approx((0.02, 0.005, 0.001))


@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=20), seed=st.integers(0, 100))
def test_counted_minutes_have_their_requests_with_sizes_between_those_known(counts: list[int], seed: int) -> None:
    sizes = (1.0, 5.0, 10.0, 20.0, 40.0, 80.0, 100.0, 200.0, 300.0)
    came = demand.counted(counts, seed, sizes, sizes)
    assert np.bincount((came.at_s // 60.0).astype(int), minlength=len(counts)).tolist() == counts
    assert all(1 <= each <= 300 for each in came.input_tokens)


def test_what_is_not_changed_makes_no_difference() -> None:
    way = (STEADY, Range(2, 4))
    found = compared(way, way, POOL, RECORDED, 0, lambda *_: None)
    assert all(each.difference.mean == each.difference.low == each.difference.high == 0.0 for each in found.lines)


def test_more_replicas_keep_more_promises_and_cost_more() -> None:
    found = by_name(compared((STEADY, Range(2, 2)), (STEADY, Range(4, 4)), POOL, RECORDED, 0, lambda *_: None))
    kept, cost = found["latency_p90"], found["cost an hour"]
    assert kept[0] < kept[1]
    assert kept[2]
    assert cost[:2] == pytest.approx((4.0, 8.0))


def test_what_is_spent_beside_the_engine_is_in_every_time() -> None:
    around = replace(STEADY, around_s=(0.25,) * len(demand.GRID))
    found = by_name(compared((STEADY, Range(8, 8)), (around, Range(8, 8)), POOL, RECORDED, 0, lambda *_: None))
    assert found["latency p50"][1] - found["latency p50"][0] == pytest.approx(0.25)


def test_calls_take_as_long_as_they_were_measured_to() -> None:
    calls_s = [0.01, 0.02, 0.06]
    engine = measured.batching([measured.Batches(9.0, 1.0, 0.03)], 1, calls_s)
    drawn = replace(STEADY, engine=engine)
    found = by_name(compared((drawn, Range(9, 9)), (drawn, Range(9, 9)), POOL, RECORDED, 0, lambda *_: None))
    assert found["latency p50"][0] == pytest.approx(0.02, rel=0.15)
    assert 0.05 < found["latency p95"][0] <= 0.06


def test_a_simulation_of_what_was_measured_is_near_and_of_something_else_is_not() -> None:
    said = {"latency p50": 1.0, "latency p95": 0.5, "ttft p50": 0.0, "replica-hours": 9 * 300.0 / 3600.0}
    found = validated(STEADY, Range(9, 9), RECORDED, said, 0, lambda *_: None)
    assert {each.name: each.is_near for each in found.lines} == {
        "latency p50": True, "latency p95": False, "replica-hours": True
    }  # fmt: skip


def test_how_far_it_was_off_is_a_share_of_what_was_measured() -> None:
    assert Checked("latency p50", 2.0, 1.5, 0.15).off == -0.25
    assert Checked("latency p50", 2.0, 2.3, 0.15).is_near
