"""How large an endpoint should be: promises, prices, what is simulated, and the cheapest range that holds."""

import re
import xml.dom.minidom
from collections import Counter
from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.sim import arrivals
from stoker.sim.platform import plan
from stoker.sim.service import Drawn
from stoker.sim.sizing import chart, demand, slos, throughput, trial
from stoker.sim.sizing.answer import Answer, Range
from stoker.sim.sizing.axes import Scale, clock, linear, logarithmic
from stoker.sim.sizing.page import page
from stoker.sim.sizing.prices import UNPRICED, Pool, PriceList, checked
from stoker.sim.sizing.search import Search
from stoker.sim.sizing.slos import Slo
from stoker.sim.sizing.trial import Kind
from stoker.types.errors import InvalidInput
from stoker.types.slos import Objective

POOL = Pool("cpu", replica_hour=2.0)
# One request at a time, each for exactly a second: a replica does one a second at the very most.
STEADY = Kind(plan.Places(1, Drawn(1.0, 0.0)), (Slo("latency", 0.9, 3.0),), cold_start_s=5.0)


def poisson(per_s: float, lasts_s: float, seed: int = 1) -> arrivals.Arrivals:
    draws = np.random.default_rng(seed)
    return arrivals.poisson(lambda at_s: np.full_like(at_s, per_s), per_s, lasts_s, draws)


RECORDED = poisson(1.6, 300.0)


@pytest.fixture(scope="module")
def answer() -> Answer:
    return Search(STEADY, RECORDED, (POOL,), 16, 0).run(least=1, is_priced=True)


# ---- promises and prices


def test_promises_are_read_as_people_write_them() -> None:
    assert slos.parse("ttft_p95=500ms, latency_p99.9=2s") == (Slo("ttft", 0.95, 0.5), Slo("latency", 0.999, 2.0))
    assert [each.name for each in slos.parse("ttft_p95=500ms,latency_p99.9=2s")] == ["ttft_p95", "latency_p99.9"]


@pytest.mark.parametrize(
    "text", ["", "p95=1s", "ttft_p0=1s", "ttft_p95=soon", "ttft_p95", "latency_p100=1s", "ttft_p95=0s"]
)
def test_what_is_no_promise_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no objective"):
        slos.parse(text)


def test_of_objectives_those_are_taken_that_a_simulation_can_judge() -> None:
    said = (
        Objective("fast", 0.95, "ttft", under="500ms"),
        Objective("up", 0.999),
        Objective("one", 0.9, "latency", tenant="acme", under="1s"),
    )
    assert slos.promised(said) == (Slo("ttft", 0.95, 0.5),)


def test_a_node_is_paid_whole_and_other_prices_by_the_replica() -> None:
    pool = Pool("gpu", node_hour=10.0, replicas_per_node=4, core_hour=0.5, gpu_hour=1.0, gpus=2)
    assert pool.usd_per_hour(0, 2.0) == 0.0
    assert pool.usd_per_hour(4, 2.0) == 10.0 + 4 * (1.0 + 2.0)
    assert pool.usd_per_hour(5, 2.0) == 20.0 + 5 * (1.0 + 2.0)


def test_a_price_list_has_no_pool_twice_and_none_for_nothing() -> None:
    with pytest.raises(InvalidInput, match="two pools"):
        checked(PriceList((POOL, POOL)))
    with pytest.raises(InvalidInput, match="costs nothing"):
        checked(PriceList((Pool("free"),)))


# ---- what is simulated


@given(per_s=st.floats(0.01, 3.0), lasts_s=st.floats(10.0, 20_000.0), most=st.integers(50, 2000))
def test_stretches_stand_for_the_whole_recording_and_have_its_busiest_part(
    per_s: float, lasts_s: float, most: int
) -> None:
    recorded = poisson(per_s, lasts_s)
    if not len(recorded):
        return
    found = demand.sampled(recorded, most, 7200.0)
    spans = [(each.begins_s + each.lead_s, each.begins_s + each.arrivals.duration_s) for each in found.stretches]
    assert all(one[1] <= after[0] + 1e-6 for one, after in pairwise(spans))
    length_s = spans[0][1] - spans[0][0]
    stands_for_s = length_s * sum(each.stands_for for each in found.stretches)
    assert lasts_s - length_s - 1e-6 <= stands_for_s <= lasts_s + length_s + 1e-6
    counts = [np.sum((recorded.at_s >= low) & (recorded.at_s < high)) for low, high in spans]
    starts = np.arange(0.0, lasts_s - length_s + 1e-6, length_s)
    assert max(counts) == max(np.sum((recorded.at_s >= low) & (recorded.at_s < low + length_s)) for low in starts)


@given(per_s=st.floats(0.02, 0.5), states=st.lists(st.integers(0, 2), min_size=60, max_size=300))
def test_a_stretch_stands_only_for_those_that_went_through_the_same(per_s: float, states: list[int]) -> None:
    recorded = poisson(per_s, len(states) * 60.0)
    found = demand.sampled(recorded, 40, 1200.0, states)
    if len(found.stretches) == 1:
        return
    lengths_s = {round(each.arrivals.duration_s - each.lead_s) for each in found.stretches}
    assert len(lengths_s) == 1
    minutes = lengths_s.pop() // 60

    def course(first: int) -> tuple[int, ...]:
        return tuple(state for state, _ in groupby(states[first : first + minutes]))

    stood: Counter[tuple[int, ...]] = Counter()
    for each in found.stretches:
        stood[course(round((each.begins_s + each.lead_s) / 60.0))] += each.stands_for
    assert stood == Counter(course(first) for first in range(0, len(states) // minutes * minutes, minutes))


@given(seed=st.integers(0, 1000), times=st.integers(1, 5))
def test_a_draw_has_every_request_as_often_as_asked_within_its_minute(seed: int, times: int) -> None:
    drawn = demand.drawn(RECORDED, seed, times)
    assert len(drawn) == times * len(RECORDED)
    assert np.all(np.diff(drawn.at_s) >= 0.0)
    minutes = [np.bincount((each.at_s // 60.0).astype(int)) for each in (RECORDED, drawn)]
    assert (minutes[1] == times * minutes[0]).all()


def test_what_comes_before_a_stretch_is_run_and_not_counted() -> None:
    found = demand.sampled(poisson(0.5, 30_000.0), 3000, 7200.0)
    later = found.stretches[-1]
    assert later.lead_s == demand.LEAD_S
    starts = np.cumsum([0.0, *(each.arrivals.duration_s for each in found.stretches)])
    assert found.weights(np.array([starts[-2] + 1.0, starts[-2] + later.lead_s + 1.0])).tolist() == [
        0.0,
        later.stands_for,
    ]


# ---- trials and the search


def test_a_trial_on_enough_replicas_takes_what_the_work_takes() -> None:
    found = trial.run(STEADY, POOL, Range(12, 12), demand.sampled(RECORDED), 0).figures
    assert found.latency.p50_s == pytest.approx(1.0)
    assert found.answered_ratio == found.kept["latency_p90"] == 1.0
    assert found.usd_per_hour == pytest.approx(24.0)


def test_a_pool_that_is_twice_as_fast_takes_half_the_time() -> None:
    fast = Pool("fast", replica_hour=2.0, speed=2.0)
    assert trial.run(STEADY, fast, Range(12, 12), demand.sampled(RECORDED), 0).figures.latency.p50_s == pytest.approx(
        0.5
    )
    for engine in (STEADY.engine, plan.Batching(), plan.Generating()):
        slow, faster = (throughput.per_s(throughput.faster(engine, times), RECORDED) for times in (1.0, 2.0))
        assert faster == pytest.approx(2.0 * slow)


def test_requests_without_an_answer_are_in_no_share(answer: Answer) -> None:
    few = trial.run(STEADY, POOL, Range(1, 1), demand.sampled(RECORDED), 0).figures
    assert few.answered_ratio < 0.9
    assert few.kept["latency_p90"] < few.answered_ratio
    assert few.latency.p99_s == float("inf")


def test_one_replica_less_than_the_smallest_number_does_not_hold(answer: Answer) -> None:
    enough = answer.fixed.range.max
    found = [
        trial.run(STEADY, POOL, Range(count, count), demand.sampled(RECORDED), 0).figures.holds(STEADY.slos)
        for count in (enough - 1, enough)
    ]
    assert found == [False, True]


def test_the_plan_holds_on_draws_that_it_was_not_chosen_on(answer: Answer) -> None:
    assert answer.chosen.is_sure
    assert answer.chosen.figures.spent(STEADY.slos) <= 1.0
    fresh = [trial.run(STEADY, POOL, answer.chosen.range, demand.sampled(RECORDED), seed) for seed in range(1, 5)]
    assert np.mean([each.figures.kept["latency_p90"] for each in fresh]) >= 0.9


def test_more_demand_breaks_the_plan_and_what_would_be_enough_holds(answer: Answer) -> None:
    five = answer.grown[-1]
    assert five.times == 5
    assert not five.is_kept
    assert five.enough is not None
    assert five.enough.figures.holds(STEADY.slos)


def test_the_same_seed_gives_the_same_plan(answer: Answer) -> None:
    assert Search(STEADY, RECORDED, (POOL,), 16, 0).run(least=1, is_priced=True) == answer


def test_the_cheaper_of_two_pools_is_taken() -> None:
    dear = Pool("dear", replica_hour=20.0, speed=2.0)
    short = demand.between(RECORDED, 0.0, 120.0)
    assert Search(STEADY, short, (dear, POOL), 16, 0).run(least=1, is_priced=True).chosen.pool == "cpu"


def test_a_promise_that_nothing_keeps_is_refused_with_what_to_do() -> None:
    kind = Kind(STEADY.engine, (Slo("latency", 0.9, 0.5),))
    with pytest.raises(InvalidInput, match=r"no number of replicas up to 4 keeps latency_p90 under 0.5 s: .*Promise"):
        Search(kind, RECORDED, (UNPRICED,), 4, 0).run(least=1, is_priced=False)


# ---- pictures


def test_the_pictures_are_well_formed_and_ask_nothing_of_elsewhere(answer: Answer) -> None:
    xml.dom.minidom.parseString(chart.whole(answer, "a <day> & more"))
    whole = page(answer, "a <day> & more")
    assert not re.findall(r"<script|(?:href|src|url)\s*[=(]", whole)
    assert re.findall(r"https?://[^\s\"']+", whole) == ["http://www.w3.org/2000/svg"]
    assert "<day>" not in whole


def test_nothing_is_drawn_outside_of_the_picture(answer: Answer) -> None:
    drawn = chart.whole(answer, "day")
    height = float(re.findall(r'viewBox="0 0 960 (\d+)"', drawn)[0])
    points = re.findall(r'points="([^"]*)"', drawn)
    pairs = [pair.split(",") for each in points for pair in each.split()]
    assert all(0.0 <= float(x) <= 960.0 and 0.0 <= float(y) <= height for x, y in pairs)


@given(most=st.floats(1e-3, 1e6))
def test_marks_stand_on_their_scale(most: float) -> None:
    for scale in (linear(most), clock(most), logarithmic([most], 1e-4, 1e7), Scale(0.0, most)):
        parts = [scale.part(each) for each in scale.ticks()]
        assert parts == sorted(parts)
        assert all(-1e-9 <= each <= 1.0 + 1e-9 for each in parts)
    assert 3 <= len(linear(most).ticks()) <= 9
