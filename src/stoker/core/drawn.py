"""Even samples of vectors that join to even samples, whoever drew how many of how much, and when.

Source: bottom-k sampling (Cohen & Kaplan 2007): every row has a random rank, and a sample is all rows below a limit.
Two samples are comparable below the lower of their limits, so a busy replica or minute weighs as much as its rows.
"""

from collections.abc import Sequence
from typing import Final

from stoker.types.drift import VECTOR_BYTES, Drawn

SLICE_MAX: Final = 64  # vectors kept of a slice of a window, and of a replica between two looks


def join(samples: Sequence[Drawn], most: int) -> Drawn:
    """Return one sample of all that the samples are of, of at most `most` vectors."""
    limit = min((one.limit for one in samples), default=1.0)
    kept = sorted(
        (rank, vector) for one in samples for rank, vector in zip(one.ranks, one.vectors, strict=True) if rank < limit
    )
    if len(kept) > most:
        limit = kept[most][0]
        kept = kept[:most]
    return Drawn(
        sum(one.rows for one in samples), limit, tuple(rank for rank, _ in kept), tuple(vector for _, vector in kept)
    )


def is_sound(drawn: Drawn) -> bool:
    """Return whether `drawn` is what it says; nothing that a replica sends is trusted."""
    return (
        0 <= len(drawn.ranks) == len(drawn.vectors) <= drawn.rows
        and 0.0 < drawn.limit <= 1.0
        and all(0.0 <= rank < drawn.limit for rank in drawn.ranks)
        and all(len(vector) == VECTOR_BYTES for vector in drawn.vectors)
    )
