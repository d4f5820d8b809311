"""The accuracy to expect of predictions without a label, from those with one; or why it cannot be told (CBPE)."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from stoker.observe.drift.estimate import calibrate, calibration_error, expected_accuracy
from stoker.observe.feedback.quality import Estimated

BIN_ROWS: Final = 50
BINS_MAX: Final = 10
ERROR_MAX: Final = 0.05  # of the calibration, beyond chance


def expected(known: Sequence[tuple[float, bool]], waiting: Sequence[float]) -> Estimated:
    """Return what to expect of rows so sure as `waiting`; `known`: 100 rows or more, how sure and whether right."""
    scores = np.array([sure for sure, _ in known], np.float64)
    hits = np.array([is_right for _, is_right in known])
    held = calibrate(scores[::2], hits[::2])(scores[1::2])  # every other row: both halves are as old
    bins = min(len(held) // BIN_ROWS, BINS_MAX)
    error, chance = calibration_error(held, hits[1::2], bins), _by_chance(held, bins)
    if error - chance > ERROR_MAX:
        reason = f"the calibration is {error:.1%} off on labels that were held out, {chance:.1%} of it by chance"
        return Estimated(None, 0, error, chance, f"{reason}; at most {ERROR_MAX:.0%} beyond chance is relied on")
    chances = calibrate(scores, hits)(np.array(waiting, np.float64))
    return Estimated(expected_accuracy(chances), len(waiting), error, chance)


def _by_chance(chances: np.ndarray[tuple[int], np.dtype[np.float64]], bins: int) -> float:
    """Return the calibration error to expect of a perfect calibration: of each bin, a normal's mean distance from 0."""
    parts = np.array_split(np.sort(chances), bins)
    spreads = [len(part) * np.sqrt(2 / np.pi * (part * (1 - part)).mean() / len(part)) for part in parts]
    return float(sum(spreads) / len(chances))
