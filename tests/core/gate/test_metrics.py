"""What convicts a version is worse and not by chance; what was measured is held to its absolute bounds."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.gate import metrics
from stoker.core.gate.metrics import Scored
from stoker.types.releases import GoldenGate, Metric


def rows(new: list[float], old: list[float] | None = None) -> list[Scored]:
    return [Scored(1.0, one, old[at] if old is not None else None) for at, one in enumerate(new)]


def labelled(truths: str, new: str, old: str = "") -> list[Scored]:
    return [
        Scored(1.0, float(t == n), float(t == old[at]) if old else None, (t, n, old[at] if old else ""))
        for at, (t, n) in enumerate(zip(truths, new, strict=True))
    ]


def test_a_model_that_lost_most_of_what_the_other_knew_is_convicted() -> None:
    found = metrics.judge("accuracy", GoldenGate(), rows([0.0] * 10 + [1.0] * 10, [1.0] * 20))
    assert not found.is_passed
    assert "worse by 0.500, at most 0.02 is allowed, and chance does not explain it" in found.because
    assert found.numbers["p"] < 0.001


def test_twenty_examples_do_not_convict_by_chance() -> None:
    found = metrics.judge("accuracy", GoldenGate(), rows([0.0] * 2 + [1.0] * 18, [1.0] * 20))
    assert found.is_passed
    assert "chance may explain it" in found.because


@pytest.mark.parametrize("metric", ["accuracy", "f1", "rmse", "cosine"])
def test_models_that_are_alike_are_hardly_ever_convicted(metric: Metric) -> None:
    chance = random.Random(5)
    convicted = 0
    for _ in range(400):
        made = []
        for _ in range(60):
            truth = str(chance.randrange(3))
            said = [truth if chance.random() < 0.8 else str(chance.randrange(3)) for _ in range(2)]
            if metric in ("accuracy", "f1"):
                scores = [float(one == truth) for one in said]
            else:
                scores = [chance.random() for _ in range(2)]
            made.append(Scored(1.0, scores[0], scores[1], (truth, said[0], said[1])))
        convicted += not metrics.judge(metric, GoldenGate(), made).is_passed
    assert convicted <= 400 * 0.045, convicted  # 2.5 %, and what 400 draws may show above it


@pytest.mark.parametrize(("metric", "size"), [("accuracy", 200), ("f1", 200), ("rmse", 100), ("cosine", 100)])
def test_a_model_that_is_much_worse_is_found(metric: Metric, size: int) -> None:
    chance = random.Random(6)
    made = []
    for _ in range(size):
        truth = str(chance.randrange(3))
        said = [truth if chance.random() < share else str(chance.randrange(3)) for share in (0.6, 0.9)]
        scores = [float(one == truth) for one in said]
        if metric == "rmse":
            scores = [chance.gauss(0, 2) ** 2, chance.gauss(0, 1) ** 2]
        if metric == "cosine":
            scores = [0.8 + chance.random() / 20, 0.9 + chance.random() / 20]
        made.append(Scored(1.0, scores[0], scores[1], (truth, said[0], said[1])))
    assert not metrics.judge(metric, GoldenGate(), made).is_passed


def test_absolute_bounds_are_decided_by_what_was_measured() -> None:
    mixed = rows([1.0] * 9 + [0.0])
    assert metrics.judge("accuracy", GoldenGate(at_least=0.9), mixed).is_passed
    refused = metrics.judge("accuracy", GoldenGate(at_least=0.95), mixed)
    assert refused.because == "accuracy 0.9 on 10 examples; at least 0.95 is asked"
    assert not metrics.judge("rmse", GoldenGate(at_most=1.0), rows([4.0, 4.0])).is_passed
    assert metrics.judge("rmse", GoldenGate(at_most=2.0), rows([4.0, 4.0])).is_passed


def test_a_first_version_that_guesses_is_refused_and_one_that_knows_something_is_not() -> None:
    chance = random.Random(7)
    truths = "".join(chance.choice("0123456789") for _ in range(200))
    guessed = "".join(chance.sample(truths, len(truths)))
    found = metrics.judge("accuracy", GoldenGate(), labelled(truths, guessed))
    assert not found.is_passed
    assert "no better than drawn by lot" in found.because
    assert metrics.judge("accuracy", GoldenGate(at_least=0.0), labelled(truths, guessed)).is_passed
    known = "".join(one if chance.random() < 0.4 else "0" for one in truths)
    assert metrics.judge("accuracy", GoldenGate(), labelled(truths, known)).is_passed
    # Of a rare class: better than lot, though always saying the common one would be right as often.
    rare, found_some = "0" * 95 + "1" * 5, "0" * 92 + "1" * 3 + "1" * 4 + "0"
    assert metrics.judge("accuracy", GoldenGate(), labelled(rare, found_some)).is_passed


def test_vectors_without_expectation_are_held_against_what_serves() -> None:
    near, far = rows([0.999] * 10), rows([0.3] * 10)
    assert metrics.judge("cosine", GoldenGate(), near, is_against_serving=True).is_passed
    assert "at least 0.98 is asked" in metrics.judge("cosine", GoldenGate(), far, is_against_serving=True).because


def test_f1_is_the_mean_over_the_classes() -> None:
    assert metrics.value("f1", labelled("aabb", "aabb"), 0) == 1
    assert metrics.value("f1", labelled("aab", "aaa"), 0) == pytest.approx((0.8 + 0.0) / 2)


scores = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 10)), min_size=1, max_size=40)


@given(scores, st.sampled_from(["accuracy", "exact", "rmse", "cosine"]))
def test_a_model_that_is_no_worse_is_never_convicted_and_numbers_are_finite(
    drawn: list[tuple[float, float, float]], metric: Metric
) -> None:
    made = [Scored(weight, new, old) for new, old, weight in drawn]
    found = metrics.judge(metric, GoldenGate(), made)
    assert all(number == number for number in found.numbers.values())
    same = [Scored(each.weight, each.new, each.new) for each in made]
    assert metrics.judge(metric, GoldenGate(), same).is_passed
    if not found.is_passed:
        assert found.numbers["worse"] > found.numbers["worse_max"]
