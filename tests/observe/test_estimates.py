"""Estimated accuracy, change points and text, each against what is known of the numbers it was given."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.observe.drift.change import PageHinkley
from stoker.observe.drift.estimate import auc, calibrate, calibration_error, estimate
from stoker.telemetry.texts import breaks_json, refuses, script_of


def logistic(rows: int, shift: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return over-confident scores and labels of rows whose inputs moved by `shift`."""
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1.0, rows)
    return 1 / (1 + np.exp(-3 * x)), rng.random(rows) < 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0])
def test_accuracy_is_estimated_within_three_points_when_inputs_shift(shift: float) -> None:
    curve = calibrate(*logistic(10_000, 0.0, 1))
    scores, labels = logistic(10_000, shift, 2)
    chances = curve(scores)
    guess = estimate(chances)
    said = chances >= 0.5
    assert guess.accuracy == pytest.approx((said == labels).mean(), abs=0.03)
    assert guess.auc == pytest.approx(auc(scores, labels), abs=0.03)
    hits = (said & labels).sum()
    assert guess.f1 == pytest.approx(2 * hits / (said.sum() + labels.sum()), abs=0.03)


def test_calibration_mends_overconfident_scores_and_never_falls() -> None:
    scores, labels = logistic(5_000, 0.0, 3)
    curve = calibrate(scores, labels)
    assert list(curve.rates) == sorted(curve.rates)
    fresh, truth = logistic(5_000, 0.0, 4)
    assert calibration_error(curve(fresh), truth) < 0.03 < 0.1 < calibration_error(fresh, truth)
    with pytest.raises(ValueError, match="50 rows"):
        calibrate(scores[:49], labels[:49])


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auc_is_the_chance_that_a_positive_row_scores_higher(rows: list[tuple[int, bool]]) -> None:
    ups = [score for score, up in rows if up]
    downs = [score for score, up in rows if not up]
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in ups for b in downs]
    found = auc(np.array([score for score, _ in rows], float), np.array([up for _, up in rows]))
    assert found == pytest.approx(np.mean(pairs) if pairs else 0.5)


def test_a_change_of_the_mean_is_seen_soon_after_it_and_not_before() -> None:
    rng = np.random.default_rng(0)
    state, seen = PageHinkley(), []
    for at, value in enumerate([*rng.normal(0, 1, 500), *rng.normal(1.5, 1, 100)]):
        state, way = state.after(float(value), slack=0.5, limit=15.0)
        if way:
            seen.append((at, way))
    assert len(seen) == 1
    assert 500 < seen[0][0] < 540
    assert seen[0][1] == "up"


def test_texts_are_told_by_script_refusal_and_format() -> None:
    said = ("Guten Tag", "Привет мир", "你好", "مرحبا", "123 !", "")
    assert [script_of(text) for text in said] == ["latin", "cyrillic", "han", "arabic", "none", "none"]
    assert refuses("I'm sorry, but I can't help with that.")
    assert refuses("Es tut mir leid, aber das geht nicht.")
    assert not refuses("Sorry is a word. I can help.")
    assert [breaks_json(text) for text in ("{", "[" * 100_000, '{"a": 1}')] == [True, True, False]


def test_the_order_of_rows_with_one_score_does_not_matter() -> None:
    scores = np.repeat([0.6, 0.9], 50)
    hits = np.tile([False] * 25 + [True] * 25, 2)
    found = calibrate(scores, hits)
    assert found == calibrate(scores[::-1], hits[::-1]) == calibrate(scores, ~hits)
    assert found(np.array([0.6, 0.9])).tolist() == [0.5, 0.5]
