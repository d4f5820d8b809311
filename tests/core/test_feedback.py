"""Whether a prediction was right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.feedback import Label, Verdict, class_text, judge, replaces


def told(given_: str | float, how: str = "label") -> Label:
    return Label("r", how, given_, 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "meant"),
    [(3, "3"), (3.0, "3"), ("3", "3"), ("3.0", "3"), (" cat ", "cat"), (True, "1"), (-0.5, "-0.5"), ("1e2", "1e2"),
     ("007", "007"), ("nan", "nan"), ("1_0", "1_0"), (1e300, f"{1e300:.0f}"), ("x" * 500, "x" * 128)],
)  # fmt: skip
def test_a_class_is_the_same_however_it_is_written(written: str | float, meant: str) -> None:
    assert class_text(written) == meant


@given(st.one_of(st.text(), st.floats(), st.integers(-(10**30), 10**30)))
def test_a_class_that_was_compared_once_is_compared_alike_again(value: str | float) -> None:
    assert class_text(class_text(value)) == class_text(value)


def test_a_class_is_right_or_wrong_and_a_value_near_or_not() -> None:
    assert judge("3", told(3.0), None) == Verdict(1.0)
    assert judge("3", told("4"), None) == Verdict(0.0)
    assert judge("cat", told(2.0, "value"), None) == Verdict(0.0)
    assert judge(2.5, told(2.0, "value"), None) == Verdict(None, 0.5)
    assert judge(2.5, told("2.0"), 0.5) == Verdict(1.0, 0.5)
    assert judge(2.5, told(1.9, "value"), 0.5).score == 0.0
    assert judge("cat", told(0.25, "score"), None) == Verdict(0.25)


@given(st.one_of(st.text(), st.floats(allow_nan=False)), st.one_of(st.text(), st.floats()), st.floats(0.1, 10))
def test_every_label_of_every_prediction_has_a_finite_verdict(
    said: str | float, given_: str | float, tolerance: float
) -> None:
    for how in ("label", "value", "score"):
        verdict = judge(said, told(given_, how), tolerance)
        assert verdict.score is None or 0 <= verdict.score <= 1
        assert verdict.error is None or 0 <= verdict.error < float("inf")


def test_the_later_of_two_labels_counts_and_of_two_at_once_the_one_that_comes_last() -> None:
    assert replaces(told("a"), None)
    assert replaces(told("a"), 1.0)
    assert not replaces(told("a"), 1.1)
