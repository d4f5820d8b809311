"""Draws vectors evenly from all that pass, projected to few dimensions: a bounded sample, made to be joined.

A vector is brought to length one and multiplied with random signs (Achlioptas 2003), which keep distances; the signs
are the bytes of a hash, so that whoever has the seed projects alike, whatever library drew random numbers. Once a
sample is full, a vector costs its rank: only those ranked low enough are looked at.
"""

import heapq
from hashlib import shake_256
from random import random
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stoker.types.drift import DIMENSIONS, Drawn

CALL_ROWS_MAX: Final = 4_096  # of one call that are looked at

Floats = NDArray[np.float32]


class Drawer:
    """A sample of at most `most` vectors of `width` values since the last `take`. Not for two threads at once."""

    def __init__(self, width: int, seed: str, most: int) -> None:
        self._signs = signs(width, seed)
        self._most = most
        self._begin()

    def _begin(self) -> None:
        self._rows = 0
        self._limit = 1.0
        self._kept: list[tuple[float, bytes]] = []  # a heap of (-rank, vector): the highest rank first

    def add(self, vectors: NDArray[Any]) -> None:
        """Take some of `vectors`: float [rows, width]. Those without a length, or without an end, are none."""
        vectors = vectors[:CALL_ROWS_MAX]
        ranks = [random() for _ in range(len(vectors))]
        low = [at for at, rank in enumerate(ranks) if rank < self._limit]
        self._rows += len(vectors)
        if not low:
            return
        found, is_vector = project(vectors[low], self._signs)
        self._rows -= len(low) - int(is_vector.sum())
        for at, vector, is_one in zip(low, found, is_vector, strict=True):
            if is_one and ranks[at] < self._limit:
                heapq.heappush(self._kept, (-ranks[at], vector.tobytes()))
                if len(self._kept) > self._most:
                    self._limit = -heapq.heappop(self._kept)[0]

    def take(self) -> Drawn:
        """Return the sample, and begin another."""
        kept = sorted((-rank, vector) for rank, vector in self._kept)
        drawn = Drawn(self._rows, self._limit, tuple(rank for rank, _ in kept), tuple(one for _, one in kept))
        self._begin()
        return drawn


def signs(width: int, seed: str) -> Floats:
    """Return the projection: float32 [width, DIMENSIONS], of ± 1/√DIMENSIONS."""
    bits = np.unpackbits(np.frombuffer(shake_256(seed.encode()).digest(width * DIMENSIONS // 8), np.uint8))
    found: Floats = (bits.astype(np.float32) * 2 - 1).reshape(width, DIMENSIONS) / np.float32(DIMENSIONS**0.5)
    return found


def project(vectors: NDArray[Any], onto: Floats) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Return the vectors [rows, width] as float16 [rows, DIMENSIONS], and which of them are vectors at all."""
    wide = vectors.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        is_vector = np.isfinite(lengths) & (lengths > 0)
        wide[is_vector] /= lengths[is_vector, None]
        wide[~is_vector] = 0.0
    return (wide @ onto).astype(np.float16), is_vector


def norms(vectors: NDArray[Any]) -> NDArray[Any]:
    """Return the lengths of vectors, [rows, 1], to three digits: models that give unit vectors give them nearly."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        scale = 10.0 ** (np.floor(np.log10(np.maximum(lengths, 1e-30))) - 2)
        found: NDArray[Any] = (np.round(lengths / scale) * scale).astype(np.float32)[:, None]
    return found
