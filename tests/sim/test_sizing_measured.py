"""What a platform measured becomes an engine and a demand, and two ways are compared on the same draws."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.sim.platform import plan
from stoker.sim.sizing import demand, measured
from stoker.sim.sizing.answer import Range
from stoker.sim.sizing.change import Change, compared
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


def test_a_batch_smaller_than_those_that_were_seen_is_not_believed_to_take_less() -> None:
    found = measured.batching([measured.Batches(50.0, 4.0, 0.02), measured.Batches(60.0, 4.1, 0.02)], 32)
    assert (found.call_s(1), found.call_s(4)) == pytest.approx((0.02, 0.02), rel=0.01)
    assert found.call_s(8) == pytest.approx(0.04, rel=0.05)


def lived(engine: plan.Generating, per_s: float) -> measured.Generation:
    """A minute of an engine by Little's law: for each request 400 tokens are read and 101 written."""
    decode_s = prefill_s = 0.0
    for _ in range(200):
        others = min(per_s * decode_s, engine.slots - 1.0)
        prefill_s = 400.0 * engine.read_token_s + engine.pace_s(others)
        decode_s = 100.0 * engine.pace_s(1.0 + others) / (1.0 - per_s * prefill_s)
    return measured.Generation(per_s * 60.0, 400.0, prefill_s, 101.0, decode_s, per_s)


@given(read_s=st.floats(1e-5, 1e-3), sequence_s=st.floats(0.0, 0.004))
def test_a_language_model_is_found_again_from_its_minutes(read_s: float, sequence_s: float) -> None:
    engine = plan.Generating(8, 0.02, sequence_s, read_s)
    found = measured.generating([lived(engine, per_s) for per_s in (0.05, 0.2, 0.5, 1.0)], 8)
    assert (found.step_s, found.sequence_s, found.read_token_s) == pytest.approx((0.02, sequence_s, read_s), abs=1e-6)


@given(per_s=st.floats(0.0, 0.4), prompt_tokens=st.floats(1.0, 2000.0))
def test_where_the_minutes_do_not_tell_a_language_model_is_as_fast_as_it_was_seen_and_no_faster(
    per_s: float, prompt_tokens: float
) -> None:
    seen = measured.Generation(30.0, prompt_tokens, 2.0, 101.0, 100.0 * 0.02, per_s)
    found = measured.generating([seen] * 3, 8)
    pace_s, others = 0.02 * (1.0 - per_s * 2.0), 2.0 * per_s
    assert (found.pace_s(1.0), found.pace_s(1.0 + others)) == pytest.approx((pace_s, pace_s))
    assert found.pace_s(2.0 + 2.0 * others) == pytest.approx(2.0 * pace_s)
    steps_s = math.ceil(prompt_tokens / found.chunk_tokens) * found.pace_s(others)
    assert found.read_token_s * prompt_tokens + steps_s == pytest.approx(2.0), "and a prompt takes what it took"


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
