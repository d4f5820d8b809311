"""The reference that goes with a version, of a file of good rows: columns, vectors, or texts of a model of texts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stoker.core.watched import ANSWER, EMBEDDING, PROMPT, TEXT, WORDING
from stoker.observe.drift.reference import Columns, build
from stoker.observe.drift.rows import read, read_vectors
from stoker.observe.drift.space import spaces_of
from stoker.telemetry.profile import profile
from stoker.telemetry.vectors import norms
from stoker.types.drift import SPACES_MAX, Plane, Reference, Side

SEED: Final = "pushed"  # of the projection: the version's digest is not known before the reference is made
TEXTS_A_CALL: Final = 1_000
# Columns that are texts, of a model with this task; everything else in them is looked at as their profile.
_TEXTS: Final[Mapping[str, Mapping[str, Side]]] = {
    "chat": {PROMPT: "input", ANSWER: "output"},
    "embed": {TEXT: "input"},
}


def reference_of(path: Path, tasks: Sequence[str]) -> Reference:
    """Return the reference of the rows in a file. Raises NotFound, InvalidInput.

    No time is in it: the same rows are the same version.
    """
    columns: dict[str, NDArray[Any]] = dict(read(path))
    vectors = read_vectors(path)
    planes = [Plane(name, "output", array.shape[1]) for name, array in vectors.items()]
    if EMBEDDING in vectors:
        columns[f"{EMBEDDING}.norm"] = norms(vectors[EMBEDDING])[:, 0]
    for name, side in _TEXTS.get(tasks[0] if tasks else "", {}).items():
        if name not in columns:
            continue
        found = _profile(name, columns.pop(name))
        wording = f"{name}.{WORDING}"
        if name != TEXT:
            vectors[wording] = found[wording]
            planes.append(Plane(wording, side, found[wording].shape[1]))
        columns |= {column: values[:, 0] for column, values in found.items() if column != wording}
    spaces = spaces_of(vectors, planes[:SPACES_MAX], SEED)
    return build(columns, source=path.name, made_at_s=0.0, spaces=spaces)


def _profile(whose: str, values: NDArray[Any]) -> Columns:
    texts = [str(value) for value in values]
    parts = [profile(whose, texts[start : start + TEXTS_A_CALL]) for start in range(0, len(texts), TEXTS_A_CALL)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
