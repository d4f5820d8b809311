"""How well a classifier does without labels: from its own calibrated probabilities (CBPE).

Source: confidence-based performance estimation as NannyML describes it: a row predicted with the calibrated
probability p is right with the chance p. It holds under shifts of the inputs, and says nothing when what the right
answer is changes (concept drift): only feedback tells that.
"""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

CALIBRATION_ROWS_MIN: Final = 50
_SAME: Final = 1e-12

Floats = NDArray[np.float64]


class Calibration(msgspec.Struct, frozen=True):
    """A rising step function from a model's score to the share of rows that were right at it.

    scores: where the steps are, rising; rates: the share at and above each, in 0–1, never falling.
    """

    scores: tuple[float, ...]
    rates: tuple[float, ...]

    def __call__(self, scores: Floats) -> Floats:
        """Return the calibrated probabilities of `scores` (between steps along a line)."""
        return np.interp(scores, self.scores, self.rates)


class Estimate(msgspec.Struct, frozen=True):
    """Expected quality of a binary classifier over some rows."""

    accuracy: float
    f1: float
    auc: float
    rows: int


def calibrate(scores: Floats, hits: NDArray[np.bool_]) -> Calibration:
    """Return the isotonic regression of `hits` on `scores` (pool adjacent violators), of rows with known labels.

    Raises ValueError with fewer than CALIBRATION_ROWS_MIN rows.
    """
    if len(scores) < CALIBRATION_ROWS_MIN or len(scores) != len(hits):
        raise ValueError(f"calibration needs {CALIBRATION_ROWS_MIN} rows with labels or more, not {len(scores)}")
    # Rows of one score are one block from the start: their order says nothing, and would else make steps between them.
    values, which = np.unique(scores, return_inverse=True)
    right_of, rows_of = np.bincount(which, weights=hits), np.bincount(which)
    blocks: list[tuple[float, float, float]] = []  # hits, rows, sum of scores
    for score, hit, many in zip(values.tolist(), right_of.tolist(), rows_of.tolist(), strict=True):
        block = (hit, float(many), score * many)
        while blocks and blocks[-1][0] * block[1] >= block[0] * blocks[-1][1]:
            before = blocks.pop()
            block = (before[0] + block[0], before[1] + block[1], before[2] + block[2])
        blocks.append(block)
    return Calibration(
        tuple(total / rows for _, rows, total in blocks), tuple(right / rows for right, rows, _ in blocks)
    )


def calibration_error(chances: Floats, hits: NDArray[np.bool_], bins: int = 10) -> float:
    """Return the expected calibration error: the mean distance of chance and share, over bins of equal rows."""
    parts = np.array_split(np.argsort(chances, kind="stable"), bins)
    return float(sum(len(part) * abs(chances[part].mean() - hits[part].mean()) for part in parts if len(part))) / len(
        chances
    )


def expected_accuracy(confidences: Floats) -> float:
    """Return the expected share of right answers, of the calibrated chance of each predicted class (any classes)."""
    return float(confidences.mean())


def estimate(chances: Floats, threshold: float = 0.5) -> Estimate:
    """Return what to expect of a binary classifier, from the calibrated chance of its positive class in each row."""
    positive = chances >= threshold
    true_positive = float(chances[positive].sum())
    false_positive = float((1 - chances[positive]).sum())
    false_negative = float(chances[~positive].sum())
    true_negative = float((1 - chances[~positive]).sum())
    wrong = 2 * true_positive + false_positive + false_negative
    return Estimate(
        accuracy=(true_positive + true_negative) / max(len(chances), 1),
        f1=2 * true_positive / wrong if wrong else 0.0,
        auc=_expected_auc(chances),
        rows=len(chances),
    )


def auc(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve: the chance that a positive row has the higher score (ties count half)."""
    ups, downs = int(positive.sum()), int((~positive).sum())
    if not ups or not downs:
        return 0.5
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[inverse][positive].sum() - ups * (ups + 1) / 2) / (ups * downs))


def _expected_auc(chances: Floats) -> float:
    """Return the expected AUC: every row counts as positive by its chance and as negative by the rest."""
    values, inverse = np.unique(chances, return_inverse=True)
    ups = np.bincount(inverse, weights=chances, minlength=len(values))
    downs = np.bincount(inverse, weights=1 - chances, minlength=len(values))
    below = np.cumsum(downs) - downs
    whole = ups.sum() * downs.sum()
    return float((ups * (below + downs / 2)).sum() / whole) if whole > _SAME else 0.5
