"""A load that was sent is simulated as it was sent, and what came of it is compared as the client saw it."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.scale import forecast
from stoker.core.scale.memory import Day, Memory
from stoker.sim.platform.plan import Started
from stoker.sim.sizing import demand, trial
from stoker.sim.sizing.answer import Range
from stoker.sim.sizing.validation import Checked, Measured, judged, load, quantiles, validated
from tests.sim.test_sizing import RECORDED, STEADY


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


def test_replicas_that_are_there_are_there_from_the_beginning() -> None:
    few, many = (
        trial.lived(replace(STEADY, initial=each, cold_start_s=1e4), Range(1, 9), RECORDED).latency_s.tolist()
        for each in (1, 9)
    )
    assert quantiles("latency", many)["latency p95"] < quantiles("latency", few)["latency p95"]
