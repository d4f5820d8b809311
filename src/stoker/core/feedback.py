"""Whether a prediction was right, once it is known what turned out to be true."""

import math
from typing import Literal

import msgspec

from stoker.types.feedback import CLASS_MAX

How = Literal["label", "value", "score"]
Outcome = Literal["joined", "unknown", "duplicate"]


class Label(msgspec.Struct, frozen=True):
    """What turned out to be true of one prediction, or (`score`, in 0–1) how good somebody found it.

    at_s: unix time when that was known. Of two labels of one prediction the later counts.
    """

    id: str
    how: How
    given: str | float
    at_s: float


class Amount(msgspec.Struct, frozen=True):
    """What an answer was worth by one business metric, not negative; at_s: unix time when that was known."""

    id: str
    name: str
    amount: float
    at_s: float


class Verdict(msgspec.Struct, frozen=True):
    """How good a prediction was, in 0–1, and how far from the truth. None: that cannot be said."""

    score: float | None = None
    error: float | None = None


def class_text(value: str | float | bool) -> str:
    """Return a class as it is compared: `3`, `3.0` and `"3"` are one, as are true and 1."""
    if isinstance(value, str):
        text = value.strip()
        try:
            number = float(text)
        except ValueError:
            return text[:CLASS_MAX]
        # A word such as `nan` or `infinity`, and a code such as `007` or `1_000`, is no number.
        is_number = math.isfinite(number) and text in (f"{number:g}", f"{number:.1f}", f"{number:.0f}")
        return class_text(number) if is_number else text[:CLASS_MAX]
    number = float(value)
    return f"{number:.0f}" if math.isfinite(number) and number.is_integer() else repr(number)


def judge(said: str | float, label: Label, tolerance: float | None) -> Verdict:
    """Return how good it was to say `said`: a class is right or wrong, a value right within `tolerance`, if any."""
    if label.how == "score":
        return Verdict(score=min(max(number_of(label.given) or 0.0, 0.0), 1.0))
    if isinstance(said, str):
        return Verdict(score=float(said == class_text(label.given)))
    truth = number_of(label.given)
    if truth is None:
        return Verdict()
    error = abs(said - truth)
    if not math.isfinite(error):
        return Verdict()
    return Verdict(score=None if tolerance is None else float(error <= tolerance), error=error)


def replaces(label: Label, before_s: float | None) -> bool:
    """Return whether `label` counts instead of one known since `before_s` (None: there is none)."""
    return before_s is None or label.at_s >= before_s


def number_of(value: str | float) -> float | None:
    """Return the finite number that `value` is, None when it is none."""
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
