"""Schedules in a simulation: on when the clock on the wall says so, whatever virtual time leaves out."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.sim.arrivals import of
from stoker.sim.calendar import Calendar, moment, said
from stoker.sim.document import read
from stoker.sim.platform import plan
from stoker.sim.platform.request import ENDS
from stoker.sim.platform.world import World
from stoker.sim.service import Drawn
from stoker.sim.sizing import trial
from stoker.sim.sizing.answer import Range
from stoker.sim.sizing.demand import sampled
from stoker.sim.sizing.prices import UNPRICED
from stoker.sim.sizing.slos import Slo
from stoker.types.scaling import WEEKDAYS, Schedule

BERLIN = "Europe/Berlin"
times = st.builds(lambda hour, minute: f"{hour:02}:{minute:02}", st.integers(0, 23), st.integers(0, 59))
schedules = st.builds(
    Schedule,
    begin=times,
    end=times,
    days=st.sets(st.sampled_from(WEEKDAYS), min_size=1).map(lambda days: tuple(sorted(days))),
    zone=st.sampled_from(["UTC", BERLIN, "America/New_York", "Asia/Kolkata"]),
    min=st.just(5),
)


def is_on(schedule: Schedule, at_s: float) -> bool:
    """Say it by the clock, as a person would."""
    local = datetime.fromtimestamp(at_s, ZoneInfo(schedule.zone))
    clock = f"{local.hour:02}:{local.minute:02}"
    today, before = WEEKDAYS[local.weekday()], WEEKDAYS[local.weekday() - 1]
    if schedule.begin < schedule.end:
        return today in schedule.days and schedule.begin <= clock < schedule.end
    return (today in schedule.days and clock >= schedule.begin) or (before in schedule.days and clock < schedule.end)


@given(schedules, st.integers(1_700_000_000, 1_800_000_000), st.integers(0, 100_000), st.integers(0, 900_000))
def test_a_schedule_is_on_when_a_clock_on_the_wall_says_so(
    schedule: Schedule, began_s: int, now_s: int, left_out_s: int
) -> None:
    jumps = ((0.0, 0.0), (50_000.0, 50_000.0 + left_out_s))
    calendar = Calendar([schedule], float(began_s), jumps)
    wall_s = began_s + now_s + (left_out_s if now_s >= 50_000 else 0)
    assert calendar.wall_s(now_s) == wall_s
    assert calendar.bounds(1, 8, now_s) == ((5, 8) if is_on(schedule, wall_s) else (1, 8))
    states = calendar.states(6_000.0)
    assert len(states) == 100
    assert states[7] == (is_on(schedule, began_s + 420),)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("mon 08:00", "Mon 2024-01-01 08:00 UTC"),
        ("Sun 23:59", "Sun 2024-01-07 23:59 UTC"),
        (f"tue 08:00 {BERLIN}", "Tue 2024-01-02 07:00 UTC"),
        ("2026-11-30T08:00", "Mon 2026-11-30 08:00 UTC"),
        ("2026-11-30T08:00+01:00", "Mon 2026-11-30 07:00 UTC"),
    ],
)
def test_a_moment_is_a_weekday_or_a_date(text: str, at: str) -> None:
    assert said(moment(text)) == at


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("soon", "'soon' is no moment; write one as 'mon 08:00'"),
        ("mon", "'' is no time of a day"),
        ("mon 25:00", "'25:00' is no time of a day; write it as 08:00"),
        ("mon 08:00 Mars/Olympus", "'Mars/Olympus' is no time zone"),
    ],
)
def test_what_is_no_moment_says_how_to_write_one(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        moment(text)


@pytest.mark.parametrize("policy", ["stoker", "hpa", "fixed-1"])
def test_a_simulated_platform_follows_its_schedules_under_every_policy(policy: str) -> None:
    tree = {
        "begins": f"mon 07:50 {BERLIN}",
        "duration": "20m",
        "endpoints": [
            {
                "name": "a", "load": "edge", "times": 0.02, "cold_start": "10s", "max": 2, "policy": policy,
                "schedules": [{"begin": "08:00", "end": "08:05", "zone": BERLIN, "min": 3, "max": 4}],
            }
        ],
    }  # fmt: skip
    world = World(read(tree, Path()), 1.0)
    world.run()
    timeline = world.sites["a"].ledger.timeline
    wanted = {name: [each.wanted for each in timeline if low < each.at_s < high] for name, low, high in (
        ("before", 0.0, 600.0), ("during", 660.0, 900.0), ("after", 1_150.0, 1_200.0))}  # fmt: skip
    assert set(wanted["before"]) == {1}
    assert set(wanted["during"]) == {3}, "its minimum, over the endpoint's maximum"
    assert max(wanted["after"]) <= 2


def test_the_parts_of_a_recording_that_are_simulated_have_the_schedule_as_long_as_the_whole_had_it() -> None:
    lasts_s, began_s = 2 * 86_400.0, moment("wed 00:00")
    at_s = np.sort(np.random.default_rng(4).uniform(0.0, lasts_s, 2_000))
    nights = Schedule(begin="22:10", end="06:40", min=4, max=4)
    kind = trial.Kind(
        plan.Places(4, Drawn(0.2, 0.0)), (Slo("latency", 0.9, 3.0),), 5.0, began_s=began_s, schedules=(nights,)
    )
    recorded = of(at_s, lasts_s)
    demand = sampled(recorded, 400, 14_400.0, trial.states((kind,), recorded))
    assert demand.simulated_s < 0.2 * lasts_s
    figures = trial.run(kind, UNPRICED, Range(1, 1), demand, 1).figures
    asleep = 8.5 / 24.0
    assert figures.replicas_mean == pytest.approx(4 * asleep + 1 - asleep, rel=0.06)
    assert figures.replicas_most == 4


def closing(**more: object) -> dict[str, object]:
    """Return a plan of half an hour with an endpoint that is closed for its second third."""
    endpoint = {
        "name": "a", "load": "poisson", "times": 0.2, "cold_start": "5s", "min": 0, "max": 2, "deadline": "30s",
        "schedules": [{"begin": "08:00", "end": "08:10", "zone": BERLIN, "max": 0}],
    } | more  # fmt: skip
    return {"begins": f"mon 07:50 {BERLIN}", "duration": "30m", "endpoints": [endpoint]}


@pytest.mark.parametrize("policy", ["stoker", "hpa", "fixed-1"])
def test_who_asks_while_a_schedule_closes_the_endpoint_is_refused_at_once_under_every_policy(policy: str) -> None:
    world = World(read(closing(policy=policy), Path()), 1.0)
    (found,) = world.run()
    ledger = world.sites["a"].ledger
    _, _, latency_s, ends = ledger.columns()
    arrived_s = ledger.arrived_s()
    is_closed = ends == ENDS.index("closed")
    # Each policy lets replicas go at its next look; until then they answer, as they do live.
    looks_s = world.sites["a"].policy.every_s
    while_closed = (arrived_s > 600.0 + looks_s + 5.0) & (arrived_s < 1_200.0)
    assert np.sum(while_closed) > 300
    assert np.all(is_closed[while_closed]), "all of them"
    assert np.all((arrived_s[is_closed] >= 600.0) & (arrived_s[is_closed] < 1_201.0)), "and nobody else"
    assert not latency_s[is_closed].any(), "none of them waits"
    assert found.ends["closed"] == np.sum(is_closed)
    assert found.ends["late"] == found.ends["down"] == 0
    assert found.ends["ok"] == found.requests - found.ends["closed"], "who comes first when it opens wakes it"
    waited = found.late_ratio * (found.requests - found.ends["closed"])
    assert waited == pytest.approx(np.sum((ledger.columns()[0] > 1.0) & ~is_closed)), "late is said of the others"


def test_who_waits_when_the_endpoint_closes_is_told_so_then() -> None:
    engine = {"places": {"places": 1, "service": "40s", "variation": 0.0}}
    world = World(read(closing(engine=engine, times=0.05, deadline="10m", max=1), Path()), 1.0)
    (found,) = world.run()
    ledger = world.sites["a"].ledger
    _, _, latency_s, ends = ledger.columns()
    arrived_s = ledger.arrived_s()
    waited = (ends == ENDS.index("closed")) & (latency_s > 0.0)
    assert np.sum(waited) > 3
    ended_s = arrived_s[waited] + latency_s[waited]
    assert np.all((ended_s >= 600.0) & (ended_s < 605.0))
    assert found.ends["unfinished"] == 0


def test_an_endpoint_that_keeps_a_replica_is_not_closed_by_a_maximum_of_none() -> None:
    (found,) = World(read(closing(min=1), Path()), 1.0).run()
    assert found.ends["ok"] == found.requests, "its minimum is a promise"


def test_a_plan_counts_who_was_closed_out_by_itself_and_promises_by_the_others() -> None:
    lasts_s, began_s = 14_400.0, moment("wed 20:00")
    at_s = np.sort(np.random.default_rng(4).uniform(0.0, lasts_s, 2_000))
    nights = Schedule(begin="22:00", end="06:00", max=0)
    kind = trial.Kind(
        plan.Places(4, Drawn(0.2, 0.0)), (Slo("latency", 0.9, 3.0),), 5.0, began_s=began_s, schedules=(nights,)
    )
    recorded = of(at_s, lasts_s)
    demand = sampled(recorded, states=trial.states((kind,), recorded))
    figures = trial.run(kind, UNPRICED, Range(0, 2), demand, 1).figures
    assert figures.closed_ratio == pytest.approx(0.5, abs=0.03)
    assert figures.answered_ratio > 0.99
    assert figures.kept[kind.slos[0].name] > 0.95
    assert figures.latency.p95_s < 3.0
    open_all_day = trial.run(replace(kind, schedules=()), UNPRICED, Range(0, 2), demand, 1).figures
    assert open_all_day.closed_ratio == 0.0
