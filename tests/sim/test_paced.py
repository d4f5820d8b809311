"""The pace of a language model is found again from what became of requests, and traces say what is beside it."""

import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from stoker.sim.arrivals import Arrivals, of
from stoker.sim.platform import plan
from stoker.sim.platform.site import Site
from stoker.sim.service import Drawn
from stoker.sim.sizing import paced, slowness, traced, trial
from stoker.sim.sizing.answer import Range
from stoker.sim.sizing.trial import Kind
from stoker.types.errors import InvalidInput
from stoker.types.replica import Timings, Usage
from stoker.types.starts import Took
from stoker.types.traces import Trace

ONE = Range(1, 1)
TIMES = st.lists(st.floats(0.05, 100.0), min_size=1, max_size=20)
ENGINES = st.builds(
    plan.Generating, st.just(4), st.floats(0.003, 0.03), st.floats(0.002, 0.02), st.floats(0.001, 0.012), st.just(128)
)


def chats(count: int, per_s: float) -> Arrivals:
    draws = np.random.default_rng(5)
    at_s = np.cumsum(draws.exponential(1.0 / per_s, count))
    read, written = draws.integers(18, 120, count), draws.integers(8, 64, count)
    return Arrivals(at_s, float(at_s[-1]) + 1.0, read, written)


def kind(engine: plan.Engine) -> Kind:
    return Kind(engine, (), initial=1)


def paces(engine: plan.Generating) -> tuple[float, ...]:
    return engine.pace_s(1.0), engine.pace_s(4.0), engine.read_token_s


def test_starts_are_those_of_the_load_and_one_of_those_is_not_simulated_by_itself() -> None:
    kinds = (replace(kind(plan.Places()), began_s=1000.0),)
    before, first, second = Took(900.0, 9.0), Took(1001.0, 1.0), Took(1050.0, 2.0)
    ((_, one), (_, other)) = ((each, each.starts) for each in traced.started(kinds * 2, (before, first, second)))
    assert one == other == (plan.Started(1.0, 1.0), plan.Started(2.0, 50.0))
    (alone,) = traced.started(kinds, (before, first))
    assert [each.took_s for each in alone.starts] == [9.0, 1.0]
    site = Site(plan.EndpointPlan("one", chats(2, 1.0), starts=one), (), Random(0))
    assert {site.start_s(2.0) for _ in range(9)} == {2.0}
    assert {site.start_s(49.0) for _ in range(9)} == {1.0}
    few = Site(plan.EndpointPlan("one", chats(2, 1.0), starts=alone.starts), (), Random(0))
    assert {few.start_s(2.0) for _ in range(9)} == {9.0}
    assert {few.start_s(500.0) for _ in range(9)} == {9.0}


@settings(max_examples=2, derandomize=True, phases=[Phase.generate])  # each simulates a hundred times
@given(engine=ENGINES)
def test_a_pace_that_was_lived_is_found_again_from_every_other_stretch(engine: plan.Generating) -> None:
    one_s = 70.0 * engine.read_token_s + 35.0 * engine.pace_s(1.0)
    arrivals = chats(100, 0.5 / one_s)
    lived = trial.lived(kind(engine), ONE, arrivals)
    told = [
        traced.Traced(
            at,
            float(first_s),
            float(whole_s),
            0.0,
            0,
            0.0,
            float(first_s),
            float(whole_s - first_s),
            int(read),
            int(wrote),
        )
        for at, (first_s, whole_s, read, wrote) in enumerate(
            zip(lived.ttft_s, lived.latency_s, arrivals.input_tokens, arrivals.output_tokens, strict=True)
        )
    ]
    unknown = plan.Generating(4, 1.0, 1.0, 1.0, 128)
    found = traced.fitted(kind(unknown), ONE, arrivals, told)[1].engine
    assert isinstance(found, plan.Generating)
    assert (found.slots, found.chunk_tokens) == (4, 128)
    again = trial.lived(kind(found), ONE, arrivals)
    for at, bound in ((0.5, 0.15), (0.95, 0.25)):
        assert np.quantile(again.ttft_s, at) == pytest.approx(np.quantile(lived.ttft_s, at), rel=bound)
        assert np.quantile(again.latency_s, at) == pytest.approx(np.quantile(lived.latency_s, at), rel=bound)


def test_a_pace_is_found_from_the_quantiles_of_a_day() -> None:
    engine = plan.Generating(4, 0.008, 0.012, 0.008, 128)
    arrivals = chats(300, 0.4)
    lived = trial.lived(kind(engine), ONE, arrivals)
    token_s = lived.writing_s / np.maximum(arrivals.output_tokens - 1, 1)
    quantiles = [np.quantile(each, paced.SHARES).tolist() for each in (lived.ttft_s, token_s)]
    unknown = plan.Generating(4, 0.0, 0.04, 0.001, 128, least_s=0.04)
    found = paced.by_quantiles(kind(unknown), ONE, arrivals, *quantiles)
    assert paces(found) == pytest.approx(paces(engine), rel=0.15)


@given(TIMES, st.floats(0.5, 2.0))
def test_what_was_simulated_as_measured_is_off_by_nothing_and_else_by_the_share(
    taken_s: list[float], by: float
) -> None:
    measured = np.array(taken_s)
    assert paced.off([measured], [measured]) == 0.0
    assert paced.off([measured * by], [measured]) == pytest.approx(
        abs(math.log(by)), abs=0.1 * abs(math.log(by)) + 1e-9
    )
    assert paced.off([measured * by] * 2, [measured] * 2) == 2 * paced.off([measured * by], [measured])


def test_who_was_answered_in_one_of_both_only_counts_as_far_off() -> None:
    assert paced.off([np.array([1.0, math.inf])], [np.array([1.0, 1.0])]) == 0.5
    assert paced.off([np.array([math.inf])], [np.array([math.inf])]) == math.inf, "nothing is known"


# ---- how slow a machine was when


@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(0.5, 9.0), st.floats(0.25, 4.0)), max_size=20))
def test_a_machine_was_never_slower_than_somebody_saw_nor_faster(seen: list[tuple[float, float, float]]) -> None:
    when_s, simulated_s, times = (np.array([each[at] for each in seen]) for at in range(3))
    found = slowness.spells(when_s, simulated_s, simulated_s * times, 100.0)
    assert len(found) == 21
    assert all(min([1.0, *times]) - 1e-9 <= each <= max([1.0, *times]) + 1e-9 for each in found)


def test_a_spell_is_as_slow_as_those_beside_it_and_usual_where_nobody_was() -> None:
    when_s = np.arange(0.0, 400.0)
    times = np.where(when_s < 100.0, 2.0, 1.0)
    found = slowness.spells(when_s, np.full(400, 3.0), 3.0 * times, 600.0)
    assert found[5] == pytest.approx(2.0, rel=0.1)
    assert found[40] == pytest.approx(1.0, rel=0.05)
    assert found[-1] == pytest.approx(1.0)


def test_steps_of_a_slow_spell_take_longer_and_those_behind_it_do_not() -> None:
    engine = plan.Generating(4, 0.01, 0.0, 0.0, 128)
    one = Arrivals(np.array([4.0]), 20.0, np.array([1]), np.array([1000]))
    usual = trial.lived(kind(engine), ONE, one).latency_s[0]
    slow = trial.lived(kind(replace(engine, slowness=(1.0, 2.0, 1.0))), ONE, one).latency_s[0]
    assert slow - usual == pytest.approx(plan.SPELL_S / 2, abs=0.03), "half as much is done in it"


# ---- traces


def trace(timings: Timings | None, *, status: int = 200, usage: Usage | None = None, first_s: float = 0.0) -> Trace:
    return Trace(
        id="1", span="1", request="r", because="caller", method="infer", status=status, began_at_s=0.0, seconds=2.0,
        waited_s=0.5, first_byte_s=first_s, timings=timings, usage=usage,
    )  # fmt: skip


def test_what_is_beside_queue_and_engine_is_the_rest_of_a_trace() -> None:
    free = traced.traced(3, trace(Timings(batch_wait_s=0.1, compute_s=0.3, batch_rows=4)))
    assert (free.number, free.latency_s, free.rows, free.call_s) == (3, 2.0, 4, 0.3)
    assert free.beside_s == pytest.approx(1.2), "the engine was free: it came from the socket to it"
    busy = traced.traced(3, trace(Timings(queue_s=0.2, batch_wait_s=0.1, compute_s=0.3)))
    assert busy.beside_s == pytest.approx(0.9)
    timings = Timings(batch_wait_s=0.1, prefill_s=0.2, decode_s=0.4, compute_s=0.6)
    chat = traced.traced(
        3, trace(timings, usage=Usage(input_tokens=90, cached_tokens=24, output_tokens=7), first_s=0.9)
    )
    assert (chat.ttft_s, chat.read_tokens, chat.written_tokens) == (0.9, 66, 7)
    assert chat.beside_s == pytest.approx(0.8)


def test_who_had_no_answer_has_no_time() -> None:
    for each in (trace(None), trace(Timings(), status=503)):
        assert traced.traced(1, each) == traced.Traced(1)


def test_calls_are_fitted_with_how_much_longer_some_take_than_others_of_their_size() -> None:
    draws = np.random.default_rng(1)
    arrivals = replace(chats(400, 4.0), input_tokens=np.zeros(0, np.int64), output_tokens=np.zeros(0, np.int64))
    told = [
        traced.Traced(at, 0.1, 0.1, 0.004, int(rows), float((0.01 + 0.002 * rows) * draws.choice([0.9, 1.1])))
        for at, rows in enumerate(draws.integers(1, 9, 400))
    ]
    found = traced.fitted(kind(plan.Batching()), ONE, arrivals, told)[0]
    assert isinstance(found.engine, plan.Batching)
    assert found.engine.call_s(1) == pytest.approx(0.012, rel=0.05)
    assert found.engine.call_s(8) == pytest.approx(0.026, rel=0.05)
    assert min(found.engine.spread) == pytest.approx(0.9, rel=0.05)
    assert max(found.engine.spread) == pytest.approx(1.1, rel=0.05)
    assert found.around_s == pytest.approx((0.004,) * len(found.around_s))


def test_a_load_that_left_hardly_a_trace_is_refused() -> None:
    with pytest.raises(InvalidInput, match="0 requests left a trace to set the pace by"):
        traced.fitted(kind(plan.Batching()), ONE, chats(20, 1.0), [traced.Traced(0)])


def told(number: int, beside_s: float, waited_s: float = 0.0) -> traced.Traced:
    latency_s = waited_s + beside_s + 0.01
    return traced.Traced(number, latency_s, latency_s, beside_s, 1, 0.01, waited_s=waited_s)


def test_one_slow_request_of_hundreds_is_drawn_as_often_as_it_was() -> None:
    """Between few quantiles the slowest of all was smeared over the last fortieth, of which it was a tenth."""
    arrivals = replace(chats(400, 4.0), input_tokens=np.zeros(0, np.int64), output_tokens=np.zeros(0, np.int64))
    slow = next(at for at in range(200, 400) if traced.fold(arrivals.at_s[at]) == 1)
    seen = [told(at, 1.0 if at == slow else 0.001) for at in range(400)]
    found = traced.fitted(kind(plan.Batching()), ONE, arrivals, seen)[0]
    around_s = trial.lived(replace(found, engine=plan.Batching(0.0, 0.0)), ONE, arrivals).latency_s
    assert np.quantile(around_s, 0.98) < 0.1
    assert 0.0 < np.mean(around_s > 0.1) < 0.015


def test_what_is_beside_who_waited_is_drawn_of_those_who_waited() -> None:
    draws = np.random.default_rng(2)
    at_s = np.sort(np.concatenate([draws.uniform(0.0, 100.0, 200), np.repeat(np.arange(5.0, 100.0, 5.0), 4)]))
    arrivals = of(at_s, 101.0)
    is_first = np.append(True, np.diff(at_s) > 0.0)
    seen = [told(at, 0.001) if first else told(at, 0.2, waited_s=0.01) for at, first in enumerate(is_first.tolist())]
    places = kind(plan.Places(1, Drawn(0.001, 0.0)))
    for each in traced.fitted(places, ONE, arrivals, seen):
        latency_s = trial.lived(each, ONE, arrivals).latency_s
        assert latency_s[~is_first].min() > 0.2 > 0.1 > np.quantile(latency_s[is_first], 0.9)
