"""Whether vectors (embeddings, hidden states) still come from where they came from.

Two questions. The mean of random Fourier features (Rahimi & Recht 2007) is the mean embedding of a Gaussian kernel;
means add up, so replicas and minutes merge, and the distance of two means is a cheap MMD. The AUC of a classifier that
tells reference from window (Lopez-Paz & Oquab 2017) says how different they are in a number that people can read.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stoker.observe.drift.estimate import auc

FEATURES: Final = 512
FOLDS: Final = 2
PERMUTATIONS: Final = 100
RIDGE: Final = 1.0  # times the mean variance of a dimension and the rows: 0.1 to 10 changed the AUC by less than 0.01
_PAIRS: Final = 500

Floats = NDArray[np.float64]


class FourierMean:
    """Sums random Fourier features of vectors; two with the same `seed`, dimension and `width` add up.

    width: of the kernel, such as the median distance between two reference vectors (`width_of`).
    """

    def __init__(self, dimension: int, width: float, seed: int = 7, features: int = FEATURES) -> None:
        rng = np.random.default_rng(seed)
        self.rows = 0
        self.total: Floats = np.zeros(features)
        self._directions = rng.normal(0.0, 1.0 / max(width, 1e-12), (dimension, features))
        self._phases = rng.uniform(0.0, 2 * np.pi, features)

    def add(self, vectors: Floats) -> None:
        """Add vectors: float [rows, dimension]."""
        self.total += self.features(vectors).sum(axis=0)
        self.rows += len(vectors)

    def features(self, vectors: Floats) -> Floats:
        """Return the features of vectors: [rows, features], whose products are about the kernel's values."""
        found: Floats = np.cos(vectors @ self._directions + self._phases) * np.sqrt(2.0 / len(self._phases))
        return found

    def distance(self, other: "FourierMean") -> float:
        """Return the distance of two means, an estimate of the MMD; needs rows in both."""
        return float(np.linalg.norm(self.total / self.rows - other.total / other.rows))


def width_of(vectors: Floats, seed: int = 7) -> float:
    """Return the median distance of two vectors, over some pairs."""
    rng = np.random.default_rng(seed)
    one, two = rng.integers(0, len(vectors), (2, _PAIRS))
    apart = np.linalg.norm(vectors[one] - vectors[two], axis=1)
    apart = apart[apart > 0]
    return float(np.median(apart)) if apart.size else 1.0


def mean_shift(reference: Floats, window: Floats, seed: int = 7) -> tuple[float, float]:
    """Return the distance of the two means, and its p-value over PERMUTATIONS of who belongs where."""
    mean = FourierMean(reference.shape[1], width_of(reference, seed), seed)
    every = mean.features(np.concatenate([reference, window]))
    rng = np.random.default_rng(seed)
    many = len(reference)

    def apart(rows: Floats) -> float:
        return float(np.linalg.norm(rows[:many].mean(axis=0) - rows[many:].mean(axis=0)))

    seen = apart(every)
    by_chance = sum(apart(every[rng.permutation(len(every))]) >= seen for _ in range(PERMUTATIONS))
    return seen, (by_chance + 1) / (PERMUTATIONS + 1)


def domain_auc(reference: Floats, window: Floats, seed: int = 7) -> float:
    """Return how well a ridge classifier tells the two apart on rows it was not fitted to: 0.5 not at all, 1 always."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([reference, window])
    rows = (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1e-12)
    is_window = np.arange(len(rows)) >= len(reference)
    fold = rng.permutation(len(rows)) % FOLDS
    found = []
    for each in range(FOLDS):
        train = fold != each
        target = np.where(is_window[train], 1.0 / is_window[train].sum(), -1.0 / (~is_window[train]).sum())
        gram = rows[train].T @ rows[train]
        gram[np.diag_indices_from(gram)] += RIDGE * train.sum()
        scores = rows[~train] @ np.linalg.solve(gram, rows[train].T @ target)
        found.append(auc(scores, is_window[~train]))
    return float(np.mean(found))
