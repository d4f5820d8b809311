"""How large a PSI becomes without any drift: drawn once, when a reference is made.

The shares behind a reference of n rows are not known: they are drawn from a Dirichlet around its counts, which for
quantile bins is their exact distribution (the coverage between order statistics, Wilks 1941), and a window's counts
from a multinomial of those. So a small reference alarms less readily, as it should.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stoker.core.drift import EPS
from stoker.types.drift import Null

WINDOW_ROWS: Final = (100, 200, 500, 1_000, 2_000, 5_000, 20_000, 100_000, 1_000_000)
DRAWS: Final = 1_000
_TINY: Final = 1e-9  # the weight of a slot that cannot be filled; a Dirichlet wants more than none


def null_of(weights: Sequence[float], rng: np.random.Generator, draws: int = DRAWS) -> Null:
    """Return the null of a feature with these weights (core.drift.weights): `draws` windows of each of WINDOW_ROWS."""
    alpha = np.maximum(np.asarray(weights, np.float64), _TINY)
    expected = alpha / alpha.sum()
    mean, sd, skew = [], [], []
    for rows in WINDOW_ROWS:
        truth = rng.dirichlet(alpha, draws)
        scores = psi_rows(expected, rng.multinomial(rows, truth) / rows)
        middle, spread = float(scores.mean()), max(float(scores.std()), 1e-12)
        mean.append(max(middle, 1e-12))
        sd.append(spread)
        skew.append(float((((scores - middle) / spread) ** 3).mean()))
    return Null(WINDOW_ROWS, _short(mean), _short(sd), _short(skew))


def psi_rows(expected: NDArray[np.float64], seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the PSI of each row of `seen` (float64 [draws, slots], shares) as core.drift.psi does."""
    p, q = np.maximum(expected, EPS), np.maximum(seen, EPS)
    scores: NDArray[np.float64] = ((q - p) * np.log(q / p)).sum(axis=1)
    return scores


def _short(values: list[float]) -> tuple[float, ...]:
    return tuple(float(f"{value:.4g}") for value in values)
