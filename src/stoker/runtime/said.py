"""What a model said of each row, read from the arrays of several calls at once, and how sure it was.

numpy's cost is the call and not the row: to read one row takes 14 µs, to read 64 together takes 1.5 µs each.
"""

from collections.abc import Sequence
from itertools import accumulate, groupby, pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stoker.core.feedback import class_text

SUM_SLACK: Final = 1e-3  # of rows of probabilities, in float16 too
WHOLE_MAX: Final = 2**53  # under it a whole number is its own float, as classes are compared (core/feedback.py)

Array = NDArray[Any]
Said = list[tuple[str | float, float | None]]


def of_calls(calls: list[list[Array]], kind: str, *, batches: bool) -> list[Said | None]:
    """Return for each call what was said of its rows; None where the output is nothing of the kind.

    Args:
        calls: of each the output that is meant, which is not empty, then its others.
        kind: "classification" or "regression".
        batches: the first dimension of every array is that of the rows; without it a call is one row.
    """
    if not batches:
        calls = [[array.reshape(1, -1) for array in call] for call in calls]
    found: list[Said | None] = []
    for _, alike in groupby(calls, _layout):
        some = list(alike)
        starts = np.array([0, *accumulate(len(call[0]) for call in some)])
        columns = [_rows(column) for column in zip(*some, strict=True)]
        others = [column for column in columns[1:] if len(column) == starts[-1] and column.size]
        said = _said(columns[0], kind, others, starts[:-1])
        if said is None:
            found += [None] * len(some)
        elif len(said) == len(some):
            found += [[one] for one in said]
        else:
            found += [said[start:end] for start, end in pairwise(starts.tolist())]
    return found


def _layout(call: list[Array]) -> list[tuple[Any, tuple[int, ...]]]:
    return [(array.dtype, array.shape[1:]) for array in call]


def _rows(arrays: Sequence[Array]) -> Array:
    """Return arrays of one layout as one, [row, value]."""
    whole = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return whole.reshape(len(whole), -1) if whole.size else whole


def _said(array: Array, kind: str, others: list[Array], starts: Array) -> Said | None:
    """Return what was said of each row and the confidence in it; None when the output is nothing of the kind.

    Classes are the largest of a row's values; a single whole number or text; or, of a single fraction, 0 or 1 with
    that as the probability of 1. The confidence of a class without one is that of another output that gives
    probabilities.
    """
    is_number = array.dtype.kind in "fiub"
    if kind == "regression":
        if not is_number or array.shape[1] != 1:
            return None
        return [(value, None) for value in array[:, 0].astype(np.float64).tolist()]
    if array.shape[1] > 1:
        if not is_number:
            return None
        return list(zip(map(str, array.argmax(axis=1).tolist()), _confidences([array], starts), strict=True))
    values, confidences = array[:, 0].tolist(), _confidences(others, starts) or [None] * len(array)
    if array.dtype.kind in "iu" and array.min() > -WHOLE_MAX and array.max() < WHOLE_MAX:
        return list(zip(map(str, values), confidences, strict=True))
    return list(map(_single, values, confidences))


def _single(value: Any, confidence: float | None) -> tuple[str, float | None]:
    if isinstance(value, float) and 0 < value < 1:
        return str(int(value >= 0.5)), max(value, 1 - value)
    return class_text(value.decode("utf-8", "replace") if isinstance(value, bytes) else value), confidence


def _confidences(arrays: list[Array], starts: Array) -> list[float | None]:
    """Return the largest of each row of the first array whose rows are probabilities in all of its call.

    None for each row without one; nothing when there are no arrays.
    """
    found: list[float | None] = [None] * len(arrays[0]) if arrays else []
    for one in arrays:
        if one.dtype.kind != "f" or one.shape[1] < 2:
            continue
        values = one.astype(np.float64)
        is_one = (values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= SUM_SLACK)
        counts = np.diff(starts, append=len(one))
        is_call = np.repeat(np.logical_and.reduceat(is_one, starts), counts)
        largest = np.minimum(values.max(axis=1), 1.0)
        if is_call.all() and found[0] is None and not any(found):
            return list(largest.tolist())
        found = [
            each if each is not None or not is_right else value
            for each, is_right, value in zip(found, is_call.tolist(), largest.tolist(), strict=True)
        ]
    return found
