"""What an operator asks of objectives: how soon am I woken, and am I ever woken for nothing."""

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import slo
from stoker.core.evidence import log_evidence
from stoker.core.slo import EVERY_S, Counts, SloDecision, SloMemory
from stoker.types.slos import BudgetStep, Objective
from tests.core.window import Window

THREE_NINES = Objective(name="answers", target=0.999)
QUICK = Objective(name="quick", target=0.99, sli="latency", under="300ms")


def looks(
    objective: Objective, seconds: float, traffic: Callable[[float], tuple[float, float]], warm_s: float = 0.0
) -> Iterator[tuple[float, SloDecision]]:
    """Yield (seconds since the start, decision) at every look; `traffic` gives bad and total of one look's time.

    warm_s: so long before the start everything was good, at the pace of the start.
    """
    window, memory = Window(), SloMemory()
    at_s = -warm_s
    while at_s < 0:
        step_s = 60.0 if at_s < -900 else EVERY_S
        window.add(0, traffic(0.0)[1] * step_s / EVERY_S, at_s)
        at_s += step_s
    window.add(0, traffic(0.0)[1], 0.0)
    for number in range(1, int(seconds / EVERY_S) + 1):
        now_s = number * EVERY_S
        window.add(*traffic(now_s), now_s)
        decision = slo.decide(objective, {each: window.counts(each) for each in slo.windows(objective)}, memory, now_s)
        memory = decision.memory
        yield now_s, decision


def steady(per_s: float, bad_ratio: float) -> Callable[[float], tuple[float, float]]:
    return lambda _now_s: (per_s * EVERY_S * bad_ratio, per_s * EVERY_S)


def paged_after(objective: Objective, traffic: Callable[[float], tuple[float, float]], within_s: float) -> float | None:
    return next(
        (now_s for now_s, decision in looks(objective, within_s, traffic, warm_s=3600) if decision.severity == "page"),
        None,
    )


def test_a_full_outage_pages_at_the_second_look_at_the_latest() -> None:
    for per_s in (1.0, 10.0, 1000.0):
        for target in (0.9, 0.99, 0.999, 0.9999):
            objective = Objective(name="answers", target=target)
            found = paged_after(objective, steady(per_s, 1.0), 60)
            assert found is not None, (per_s, target)
            assert found <= 10, (per_s, target)


def test_an_outage_of_a_quiet_endpoint_pages_at_its_fifth_failure() -> None:
    arrivals = [number * 20.0 for number in range(1, 60)]  # one in 20 s, all fail

    def traffic(now_s: float) -> tuple[float, float]:
        count = sum(now_s - EVERY_S < at_s <= now_s for at_s in arrivals)
        return count, count

    assert paged_after(THREE_NINES, traffic, 600) == 100


def test_five_in_a_hundred_failing_pages_within_a_minute() -> None:
    for per_s in (20.0, 100.0, 5000.0):
        found = paged_after(THREE_NINES, steady(per_s, 0.05), 300)
        assert found is not None, per_s
        assert found <= 60, per_s


@pytest.mark.parametrize("sigma", [0.4, 0.6, 1.0])
def test_answers_three_times_as_slow_page_within_two_minutes(sigma: float) -> None:
    # Log-normal times whose 99th percentile was the objective's limit; all of them become three times as long.
    draw = np.random.default_rng(1).lognormal(0.0, sigma, 200_000)
    slow_ratio = float((draw * 3 > np.quantile(draw, 0.99)).mean())
    found = paged_after(QUICK, steady(50.0, slow_ratio), 600)
    assert found is not None
    assert found <= 120


def test_a_slow_leak_becomes_a_ticket_and_no_page() -> None:
    seen = {decision.severity for _, decision in looks(THREE_NINES, 12 * 3600, steady(50.0, 0.004), warm_s=3600)}
    assert seen == {"none", "ticket"}


def test_ten_requests_a_day_wake_nobody_in_a_month_though_each_failure_is_a_burn_of_a_hundred() -> None:
    draw = random.Random(7)
    for _ in range(25):  # months
        window, memory = Window(), SloMemory()
        window.add(0, 0, 0.0)
        at_s = 0.0
        while at_s < 30 * 86_400:
            at_s += draw.expovariate(10 / 86_400)
            window.add(draw.random() < 0.001, 1, at_s)
            counts = {each: window.counts(each) for each in slo.windows(THREE_NINES)}
            decision = slo.decide(THREE_NINES, counts, memory, at_s)
            memory = decision.memory
            assert decision.severity == "none", decision.because


@pytest.mark.parametrize(("per_s", "target"), [(1000.0, 0.999), (20.0, 0.999), (1.0, 0.99), (0.2, 0.99), (5.0, 0.9)])
def test_a_month_that_fails_exactly_as_often_as_allowed_pages_nobody(per_s: float, target: float) -> None:
    objective = Objective(name="answers", target=target)
    draw = np.random.default_rng(int(per_s * 10))
    ticks = int(30 * 86_400 / EVERY_S)
    total = draw.poisson(per_s * EVERY_S, ticks)
    totals, bads = np.cumsum(total), np.cumsum(draw.binomial(total, 1 - target))

    def over(sums: np.ndarray, length_s: float, places: np.ndarray) -> np.ndarray:
        before = places - min(round(length_s / EVERY_S), ticks)
        return sums[places] - np.where(before >= 0, sums[before], 0)

    everywhere = np.arange(ticks)
    suspects = []
    for rule in slo.rules(30 * 86_400.0):
        if rule.severity == "page":  # where a page rule could fire at all; `decide` says whether it does
            needed = min(rule.burn * (1 - target), (2 - target) / 2)
            bad = over(bads, rule.long_s, everywhere)
            is_over = (bad >= slo.BAD_MIN) & (bad >= needed * over(totals, rule.long_s, everywhere))
            suspects.append(np.flatnonzero(is_over))
    for place in np.unique(np.concatenate(suspects)):
        here = np.array([place])
        counts = {
            each: Counts(float(over(bads, each, here)[0]), float(over(totals, each, here)[0]))
            for each in slo.windows(objective)
        }
        decision = slo.decide(objective, counts, SloMemory(), 0.0)
        assert decision.severity != "page", decision.because


def test_a_page_ends_soon_after_its_cause_and_does_not_flap() -> None:
    def traffic(now_s: float) -> tuple[float, float]:
        return (500.0 if now_s <= 60 else 0.0), 500.0

    paging = [decision.severity == "page" for _, decision in looks(THREE_NINES, 1800, traffic, warm_s=86_400)]
    changes = [place for place in range(1, len(paging)) if paging[place] != paging[place - 1]]
    assert len(changes) == 2 - paging[0]
    assert changes[-1] * EVERY_S <= 60 + 300 + 300  # the outage, the short window, the wait


def test_a_rate_that_wavers_around_the_threshold_is_one_alert() -> None:
    def traffic(now_s: float) -> tuple[float, float]:
        ratio = 0.0144 * (1.15 if int(now_s / 30) % 2 else 0.95)
        return 5000 * ratio, 5000.0

    paging = [decision.severity == "page" for _, decision in looks(THREE_NINES, 7200, traffic, warm_s=3600)]
    assert sum(paging[place] != paging[place - 1] for place in range(1, len(paging))) == 1


def test_what_was_bad_an_hour_ago_and_is_over_pages_nobody() -> None:
    counts = {each: Counts(0, 1000) for each in slo.windows(THREE_NINES)}
    for rule in slo.rules(30 * 86_400.0):
        counts[rule.long_s] = Counts(500, 1000)
    # The short window of the slowest rule is the long one of another: a ticket.
    assert slo.decide(THREE_NINES, counts, SloMemory(), 0.0).severity == "ticket"
    assert slo.decide(THREE_NINES, dict.fromkeys(counts, Counts(500, 1000)), SloMemory(), 0.0).severity == "page"


def test_no_requests_are_no_proof_that_anything_got_better_while_the_long_window_says_it_was_bad() -> None:
    failing = dict.fromkeys(slo.windows(THREE_NINES), Counts(500, 1000))
    memory = slo.decide(THREE_NINES, failing, SloMemory(), 0.0).memory
    silent = failing | {rule.short_s: Counts() for rule in slo.rules(30 * 86_400.0)}
    for now_s in (600.0, 1200.0):
        decision = slo.decide(THREE_NINES, silent, memory, now_s)
        memory = decision.memory
        assert decision.severity == "page"
    for now_s in (1800.0, 2400.0):
        decision = slo.decide(THREE_NINES, dict.fromkeys(failing, Counts()), memory, now_s)
        memory = decision.memory
        if decision.severity != "none":
            assert decision.because.startswith("no events in "), "nought of nought is no reason"
    assert decision.severity == "none"


def test_what_was_not_watched_ends_no_alert() -> None:
    *_, (now_s, burning) = looks(THREE_NINES, 600, steady(100.0, 1.0), warm_s=3600)
    blind = {each: Counts(0.0, 0.0, covered_s=0.0) for each in slo.windows(THREE_NINES)}
    after = slo.decide(THREE_NINES, blind, burning.memory, now_s + 3600)
    assert after.severity == "page"


def test_the_budget_says_how_much_is_left_and_when_it_is_gone() -> None:
    counts = {each: Counts(0, 0) for each in slo.windows(THREE_NINES)}
    counts[30 * 86_400.0] = Counts(bad=500, total=1_000_000)
    counts[3600.0] = Counts(bad=20, total=10_000)
    decision = slo.decide(THREE_NINES, counts, SloMemory(), 0.0)
    assert decision.attained == pytest.approx(0.9995)
    assert decision.budget_left == pytest.approx(0.5)
    assert decision.burn_rate == pytest.approx(2.0)
    assert decision.exhausted_in_s == pytest.approx(0.5 * 30 * 86_400 / 2)


def test_a_step_of_the_policy_begins_at_its_share_and_ends_only_when_clearly_more_is_left() -> None:
    objective = Objective(
        name="answers", target=0.99, policy=(BudgetStep("freeze-rollouts", 0.25), BudgetStep("shed-sheddable"))
    )
    memory, seen = SloMemory(), []
    for bad in (4, 70, 80, 101, 80, 71, 69):
        counts = {each: Counts(bad, 10_000) for each in slo.windows(objective)}
        decision = slo.decide(objective, counts, memory, float(bad))
        memory = decision.memory
        seen.append([due.move for due in decision.due])
    both = ["freeze-rollouts", "shed-sheddable"]
    assert seen == [[], [], both[:1], both, both[:1], both[:1], []]


def test_one_failure_of_a_new_endpoint_freezes_nothing() -> None:
    objective = Objective(name="answers", target=0.999, policy=(BudgetStep("freeze-rollouts"),))
    counts = {each: Counts(1, 100) for each in slo.windows(objective)}
    decision = slo.decide(objective, counts, SloMemory(), 0.0)
    assert decision.budget_left < 0
    assert decision.due == ()


def test_an_objective_that_may_not_page_raises_a_ticket_and_one_that_is_only_tracked_raises_nothing() -> None:
    for alert in ("page", "ticket", "none"):
        objective = Objective(name="answers", target=0.999, alert=alert)
        *_, (_, decision) = looks(objective, 60, steady(100.0, 1.0))
        assert decision.severity == alert


def test_an_endpoint_that_promises_nothing_is_tracked_for_999_and_wakes_nobody() -> None:
    (tracked,) = slo.objectives(())
    assert (tracked.sli, tracked.target, tracked.alert) == ("availability", 0.999, "none")
    assert slo.objectives((QUICK,)) == (QUICK,)


@given(
    st.floats(0.5, 0.99999),
    st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)), min_size=15, max_size=15),
    st.sampled_from(["1h", "1d", "7d", "30d", "90d"]),
)
def test_every_decision_is_a_number_whatever_was_counted(
    target: float, counted: list[tuple[int, int]], window: str
) -> None:
    objective = Objective(name="any", target=target, window=window)
    asked = slo.windows(objective)
    counts = {each: Counts(min(bad, total), total) for each, (bad, total) in zip(asked, counted, strict=False)}
    decision = slo.decide(objective, counts, SloMemory(), 0.0)
    assert decision.budget_left <= 1.0
    assert decision.severity in ("none", "ticket", "page")
    for burn in decision.burns:
        if burn.is_firing:
            assert counts[burn.rule.long_s].bad >= slo.BAD_MIN
            assert min(burn.long, burn.short) >= min(burn.threshold, 1.0) * (1 - 1e-9)


@pytest.mark.parametrize("allowed", [0.001, 0.01, 0.2])
def test_evidence_against_a_world_that_is_as_allowed_stays_small_however_often_one_looks(allowed: float) -> None:
    draw = np.random.default_rng(3)
    exceeded = 0
    for _ in range(400):
        bad = np.cumsum(draw.random(4000) < allowed)
        places = np.unique(np.geomspace(1, 4000, 60).astype(int)) - 1
        exceeded += any(log_evidence(float(bad[place]), float(place + 1), allowed) > np.log(20) for place in places)
    assert exceeded <= 20  # one in twenty, by Ville's inequality


def test_evidence_grows_without_bound_in_a_world_that_is_worse() -> None:
    assert log_evidence(5, 5, 0.001) > 20
    assert log_evidence(11_000, 10_000_000, 0.001) > 20
    assert log_evidence(10_000, 10_000_000, 0.001) < 0
    assert log_evidence(0, 0, 0.001) == pytest.approx(0.0)
