"""A reference from live rows: what the replicas gathered over a window, put together."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stoker.control.drift.files import Learning
from stoker.core.drawn import is_sound
from stoker.core.reference import names
from stoker.core.watched import Seen
from stoker.observe.drift.reference import build
from stoker.observe.drift.space import joined, space_of
from stoker.types.drift import FEATURES_MAX, SAMPLE_MIN, Answer, Plane, Reference, Space
from stoker.types.errors import InvalidInput

Columns = dict[str, NDArray[np.float64] | NDArray[np.object_]]


def learned(learning: Learning, answers: Mapping[str, Answer], seen: Seen, now_s: float) -> Reference | str:
    """Return the reference of the gathered rows, or why there is none; takes up to a few seconds."""
    columns = _columns(answers, seen)
    spaces = _spaces(learning, answers, seen)
    rows = max((len(values) for values in columns.values()), default=spaces[0].rows if spaces else 0)
    try:
        source = f"{rows} live rows over {learning.window_s:g} s"
        return build(columns, source=source, made_at_s=now_s, spaces=spaces)
    except InvalidInput as few:
        problems = sorted({one.problem for one in answers.values() if one.problem})
        return "; ".join([few.message, *problems])


def _columns(answers: Mapping[str, Answer], seen: Seen) -> Columns:
    columns: Columns = {}
    tensors = (*seen.signature.inputs, *seen.signature.outputs)
    text = {column for one in tensors if one.datatype == "BYTES" for column in names(one)}
    for column in [column for one in tensors for column in names(one)][:FEATURES_MAX]:
        parts = [answer.columns[column] for answer in answers.values() if column in answer.columns]
        values = np.array([*(value for part in parts for value in part), None], object)[:-1]
        numbers = values if column in text else values.astype(np.float64)
        if (numbers != "").any() if column in text else np.isfinite(numbers).any():
            columns[column] = numbers
    return columns


def _spaces(learning: Learning, answers: Mapping[str, Answer], seen: Seen) -> tuple[Space, ...]:
    """Return the spaces of which enough vectors were drawn; replicas of one version give vectors of one width."""
    found = []
    for plane in seen.planes:
        width = max((one.widths.get(plane.name, 0) for one in answers.values()), default=0)
        drawn = [
            one.vectors[plane.name]
            for one in answers.values()
            if plane.name in one.vectors and one.widths.get(plane.name) == width and is_sound(one.vectors[plane.name])
        ]
        sample = joined(drawn)
        if len(sample) >= SAMPLE_MIN:
            found.append(space_of(Plane(plane.name, plane.side, width), learning.seed, sample))
    return tuple(found)
