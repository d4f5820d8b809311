"""Drift: the scores against known values, what counts as moved, and when an endpoint is said to have drifted."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import distances, drift, nulls
from stoker.core.drift import DriftMemory, Policy, Shift, judge, remember
from stoker.core.nulls import discoveries, upper_gamma
from stoker.types.drift import Feature, Null, Reference

NULL = Null((100, 1_000, 10_000), (0.15, 0.02, 0.004), (0.05, 0.006, 0.001), (1.0, 0.8, 0.8))
EVEN = (0, 100, 100, 100, 100, 0, 0)


def number(name: str = "x", counts: tuple[int, ...] = EVEN) -> Feature:
    return Feature(name=name, column=name, counts=counts, null=NULL, edges=(0.0, 1.0, 2.0, 3.0, 4.0), mean=2.0, sd=1.0)


def reference(*names: str) -> Reference:
    return Reference(tuple(number(name) for name in names))


def shift(level: drift.Level, psi: float, feature: str = "x") -> Shift:
    return Shift(feature, "input", level, psi, 0.02, 0.5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, size=psi)


Slots = st.lists(st.integers(0, 10_000), min_size=7, max_size=7).filter(any)


@given(Slots, Slots)
def test_every_score_is_zero_for_the_same_counts_and_never_negative(one: list[int], other: list[int]) -> None:
    before, now = distances.shares(one), distances.shares(other)
    assert distances.psi(before, before) == 0.0
    assert distances.js_distance(before, before) == pytest.approx(0.0, abs=1e-6)
    assert distances.psi(before, now) >= 0.0
    assert distances.psi(before, now) == pytest.approx(distances.psi(now, before))
    assert 0.0 <= distances.js_distance(before, now) <= 1.0
    assert distances.chi_square(one, one) == 0.0 <= distances.chi_square(one, other)
    assert distances.chi_square(one, other) == pytest.approx(distances.chi_square(other, one))
    assert distances.wasserstein(number(counts=tuple(one)), other) >= 0.0


def test_psi_is_the_textbook_sum() -> None:
    expected = (0.6 - 0.5) * math.log(0.6 / 0.5) + (0.4 - 0.5) * math.log(0.4 / 0.5)
    assert distances.psi((0.5, 0.5), (0.6, 0.4)) == pytest.approx(expected)
    assert distances.psi((1.0, 0.0), (0.0, 1.0)) == pytest.approx(2 * (1 - 1e-4) * math.log(1e4))


def test_wasserstein_is_the_distance_that_mass_moved_in_standard_deviations() -> None:
    assert distances.wasserstein(number(counts=(0, 400, 0, 0, 0, 0, 0)), (0, 0, 0, 400, 0, 0, 0)) == pytest.approx(2.0)


@pytest.mark.parametrize("a", [0.5, 1.0, 7.5, 40.0, 1_600.0])
@pytest.mark.parametrize("at", [0.1, 0.9, 1.0, 1.1, 2.0])
def test_the_upper_gamma_function_agrees_with_its_integral(a: float, at: float) -> None:
    special = pytest.importorskip("scipy.special")
    assert upper_gamma(a, a * at) == pytest.approx(special.gammaincc(a, a * at), rel=1e-8, abs=1e-14)


def test_chi_square_agrees_with_the_table() -> None:
    # scipy.stats.chi2_contingency of the same counts
    found = distances.chi_square((30, 50, 20), (20, 40, 40))
    assert upper_gamma(2 / 2, found / 2) == pytest.approx(0.007529784255650024)


@given(st.integers(50, 100_000), st.floats(0.0, 2.0))
def test_a_larger_score_is_never_likelier_without_drift(rows: int, score: float) -> None:
    assert nulls.p_value(NULL, rows, score) >= nulls.p_value(NULL, rows, score + 0.01)


@given(st.integers(100, 10_000), st.floats(0.0005, 0.2))
def test_the_expected_score_is_exceeded_by_the_share_it_says(rows: int, p: float) -> None:
    assert nulls.p_value(NULL, rows, nulls.quantile(NULL, rows, p)) == pytest.approx(p, rel=1e-3)


@given(st.lists(st.floats(0.0, 1.0), max_size=50))
def test_discoveries_are_the_smallest_chances_and_one_alone_must_pass_bonferroni(chances: list[float]) -> None:
    found = discoveries(chances, 0.01)
    assert all(chances[a] <= chances[b] for a in found for b in set(range(len(chances))) - found)
    assert all(chances[at] <= 0.01 for at in found)
    if len(found) == 1:
        assert chances[next(iter(found))] <= 0.01 / len(chances)


def test_too_few_rows_say_nothing_and_change_nothing() -> None:
    memory = DriftMemory(above={"input:x": 1}, raised=("input:y",))
    verdict = judge(reference("x"), [(0, 0, 0, 0, 199, 0, 0)], 199, Policy(), memory)
    assert verdict.is_drifted is None
    assert verdict.memory == memory
    assert verdict.because == "199 rows in the window; 200 are needed to tell"


def test_a_window_like_the_reference_is_steady() -> None:
    verdict = judge(reference("x"), [(1, 250, 245, 255, 249, 0, 0)], 1_000, Policy(), DriftMemory())
    assert (verdict.is_drifted, verdict.shifts[0].level) == (False, "steady")
    assert verdict.because == "none of 1 features drifted over 1000 rows"


def test_a_shift_that_is_sure_but_small_is_moved_and_not_drifted() -> None:
    verdict = judge(reference("x"), [(0, 2_700, 2_500, 2_500, 2_300, 0, 0)], 10_000, Policy(), DriftMemory())
    assert verdict.shifts[0].level == "moved"
    verdict = judge(
        reference("x"), [(0, 2_700, 2_500, 2_500, 2_300, 0, 0)], 10_000, Policy(thresholds={"x": 0.005}), DriftMemory()
    )
    assert verdict.shifts[0].level == "drifted"


def test_the_endpoint_answers_only_after_two_verdicts_and_until_three_calm_ones() -> None:
    memory, drifted, near, calm = DriftMemory(), shift("drifted", 0.3), shift("moved", 0.09), shift("steady", 0.01)
    seen = []
    for one in (drifted, calm, drifted, drifted, near, calm, calm, near, calm, calm, calm):
        memory = remember(memory, [one], Policy())
        seen.append(bool(memory.raised))
    assert seen == [False, False, False, True, True, True, True, True, True, True, False]


def test_the_sentence_names_the_worst_features_first() -> None:
    far, memory = (0, 0, 0, 0, 1_000, 0, 0), DriftMemory()
    counts = [far, (0, 250, 250, 250, 250, 0, 0), (0, 250, 250, 250, 150, 0, 100)]
    for _ in range(2):
        verdict = judge(reference("a", "b", "c"), counts, 1_000, Policy(), memory)
        memory = verdict.memory
    assert [one.feature for one in verdict.shifts] == ["a", "c", "b"]
    assert verdict.because.startswith("a (PSI ")
    assert verdict.because.endswith("of 3 features drifted over 1000 rows")
    assert (verdict.shifts[1].missing_ratio, verdict.shifts[0].mean_shift) == (0.1, 1.5)
