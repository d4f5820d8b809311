"""A load that was sent is simulated as it was sent, and what came of it is compared as the client saw it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.scale import forecast
from stoker.core.scale.memory import Day, Memory
from stoker.core.scale.policy import Policy as Rules
from stoker.sim.arrivals import of
from stoker.sim.platform import plan
from stoker.sim.platform.plan import Started
from stoker.sim.service import Drawn
from stoker.sim.sizing import demand, trial
from stoker.sim.sizing.answer import Range
from stoker.sim.sizing.validation import Checked, Measured, judged, load, quantiles, validated
from tests.sim.test_sizing import RECORDED, STEADY, poisson


def test_a_simulation_of_what_was_measured_is_near_and_of_something_else_is_not() -> None:
    said = {"latency p50": 1.0, "latency p95": 0.5, "ttft p50": 0.0, "replica-hours": 9 * 300.0 / 3600.0}
    found = validated(STEADY, Range(9, 9), demand.sampled(RECORDED), said, 0, lambda *_: None)
    assert {each.name: each.is_near for each in found.lines} == {
        "latency p50": True, "latency p95": False, "replica-hours": True
    }  # fmt: skip


def test_how_far_it_was_off_is_a_share_of_what_was_measured() -> None:
    assert Checked("latency p50", 2.0, 1.5, 0.15).off == -0.25
    assert Checked("latency p50", 2.0, 2.3, 0.15).is_near
    assert Checked("latency p95", math.inf, math.inf, 0.15).off == 0.0
    assert Checked("latency p95", math.inf, 2.0, 0.15).off == -1.0


@given(per_s=st.floats(0.5, 50.0), seed=st.integers(0, 999))
def test_a_load_is_of_the_rate_that_was_asked_and_the_same_by_seed(per_s: float, seed: int) -> None:
    made = load(per_s, 400.0, seed)
    assert len(made) == pytest.approx(per_s * 400.0, abs=6 * math.sqrt(per_s * 400.0))
    assert made.at_s.tolist() == load(per_s, 400.0, seed).at_s.tolist() == sorted(made.at_s.tolist())


@given(st.lists(st.floats(0.001, 10.0), min_size=1, max_size=50), st.integers(0, 50))
def test_who_had_no_answer_counts_as_never(taken_s: list[float], lost: int) -> None:
    found = quantiles("latency", [*taken_s, *[math.inf] * lost])
    assert found["latency p50"] <= found["latency p95"]
    for share, name in ((0.5, "latency p50"), (0.95, "latency p95")):
        within = sum(each <= found[name] for each in taken_s) / (len(taken_s) + lost)
        assert found[name] == math.inf or within >= share - 1e-9


def test_what_was_measured_of_some_arrivals_is_compared_with_the_simulation_of_those() -> None:
    kind, counted = replace(STEADY, initial=2), Range(2, 2)
    lived = trial.lived(kind, counted, RECORDED)
    numbers = list(range(0, len(RECORDED), 2))
    taken_s = lived.latency_s[numbers].tolist()
    exact = judged((kind,), counted, RECORDED, Measured(numbers, {"latency": taken_s}), 0, lambda *_: None)
    assert all(abs(each.off) < 0.1 for each in exact), "seeds differ, the arrivals do not"
    slower = Measured(numbers, {"latency": [2.0 * each for each in taken_s]}, 2 * RECORDED.duration_s / 3600.0)
    off = {each.name: each for each in judged((kind,), counted, RECORDED, slower, 0, lambda *_: None)}
    assert off["latency p50"].off == pytest.approx(-0.5, abs=0.05)
    assert off["replica-hours"].off == pytest.approx(0.0, abs=1e-6)


def test_a_quantile_where_two_kinds_of_requests_meet_is_known_to_be_chance() -> None:
    kind, counted = replace(STEADY, initial=2), Range(2, 2)
    numbers = list(range(len(RECORDED)))
    waited = round(0.05 * len(numbers))
    edge_s = [9.0] * waited + [1.0] * (len(numbers) - waited)
    (p50, p95) = judged((kind,), counted, RECORDED, Measured(numbers, {"latency": edge_s}), 0, lambda *_: None)
    assert (p50.low, p50.high, p50.is_chance) == (1.0, 1.0, False)
    assert (p95.low, p95.high, p95.is_chance) == (1.0, 9.0, True)
    many_s = [9.0] * (4 * waited) + [1.0] * (len(numbers) - 4 * waited)
    (_, clear) = judged((kind,), counted, RECORDED, Measured(numbers, {"latency": many_s}), 0, lambda *_: None)
    assert (clear.low, clear.high, clear.is_chance) == (9.0, 9.0, False)


@given(
    st.floats(0.001, 10.0),
    st.floats(0.001, 10.0),
    st.floats(0.0, 1.0),
    st.one_of(st.floats(1.0, 9.0), st.just(math.inf)),
)
def test_what_is_said_to_be_so_is_so_of_every_truth_in_the_range(
    measured: float, simulated: float, below: float, above: float
) -> None:
    line = Checked("latency p95", measured, simulated, 0.25, measured * below, measured * above)
    truths = [each for each in (line.low, measured, min(line.high, 1e9)) if each]
    offs = [abs(simulated / each - 1.0) for each in truths]
    if line.verdict == "within":
        assert line.is_near
        assert max(offs) <= 0.25 + 1e-9
    elif line.verdict == "outside":
        assert not line.is_near
        assert min(offs) > 0.25 - 1e-9
    else:
        assert line.verdict == "cannot be told"
        assert line.low < simulated / 0.75 + 1e-9
        assert line.high > simulated / 1.25 - 1e-9


def test_few_requests_tell_nothing_of_their_tail_and_many_do() -> None:
    far = Checked("latency p95", 1.0, 0.71, 0.25, 0.9, math.inf)
    assert (far.is_near, far.verdict) == (False, "cannot be told")
    assert Checked("latency p95", 1.0, 0.71, 0.25, 0.97, 1.04).verdict == "outside"
    assert Checked("latency p95", 1.0, 0.9, 0.25, 0.97, 1.04).verdict == "within"
    assert Checked("latency p95", math.inf, math.inf, 0.25, math.inf, math.inf).verdict == "within"
    assert Checked("replica-hours", 1.0, 0.9, 0.1).verdict == "", "nothing is known of its range"


def test_starts_are_drawn_of_those_that_were_measured() -> None:
    kind = replace(STEADY, initial=1, cold_start_s=1e4, starts=(Started(3.0), Started(30.0)), known_start_s=3.0)
    slowest_s = [trial.lived(kind, Range(1, 3), RECORDED, seed).latency_s.max() for seed in range(6)]
    assert min(slowest_s) < 5.0 < 10.0 < max(slowest_s) < 50.0


def test_scaling_begins_with_what_it_remembers_and_the_hour_that_it_is() -> None:
    slots = (0.0,) * forecast.SLOTS
    noon = 20_000 * forecast.DAY_S + 43_200.0
    at = int(noon // forecast.SLOT_S) % forecast.SLOTS
    remembers = Memory(served=100.0, service_s=1.0, places=1.0, day=Day((*slots[:at], 7.0, 7.0, *slots[at + 2 :])))
    asleep = replace(STEADY, initial=1, began_s=noon)
    few, many = (
        trial.lived(replace(asleep, memory=each), Range(1, 20), RECORDED).replica_hours
        for each in (Memory(), remembers)
    )
    assert many > few


def test_the_minute_before_the_beginning_was_seen_by_whoever_remembers_it() -> None:
    """The first request of the first seconds is no rate: with a minute of nobody before it nothing is ordered."""
    at_s = [1.0, 1.5, *range(200, 230, 5)]
    arrivals = of(np.array(at_s), 300.0)
    remembers = Memory(desired=1, measured_s=1e6 - 1.0, since_s=1e6 - 600.0, served=100.0, service_s=1.5, places=1.0)
    kind = replace(STEADY, initial=1, began_s=1e6, memory=remembers, rules=Rules(utilization=0.7))
    paid_s = 3600.0 * trial.lived(kind, Range(1, 9), arrivals).replica_hours
    assert paid_s == pytest.approx(300.0), "two requests in a minute keep one replica busy for a twentieth of it"


def test_it_looks_when_control_would_have_looked() -> None:
    """What is in flight at the moment of a look orders a replica, or does not."""
    arrivals = of(np.array([1.4, 1.41, 1.42]), 30.0)
    paid_s = []
    for before_s in (0.1, 0.5, 1.9):  # before the beginning it looked last: so it looks 1.9, 1.5 and 0.1 s behind it
        remembers = Memory(
            desired=1, measured_s=1e6 - before_s, since_s=1e6 - 600.0, served=1.0, service_s=0.5, places=1.0
        )
        asked = replace(STEADY, initial=1, began_s=1e6, memory=remembers)
        paid_s.append(3600.0 * trial.lived(asked, Range(1, 2), arrivals).replica_hours)
    assert paid_s == pytest.approx([30.0 + 28.1, 30.0 + 28.5, 30.0 + 27.9], abs=0.03)


def test_what_replica_hours_happened_to_be_is_as_sure_as_simulated_ones_are_alike() -> None:
    counted, kind = Range(1, 3), replace(STEADY, initial=1, engine=plan.Places(1, Drawn(1.0, 1.0)))
    arrivals = poisson(0.4, 300.0)
    measured = Measured(list(range(len(arrivals))), {}, trial.lived(kind, counted, arrivals).replica_hours)
    (hours,) = judged((kind,), counted, arrivals, measured, 0, lambda *_: None)
    assert hours.low < hours.measured < hours.high
    fixed = Measured(measured.numbers, {}, RECORDED.duration_s / 3600.0)
    (sure,) = judged((replace(STEADY, initial=1),), Range(1, 1), RECORDED, fixed, 0, lambda *_: None)
    assert (sure.low, sure.high) == pytest.approx((sure.measured, sure.measured))
    assert sure.verdict == "within"


def test_replicas_that_are_there_are_there_from_the_beginning() -> None:
    few, many = (
        trial.lived(replace(STEADY, initial=each, cold_start_s=1e4), Range(1, 9), RECORDED).latency_s.tolist()
        for each in (1, 9)
    )
    assert quantiles("latency", many)["latency p95"] < quantiles("latency", few)["latency p95"]
