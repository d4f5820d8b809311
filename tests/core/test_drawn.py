"""Samples of vectors: what joins to what, and that no row counts for more than another."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.drawn import is_sound, join
from stoker.types.drift import VECTOR_BYTES, Drawn

Ranks = st.lists(st.floats(0.0, 1.0, exclude_max=True), unique=True, max_size=60)


def vector(rank: float) -> bytes:
    return repr(rank).encode().ljust(VECTOR_BYTES, b".")


def drawn(ranks: list[float], most: int) -> Drawn:
    """Return the sample of rows with these ranks, as a replica draws it."""
    every = Drawn(len(ranks), 1.0, tuple(sorted(ranks)), tuple(map(vector, sorted(ranks))))
    return join([every], most)


@given(Ranks, st.lists(st.integers(0, 3), min_size=60, max_size=60), st.integers(1, 20), st.integers(1, 80))
def test_a_joined_sample_is_that_of_all_rows_whoever_saw_which(
    ranks: list[float], who: list[int], most: int, whole_most: int
) -> None:
    parts = [drawn([rank for rank, one in zip(ranks, who, strict=False) if one == each], most) for each in range(4)]
    found = join(parts, whole_most)
    assert found.rows == len(ranks)
    assert found.ranks == tuple(sorted(rank for rank in ranks if rank < found.limit))
    assert found.vectors == tuple(map(vector, found.ranks))
    assert len(found.ranks) <= whole_most
    assert is_sound(found)
    smallest = min((len(one.ranks) for one in parts if one.limit < 1.0), default=len(ranks))
    assert len(found.ranks) >= min(smallest, whole_most, len(ranks))  # a full part is never joined to less


@given(Ranks, Ranks, Ranks)
def test_the_order_of_joining_does_not_matter(one: list[float], two: list[float], three: list[float]) -> None:
    a, b, c = (drawn(ranks, 10) for ranks in (one, two, three))
    assert join([join([a, b], 10), c], 10) == join([a, join([c, b], 10)], 10)


def test_what_a_replica_made_up_is_not_sound() -> None:
    good = Drawn(2, 0.5, (0.1, 0.2), (vector(0.1), vector(0.2)))
    assert is_sound(good)
    for odd in (
        {"rows": 1},
        {"ranks": (0.1,)},
        {"ranks": (0.1, 0.5)},
        {"ranks": (-0.1, 0.2)},
        {"limit": float("nan")},
        {"limit": 2.0},
        {"vectors": (vector(0.1), b"short")},
    ):
        assert not is_sound(msgspec.structs.replace(good, **odd))
