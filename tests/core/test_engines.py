"""Which engine is taken: what an operator would ask, and what must hold whatever was measured."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.engines import TIE_RATIO, Chosen, NoneWorks, choose
from stoker.types.engines import EngineMeasurement, Goal


def row(engine: str, *, answer_s: float = 1.0, rate: float = 50.0, error: str = "") -> EngineMeasurement:
    if error:
        return EngineMeasurement(engine, error=error)
    return EngineMeasurement(engine, answer_s=answer_s, tokens_per_s=rate, slots=4)


FAST_ALONE = row("first", answer_s=0.5, rate=60)
FAST_TOGETHER = row("second", answer_s=1.5, rate=160)
BROKEN = row("third", error="it cannot read this file\nand more")


@pytest.mark.parametrize(
    ("rows", "goal", "engine"),
    [
        ([FAST_ALONE, FAST_TOGETHER], "latency", "first"),
        ([FAST_ALONE, FAST_TOGETHER], "throughput", "second"),
        ([FAST_TOGETHER, FAST_ALONE], "throughput", "second"),
        ([row("a", rate=100), row("b", rate=105)], "throughput", "a"),  # a tie: the preferred one
        ([row("a", answer_s=1.05), row("b", answer_s=1.0)], "latency", "a"),
        ([row("a", answer_s=1.5), row("b", answer_s=1.0)], "latency", "b"),
        ([BROKEN, FAST_ALONE], "throughput", "first"),
        ([row("a", rate=0), row("b", rate=1)], "throughput", "b"),
    ],
)
def test_the_better_for_the_goal_is_taken(rows: list[EngineMeasurement], goal: Goal, engine: str) -> None:
    chosen = choose(rows, goal)
    assert isinstance(chosen, Chosen)
    assert chosen.engine == engine


def test_the_reason_has_the_numbers_and_what_failed() -> None:
    chosen = choose([FAST_ALONE, FAST_TOGETHER, BROKEN], "throughput")
    assert isinstance(chosen, Chosen)
    assert "160 tokens/s with 4 at once" in chosen.because
    assert "first 60 tokens/s" in chosen.because
    assert "third cannot run it (it cannot read this file)" in chosen.because


def test_when_none_works_everyone_says_why() -> None:
    none = choose([BROKEN, row("a", rate=0)], "throughput")
    assert isinstance(none, NoneWorks)
    assert "third: it cannot read this file" in none.because
    assert "a: it made no tokens" in none.because
    assert isinstance(choose([], "latency"), NoneWorks)


numbers = st.floats(min_value=0, max_value=1e4, allow_nan=False)
rows_of_any_kind = st.lists(
    st.builds(
        EngineMeasurement,
        engine=st.sampled_from(["a", "b", "c", "d"]),
        error=st.sampled_from(["", "", "broken"]),
        answer_s=numbers,
        tokens_per_s=numbers,
    ),
    max_size=4,
    unique_by=lambda one: one.engine,
)
goals: st.SearchStrategy[Goal] = st.sampled_from(["latency", "throughput"])


def score(one: EngineMeasurement, goal: Goal) -> float:
    return one.tokens_per_s if goal == "throughput" else (1 / one.answer_s if one.answer_s else 0.0)


@given(rows_of_any_kind, goals)
def test_a_candidate_that_failed_is_never_taken(rows: list[EngineMeasurement], goal: Goal) -> None:
    chosen = choose(rows, goal)
    working = {one.engine for one in rows if not one.error and score(one, goal) > 0}
    assert (chosen.engine in working) if isinstance(chosen, Chosen) else not working


@given(rows_of_any_kind, goals)
def test_nobody_is_better_than_the_taken_one_by_more_than_a_tie(rows: list[EngineMeasurement], goal: Goal) -> None:
    chosen = choose(rows, goal)
    if isinstance(chosen, Chosen):
        taken = next(one for one in rows if one.engine == chosen.engine)
        for one in rows:
            assert one.error or score(taken, goal) >= score(one, goal) * (1 - TIE_RATIO) * (1 - 1e-9)


@given(rows_of_any_kind, goals)
def test_nobody_preferred_to_the_taken_one_is_as_good(rows: list[EngineMeasurement], goal: Goal) -> None:
    chosen = choose(rows, goal)
    if isinstance(chosen, Chosen):
        at = [one.engine for one in rows].index(chosen.engine)
        best = max(score(one, goal) for one in rows if not one.error)
        assert all(one.error or score(one, goal) < best * (1 - TIE_RATIO) for one in rows[:at])


@given(rows_of_any_kind, goals, st.floats(min_value=1, max_value=100))
def test_a_machine_that_is_slower_for_all_changes_nothing(
    rows: list[EngineMeasurement], goal: Goal, factor: float
) -> None:
    slower = [
        msgspec.structs.replace(one, answer_s=one.answer_s * factor, tokens_per_s=one.tokens_per_s / factor)
        for one in rows
    ]
    scores = [score(one, goal) for one in rows]
    edges = [other * (1 - TIE_RATIO) for other in scores]
    if any(abs(mine - edge) < 1e-6 * max(1.0, edge) for mine in scores for edge in edges):
        return  # on the edge of a tie rounding decides
    before, after = choose(rows, goal), choose(slower, goal)
    assert getattr(before, "engine", None) == getattr(after, "engine", None)
