"""A reference from live rows: what the replicas gathered over a window, put together."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stoker.control.drift.files import Learning
from stoker.core.reference import names
from stoker.observe.drift.reference import build
from stoker.types.drift import FEATURES_MAX, Answer, Reference
from stoker.types.errors import InvalidInput
from stoker.types.models import Signature


def learned(learning: Learning, answers: Mapping[str, Answer], signature: Signature, now_s: float) -> Reference | str:
    """Return the reference of the gathered rows, or why there is none; takes up to a few seconds."""
    columns: dict[str, NDArray[np.float64] | NDArray[np.object_]] = {}
    tensors = (*signature.inputs, *signature.outputs)
    text = {column for one in tensors if one.datatype == "BYTES" for column in names(one)}
    for column in [column for one in tensors for column in names(one)][:FEATURES_MAX]:
        parts = [answer.columns[column] for answer in answers.values() if column in answer.columns]
        values = np.array([*(value for part in parts for value in part), None], object)[:-1]
        numbers = values if column in text else values.astype(np.float64)
        if (numbers != "").any() if column in text else np.isfinite(numbers).any():
            columns[column] = numbers
    rows = max((len(values) for values in columns.values()), default=0)
    try:
        return build(columns, source=f"{rows} live rows over {learning.window_s:g} s", made_at_s=now_s)
    except InvalidInput as few:
        return few.message
