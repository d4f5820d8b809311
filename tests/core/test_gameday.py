"""What a game day is worth: scores stay in 0 to 1, worse is never better, and nothing is found where nothing was."""

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.diagnose.causes import KINDS, CauseKind
from stoker.core.gameday import (
    BY_NAME,
    GOOD_FOR_S,
    SCENARIOS,
    LoadKind,
    Marks,
    Second,
    harmed,
    judge,
    normal,
    obstacle,
    rank_of,
    recovered_s,
)

KILL = BY_NAME["replica-kill"]
HANG = BY_NAME["replica-hang"]
BASE = [Second(float(at), 20, 0, 0.01, 2) for at in range(10)]


# requests, share of them that fails, the slowest twentieth, replicas that are ready
_seen = st.tuples(
    st.integers(0, 30), st.sampled_from([0.0, 0.0, 0.5, 1.0]), st.sampled_from([0.01, 0.09, 5.0]), st.integers(-1, 2)
)
rows_seen = st.lists(_seen, max_size=25).map(
    lambda seen: [
        Second(10.0 + at, requests, int(requests * share), slow_s, ready)
        for at, (requests, share, slow_s, ready) in enumerate(seen)
    ]
)
times = st.none() | st.floats(0, 1e4)
causes = st.lists(st.sampled_from(KINDS), max_size=5, unique=True).map(tuple)


def good(start: int, count: int) -> list[Second]:
    return [Second(float(start + at), 20, 0, 0.01, 2) for at in range(count)]


def bad(start: int, count: int) -> list[Second]:
    return [Second(float(start + at), 20, 5, 0.01, 2) for at in range(count)]


def test_every_scenario_does_one_thing_and_expects_causes_that_exist() -> None:
    assert len(BY_NAME) == len(SCENARIOS)
    for each in SCENARIOS:
        assert (each.fault is not None) + each.is_bad_revision + (each.load != "none") == 1, each.name
        assert not each.is_everywhere or each.fault is not None
        assert set(each.expects) <= set(KINDS)
        assert each.load in get_args(LoadKind)
        assert each.tasks
        assert (each.rate_times > 0) == (each.load != "none")


@given(rows=rows_seen, ended=times, detected=times, named=causes, scenario=st.sampled_from(SCENARIOS))
def test_a_score_is_between_nothing_and_one(
    rows: list[Second], ended: float | None, detected: float | None, named: tuple[CauseKind, ...], scenario: Any
) -> None:
    card = judge(scenario, BASE + rows, Marks(10.0, ended, detected, causes=named))
    for part in (card.detection, card.diagnosis, card.remediation, card.protection, card.score):
        assert part is None or 0.0 <= part <= 1.0
    assert card.failed <= card.requests
    if scenario.is_silent:
        assert card.outcome == ("missed" if detected is None else "found")
        assert card.remediation is None
    else:
        assert (card.outcome == "not healed") == (card.recovered_after_s is None)
    if card.outcome == "absorbed":
        assert card.failed == 0
        assert card.detected_after_s is None
    if card.outcome == "outlasted":
        assert card.remediation == 0.0


@given(rows=rows_seen)
def test_recovery_is_followed_by_as_many_good_seconds_as_it_takes(rows: list[Second]) -> None:
    limit_s, ready = normal(BASE)
    found = recovered_s(rows, limit_s, ready)
    if found is None:
        return
    asked = [each for each in rows if each.at_s >= found and each.requests]
    was_harmed = any(harmed(each, limit_s, ready) for each in rows)
    assert not any(harmed(each, limit_s, ready) for each in asked[: GOOD_FOR_S if was_harmed else len(asked)])
    if was_harmed:
        assert len(asked) >= GOOD_FOR_S


def test_an_endpoint_is_good_again_after_its_last_harm_and_not_in_a_pause_of_it() -> None:
    rows = bad(10, 5) + good(15, GOOD_FOR_S - 1) + bad(24, 3) + good(27, GOOD_FOR_S)
    assert recovered_s(rows, 0.01, 2) == 27.0
    assert recovered_s(rows[:-1], 0.01, 2) is None
    assert recovered_s(bad(10, 100), 0.01, 2) is None
    assert recovered_s([], 0.01, 2) is None


def test_a_replica_that_is_missing_is_harm_until_it_is_back_although_no_caller_saw_it() -> None:
    rows = [Second(10.0 + at, 20, 0, 0.01, 1 if at < 4 else 2) for at in range(20)]
    card = judge(KILL, BASE + rows, Marks(10.0))
    assert card.outcome == "absorbed"
    assert card.recovered_after_s == 4.0
    assert card.detection is card.diagnosis is None
    assert card.score == 1.0


def test_the_second_of_the_injection_says_nothing_of_what_is_normal() -> None:
    rows = [Second(10.0, 20, 0, 0.01, 1), Second(11.0, 20, 0, 0.01, 1), *good(12, 20)]
    assert judge(KILL, BASE + rows, Marks(10.7)).recovered_after_s == pytest.approx(1.3)


def test_seconds_in_which_nobody_asked_are_no_recovery() -> None:
    silent = [Second(12.0 + at) for at in range(50)]
    assert recovered_s(bad(10, 2) + silent, 0.01, -1) is None


@given(st.integers(0, 19), st.integers(0, 19))
def test_more_failures_never_score_better(one: int, other: int) -> None:
    def score(failed: int) -> float:
        rows = [Second(10.0 + at, 20, failed if at < 5 else 0, 0.01, 2) for at in range(30)]
        return judge(KILL, BASE + rows, Marks(10.0, detected_s=11.0, causes=("bad_replica",))).score

    fewer, more = sorted((one, other))
    assert score(more) <= score(fewer)


@given(st.floats(10, 400), st.floats(10, 400))
def test_a_later_alert_never_scores_better_and_none_scores_worst(one: float, other: float) -> None:
    def score(at_s: float | None) -> float:
        return judge(KILL, BASE + bad(10, 5) + good(15, 20), Marks(10.0, detected_s=at_s)).score

    sooner, later = sorted((one, other))
    assert score(None) <= score(later) <= score(sooner)


def test_what_got_good_only_when_the_fault_was_over_was_not_healed_by_anybody() -> None:
    rows = bad(10, 20) + good(30, 20)
    assert judge(HANG, BASE + rows, Marks(10.0, ended_s=30.0)).outcome == "outlasted"
    healed = judge(HANG, BASE + rows, Marks(10.0, ended_s=60.0))
    assert healed.outcome == "healed"
    assert healed.remediation == 1.0


def test_the_right_cause_counts_in_full_first_half_among_three_and_not_at_all_later() -> None:
    def diagnosis(*named: CauseKind) -> float | None:
        marks = Marks(10.0, detected_s=12.0, causes=named)
        return judge(HANG, BASE + bad(10, 5) + good(15, 20), marks).diagnosis

    assert diagnosis("bad_replica", "overload") == 1.0
    assert diagnosis("overload", "network", "bad_replica") == 0.5
    assert diagnosis("overload", "network", "memory", "bad_replica") == 0.0
    assert diagnosis() == 0.0
    assert rank_of(("overload",), ("bad_replica", "overload")) == 1


def test_what_is_good_from_the_second_in_which_the_fault_ended_was_healed_by_nobody() -> None:
    seconds = BASE + bad(10, 90) + good(100, GOOD_FOR_S)
    card = judge(HANG, seconds, Marks(10.4, ended_s=100.4, detected_s=20.0, causes=("bad_replica",)))
    assert (card.outcome, card.remediation) == ("outlasted", 0.0)


def test_where_an_alarm_saw_what_no_caller_felt_there_is_no_harm_to_explain() -> None:
    missing = [msgspec.structs.replace(each, ready=1) for each in good(10, 30)]
    card = judge(BY_NAME["corrupt-artifact"], BASE + missing + good(40, GOOD_FOR_S), Marks(10.0, 40.0, 18.0))
    assert (card.outcome, card.detection, card.diagnosis) == ("outlasted", 1.0, None)


def test_an_obstacle_says_what_to_do() -> None:
    slow = BY_NAME["replica-slow"]
    assert obstacle(slow, "predict", "onnx", 2) == ""
    assert "spec.replicas.min" in obstacle(slow, "predict", "onnx", 1)
    assert "chat" in obstacle(BY_NAME["long-prompts"], "predict", "onnx", 2)
    assert "openai" in obstacle(BY_NAME["dependency-down"], "chat", "llamacpp", 2)
    assert obstacle(BY_NAME["dependency-down"], "chat", "openai", 1) == ""


def test_noise_of_a_fast_model_is_no_harm() -> None:
    limit_s, _ = normal(BASE)
    assert not harmed(msgspec.structs.replace(BASE[0], slow_s=0.09), limit_s, 2)
    assert harmed(msgspec.structs.replace(BASE[0], slow_s=0.2), limit_s, 2)


def test_what_a_busy_machine_does_without_a_fault_is_not_said_of_the_fault() -> None:
    noisy = [Second(float(at), 20, 0, 0.4 if at % 10 == 0 else 0.02, 2) for at in range(60)]
    after = [msgspec.structs.replace(each, at_s=each.at_s + 60) for each in noisy]
    assert judge(HANG, noisy + after, Marks(60.0, ended_s=120.0)).outcome == "absorbed"
    assert judge(HANG, [*noisy, *bad(60, 5), *after], Marks(60.0, ended_s=130.0)).outcome == "healed"
