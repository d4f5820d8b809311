"""Whether vectors (embeddings, how texts are worded) still come from where they came from.

Two questions, both in the reference's own units: how far the mean moved, in deviations of the reference along its
principal directions (Mahalanobis), and how well a classifier tells window from reference (Lopez-Paz & Oquab 2017);
it also sees vectors that gather or scatter around the same mean. How large both become without drift is drawn from the
reference itself when it is made: two bootstrap samples of it, one of a reference's size and one of a window's. The
former are the farthest of many from all that was drawn: every window is compared with the same reference, and one that
happened to be far from the truth would else alarm again and again (as in null.py). What measures (the directions, the
deviations) is of other vectors than what is compared.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stoker.core.drawn import join
from stoker.core.drift import Apart
from stoker.observe.drift.estimate import auc
from stoker.observe.drift.null import null_from
from stoker.telemetry.vectors import CALL_ROWS_MAX, Drawer
from stoker.types.drift import DIMENSIONS, SAMPLE_MAX, SAMPLE_MIN, Drawn, Null, Plane, Reference, Space
from stoker.types.errors import InvalidInput

WINDOW_ROWS: Final = (20, 60, 200, SAMPLE_MAX)
DRAWS: Final = 100
RESAMPLES: Final = 4_000  # references of the same size, of which windows are compared with the farthest
FARTHEST: Final = 40
FOLDS: Final = 2
RIDGE: Final = 1.0  # times the mean variance of a dimension and the rows: 0.1 to 10 changed the AUC by less than 0.01
NOISE: Final = 1e-3  # the least deviation of a direction: quantised models answer the same text that differently
REACH: Final = 5.0  # deviations; a vector counts as no farther away in the classifier
SEED: Final = 7

Floats = NDArray[np.float64]


class Frame:
    """What of a reference vectors are measured by: its mean, its principal directions, its deviations along them."""

    def __init__(self, vectors: Floats) -> None:
        self._mean = vectors.mean(axis=0)
        rows, width = vectors.shape
        spread = np.cov(vectors, rowvar=False)
        # Towards a sphere the more, the fewer rows there are: of fewer than dimensions some have no deviation at all.
        shrunk = width / (width + rows)
        spread = (1 - shrunk) * spread + (shrunk * np.trace(spread) / width + NOISE**2) * np.eye(width)
        variances, directions = np.linalg.eigh(spread)
        self._into = directions / np.sqrt(variances)

    def __call__(self, vectors: Floats) -> Floats:
        """Return the vectors in deviations: [rows, dimensions]."""
        found: Floats = (vectors - self._mean) @ self._into
        return found


def framed(sample: NDArray[np.float16]) -> tuple[Frame, Floats]:
    """Return the frame, of a third of the sample, and the others in it.

    Measured by themselves vectors look nearer to their mean than new ones do.
    """
    wide = _wide(sample)
    frame = Frame(wide[: len(wide) // 3])
    return frame, frame(wide[len(wide) // 3 :])


def space_of(plane: Plane, seed: str, sample: NDArray[np.float16], draws: int = DRAWS) -> Space:
    """Return the space of `sample`: float16 [rows, DIMENSIONS], SAMPLE_MIN rows or more."""
    sample = sample[:SAMPLE_MAX]
    _, own = framed(sample)
    rng = np.random.default_rng(SEED)
    means, aucs = (_null_of(own, told, rng, draws) for told in (_distance2, _told_apart))
    return Space(plane.name, means, aucs, plane.side, plane.width, seed, sample.tobytes())


def spaces_of(
    vectors: Mapping[str, NDArray[Any]], planes: Sequence[Plane], seed: str, draws: int = DRAWS
) -> tuple[Space, ...]:
    """Return the space of each plane that has `vectors`: float [rows, width] by name.

    Raises InvalidInput: fewer than SAMPLE_MIN vectors.
    """
    found = []
    for plane in planes:
        given = vectors.get(plane.name)
        if given is None:
            continue
        width = given.shape[1]
        drawer = Drawer(width, seed, SAMPLE_MAX)
        for start in range(0, len(given), CALL_ROWS_MAX):
            drawer.add(given[start : start + CALL_ROWS_MAX])
        sample = array_of(drawer.take())
        if len(sample) < SAMPLE_MIN:
            raise InvalidInput(f"{plane.name} needs {SAMPLE_MIN} vectors or more, not {len(sample)}", field="reference")
        found.append(space_of(Plane(plane.name, plane.side, width), seed, sample, draws))
    return tuple(found)


def joined(samples: Sequence[Drawn]) -> NDArray[np.float16]:
    """Return one sample of samples: float16 [rows, DIMENSIONS], SAMPLE_MAX rows at most."""
    return array_of(join(samples, SAMPLE_MAX))


def array_of(drawn: Drawn) -> NDArray[np.float16]:
    """Return the vectors drawn: float16 [rows, DIMENSIONS]."""
    return np.frombuffer(b"".join(drawn.vectors), np.float16).reshape(-1, DIMENSIONS)


def compared(reference: Reference, drawn: Sequence[Drawn]) -> tuple[Apart, ...]:
    """Return how far the vectors of a window are from the reference, of each space."""
    found = []
    for space, one in zip(reference.spaces, drawn, strict=True):
        window = _wide(array_of(one))
        if not len(window):
            found.append(Apart(0, 0.0, 0.5))
            continue
        frame, own = framed(np.frombuffer(space.sample, np.float16).reshape(-1, DIMENSIONS))
        now = frame(window)
        found.append(Apart(len(window), _distance2(own, now), _told_apart(own, now)))
    return tuple(found)


def domain_auc(reference: Floats, window: Floats, seed: int = SEED) -> float:
    """Return how well a ridge classifier tells the two apart on rows it was not fitted to: 0.5 not at all, 1 always."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([reference, window])
    rows = (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1e-12)
    is_window = np.arange(len(rows)) >= len(reference)
    fold = np.empty(len(rows), np.intp)  # as many of each side in each
    for side in (~is_window, is_window):
        fold[side] = rng.permutation(int(side.sum())) % FOLDS
    found = []
    for each in range(FOLDS):
        train = fold != each
        target = np.where(is_window[train], 1.0 / is_window[train].sum(), -1.0 / (~is_window[train]).sum())
        gram = rows[train].T @ rows[train]
        gram[np.diag_indices_from(gram)] += RIDGE * train.sum()
        scores = rows[~train] @ np.linalg.solve(gram, rows[train].T @ target)
        found.append(auc(scores, is_window[~train]))
    return float(np.mean(found))


def _distance2(before: Floats, now: Floats) -> float:
    """Return the squared distance of the means, in deviations."""
    return float(((now.mean(axis=0) - before.mean(axis=0)) ** 2).sum())


def _told_apart(before: Floats, now: Floats) -> float:
    """Return the AUC of the classifier, 0.5 of too few vectors."""
    return domain_auc(_features(before), _features(now)) if len(now) >= FOLDS else 0.5


def _null_of(own: Floats, told: Callable[[Floats, Floats], float], rng: np.random.Generator, draws: int) -> Null:
    """Return the null of what is `told` of two samples: windows beside the references that are farthest."""
    seen = own if told is _distance2 else _features(own)
    seen = (seen - seen.mean(axis=0)) / (1.0 if told is _distance2 else np.maximum(seen.std(axis=0), 1e-12))
    far: list[tuple[float, NDArray[np.intp]]] = []
    for _ in range(RESAMPLES):
        rows = rng.integers(len(own), size=len(own))
        mean = np.bincount(rows, minlength=len(own)) @ seen / len(own)
        far.append((float(mean @ mean), rows))
    far.sort(key=lambda one: one[0])
    farthest = [own[rows] for _, rows in far[-FARTHEST:]]
    return null_from(
        {
            rows: np.array(
                [told(farthest[at % FARTHEST], own[rng.integers(len(own), size=rows)]) for at in range(draws)]
            )
            for rows in WINDOW_ROWS
        }
    )


def _features(vectors: Floats) -> Floats:
    """Return what the classifier sees: each deviation, and how far from the middle all together are."""
    held = np.clip(vectors, -REACH, REACH)
    return np.hstack([held, np.einsum("ij,ij->i", held, held)[:, None]])


def _wide(vectors: NDArray[np.float16]) -> Floats:
    """Return float64; what a damaged file holds that is no number counts as 0."""
    return np.nan_to_num(vectors.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
