"""What somebody who ships a revision asks of the verdict: stopped when it is bad, never for nothing, never unseen."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.verdict.judge import (
    COHORTS_MAX,
    WEIGHT_LATENCY,
    Criteria,
    Judgement,
    Line,
    Look,
    Memory,
    judge,
    weights,
)
from stoker.core.verdict.odds import Tally
from stoker.types.rollouts import BAD_EVENTS, POSTED_MAX

CRITERIA = Criteria(requests_min=500, dwell_s=60.0)
ENOUGH = {"step": Tally(0, 1000), "step_s": 100.0}


def errors(bad: int, total: int, other_bad: int, other_total: int, cohort: str = "") -> Look:
    return Look("error", Tally(bad, total), Tally(other_bad, other_total), cohort)


def after(*looks: Look, memory: Memory = Memory(), step: Tally = ENOUGH["step"], step_s: float = 100.0) -> Judgement:  # type: ignore[assignment]  # noqa: B008
    return judge(memory, looks, ({}, {}), CRITERIA, metrics=2, step=step, step_s=step_s)


def test_a_canary_that_is_as_good_is_promoted_once_enough_came_for_long_enough() -> None:
    look = errors(10, 1000, 90, 9000)
    assert after(look).verdict == "promote"
    few = after(look, step=Tally(0, 499))
    assert (few.verdict, few.because) == ("hold", "499 of 500 requests of this step have come to the canary")
    soon = after(look, step_s=59.0)
    assert (soon.verdict, soon.because) == ("hold", "59 of 60 s of this step are over")


def test_without_requests_there_is_no_verdict() -> None:
    assert after(step=Tally(), step_s=1e9).verdict == "hold"


def test_a_worse_canary_is_aborted_at_once_and_the_sentence_has_the_numbers() -> None:
    found = after(errors(50, 1000, 90, 9000), step=Tally(50, 60), step_s=1.0)
    assert found.verdict == "abort"
    assert found.because == "error: 50 of 1000 (5.00%) in the canary, 90 of 9000 (1.00%) before"


def test_what_is_only_suspicious_is_not_promoted() -> None:
    memory, verdicts = Memory(), []
    for _ in range(40):
        found = after(errors(3, 100, 9, 900), memory=memory)
        memory = found.memory
        verdicts.append(found.verdict)
    assert "abort" in verdicts
    assert verdicts[verdicts.index("abort") - 1] == "hold"


def test_a_cohort_that_is_broken_is_found_though_the_whole_looks_well() -> None:
    looks = (errors(10, 1000, 90, 9000), errors(10, 10, 1, 90, "tenant acme"), errors(0, 990, 89, 8910, "tenant other"))
    found = after(*looks)
    assert found.verdict == "abort"
    assert found.because.startswith("error of tenant acme: 10 of 10 (100.00%) in the canary")
    assert [each.part >= 1 for each in found.findings].count(True) == 1


def test_a_cohort_after_the_last_that_is_judged_counts_for_everybody_only() -> None:
    looks = [errors(0, 1, 0, 9, f"tenant {number}") for number in range(COHORTS_MAX)]
    found = after(*looks, errors(10, 10, 0, 90, "one too many"))
    assert found.verdict == "promote"
    assert len(found.memory.lines) == COHORTS_MAX


def test_a_canary_that_is_slower_as_a_whole_is_aborted_and_told_by_how_much() -> None:
    memory = Memory()
    for _ in range(20):
        found = judge(memory, (), ({-32: 5, -24: 5}, {-40: 45, -32: 45}), CRITERIA, metrics=2, step=Tally(), step_s=1.0)
        memory = found.memory
    assert found.verdict == "abort"
    assert found.because == "latency: 50.0% fewer requests, 22.2% for sure, are done within 0.0312 s"


def test_a_canary_that_is_hardly_slower_than_tolerated_is_none() -> None:
    memory = Memory()
    for _ in range(300):
        found = judge(memory, (), ({-40: 48, -32: 52}, {-40: 450, -32: 450}), CRITERIA, metrics=2, **ENOUGH)  # type: ignore[arg-type]
        memory = found.memory
    assert found.verdict == "promote"


@given(
    looks=st.lists(
        st.tuples(st.sampled_from(("", "a", "b")), *(st.integers(0, 30) for _ in range(4))), min_size=1, max_size=12
    ),
    cut=st.integers(0, 12),
)
def test_who_judges_may_die_and_go_on_from_what_was_written_down(
    looks: list[tuple[str, int, int, int, int]], cut: int
) -> None:
    made = [errors(min(a, b), b, min(c, d), d, cohort) for cohort, a, b, c, d in looks]
    straight = after(*made)
    first = after(*made[:cut])
    revived = msgspec.json.decode(msgspec.json.encode(first.memory), type=Memory)
    resumed = after(*made[cut:], memory=revived)
    assert resumed.verdict == straight.verdict
    assert [each.e for each in resumed.findings] == pytest.approx([each.e for each in straight.findings])


@given(bad=st.integers(0, 1000), other=st.integers(0, 9000), total=st.integers(0, 2000), step_s=st.floats(0, 1000))
def test_nothing_is_promoted_that_was_not_seen_enough_or_looks_worse(
    bad: int, other: int, total: int, step_s: float
) -> None:
    found = after(errors(bad, 1000, other, 9000), step=Tally(0, total), step_s=step_s)
    if found.verdict == "promote":
        assert total >= CRITERIA.requests_min
        assert step_s >= CRITERIA.dwell_s
        assert sum(each.part for each in found.findings) < 0.1
    if found.verdict == "abort":
        assert bad / 1000 > other / 9000


KINDS = st.lists(st.sampled_from((*BAD_EVENTS, *(f"judge_{at}" for at in range(POSTED_MAX)))), unique=True)


@given(kinds=KINDS, cohorts=st.lists(st.sampled_from([f"tenant={at}" for at in range(COHORTS_MAX)]), unique=True))
def test_all_weights_together_are_at_most_one_whatever_comes_and_none_changes_when_more_does(
    kinds: list[str], cohorts: list[str]
) -> None:
    lines = [Line(kind, cohort) for kind in kinds for cohort in ("", *(cohorts if kind in BAD_EVENTS else ()))]
    whole = weights(lines, len(BAD_EVENTS))
    assert all(weight > 0.0 for weight in whole)
    assert sum(whole) + WEIGHT_LATENCY <= 1.0 + 1e-9
    for at in range(len(lines)):
        assert weights(lines[:at], len(BAD_EVENTS)) == whole[:at]


def test_a_judge_who_comes_late_takes_nothing_from_what_was_seen() -> None:
    before = after(errors(18, 1000, 90, 9000))
    (was,) = [each.part for each in before.findings if each.metric == "error"]
    later = after(Look("judge", Tally(1, 10), Tally(9, 90)), memory=before.memory)
    assert [each.part for each in later.findings if each.metric == "error"] == [was]


def test_alike_arms_are_aborted_as_seldom_as_promised_though_judges_come_and_go() -> None:
    """Judges tell of a metric as soon as it looks bad by chance, which is the worst that they can do honestly."""
    rng = np.random.default_rng(5)
    runs, wrong, criteria = 80, 0, Criteria(alpha=0.1)

    def drawn(total: int, rate: float) -> tuple[int, int]:
        return int(rng.binomial(total, rate)), total

    for _ in range(runs):
        memory, begun = Memory(), 0
        for _ in range(20):
            looks = [errors(*drawn(10, 0.1), *drawn(40, 0.1))]
            looks += [Look(f"judge_{at}", Tally(*drawn(5, 0.2)), Tally(*drawn(20, 0.2))) for at in range(begun)]
            begun = min(begun + (looks[0].canary.bad > 1), POSTED_MAX)
            found = judge(memory, looks, ({}, {}), criteria, metrics=2, step=Tally(), step_s=0.0)
            memory = found.memory
            if found.verdict == "abort":
                wrong += 1
                break
    assert wrong <= 0.1 * runs
