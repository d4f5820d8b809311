"""Spaces of vectors: projected alike everywhere, calm without a shift, and sure of one, down to a collapse."""

import base64
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.drift import Apart, DriftMemory, Policy, distance2_of, judge
from stoker.observe.drift.space import compared, domain_auc, spaces_of
from stoker.telemetry import vectors as vectors_of
from stoker.telemetry.vectors import Drawer, project, signs
from stoker.types.drift import DIMENSIONS, Drawn, Plane, Reference, Space, decode_reference
from stoker.types.errors import InvalidInput

WIDTH = 96
PLANE = Plane("embedding", "output", WIDTH)


def vectors(rows: int, seed: int, topics: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25), spread: float = 1.0):
    """Return vectors about four topics."""
    centres = np.random.default_rng(99).normal(size=(4, WIDTH))
    rng = np.random.default_rng(seed)
    return centres[rng.choice(4, rows, p=topics)] + spread * rng.normal(size=(rows, WIDTH))


def reference(rows: int = 300, seed: int = 0) -> Reference:
    return Reference(spaces=spaces_of({"embedding": vectors(rows, seed)}, [PLANE], "sha", draws=60))


def drawn(rows, seed: str = "sha") -> Drawn:
    drawer = Drawer(WIDTH, seed, 600)
    drawer.add(rows)
    return drawer.take()


def verdict(of: Reference, rows):
    seen = drawn(rows)
    return judge(of, (), seen.rows, Policy(rows_min=20), DriftMemory(), compared(of, [seen])).shifts[0]


def test_windows_without_a_shift_are_calm_and_other_topics_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is promised is promised over references: all windows of one share what it happened to be made of, and
    # which of its rows measure and which are compared is drawn.
    monkeypatch.setattr(vectors_of, "random", random.Random(1).random)
    windows = [
        [verdict(of, vectors(200, seed)) for seed in range(1001, 1026)]
        for of in (reference(seed=number) for number in range(12))
    ]
    rates = [sum(one.level != "steady" for one in each) / len(each) for each in windows]
    assert sum(rates) / len(rates) <= 0.01
    assert max(rates) <= 0.04  # one of 25
    of = reference()
    more = [verdict(of, vectors(200, seed, (0.55, 0.15, 0.15, 0.15))) for seed in range(1, 21)]
    assert sum(one.level == "drifted" for one in more) >= 18  # and not because nothing is ever told
    other = [verdict(of, vectors(200, seed, (1.0, 0.0, 0.0, 0.0))) for seed in range(1, 11)]
    assert all(one.level == "drifted" for one in other)
    assert all(one.auc > one.auc_expected > 0.5 for one in other)
    assert all(one.mean_shift > 0.5 for one in other)


def test_vectors_that_gather_around_the_same_mean_are_told_by_the_classifier() -> None:
    found = verdict(reference(), vectors(400, 5, spread=0.3))
    assert (found.level, found.side) == ("drifted", "output")
    assert found.auc > 0.7


def test_vectors_that_are_all_the_same_or_none_at_all_break_nothing() -> None:
    same = Reference(spaces=spaces_of({"embedding": np.ones((100, WIDTH))}, [PLANE], "sha", draws=10))
    assert verdict(same, np.ones((100, WIDTH))).level == "steady"
    assert verdict(same, vectors(100, 0)).level == "drifted"
    odd = vectors(100, 0)
    odd[:40] = np.nan
    odd[40:60] = np.inf
    odd[60:70] = 0.0
    assert drawn(odd).rows == len(drawn(odd).ranks) == 30
    with pytest.raises(InvalidInput, match="50 vectors or more, not 30"):
        spaces_of({"embedding": odd}, [PLANE], "sha")


def test_the_same_seed_projects_alike_and_keeps_distances() -> None:
    assert np.array_equal(signs(WIDTH, "a"), signs(WIDTH, "a"))
    assert not np.array_equal(signs(WIDTH, "a"), signs(WIDTH, "b"))
    assert signs(8, "a")[0, :6].tolist() == [0.125, -0.125, -0.125, -0.125, -0.125, 0.125], (
        "references on disk were projected so"
    )
    rows = vectors(200, 0, spread=0.2)
    found, _ = project(rows, signs(WIDTH, "a"))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    true, kept = (np.linalg.norm(of[:100] - of[100:], axis=1) for of in (unit, found.astype(float)))
    assert np.corrcoef(true, kept)[0, 1] > 0.9


def test_a_drawn_sample_is_even_over_all_that_passed() -> None:
    seen = [0] * 10  # rows kept of each tenth, whose vectors are one direction each
    known = {signs(10, "s")[at].astype(np.float16).tobytes(): at for at in range(10)}
    for _ in range(30):
        drawer = Drawer(10, "s", 50)
        for tenth in range(10):
            for start in range(0, 100, 20):
                drawer.add(np.eye(10)[[tenth] * 20] * (start + 1))
        found = drawer.take()
        assert (found.rows, len(found.ranks)) == (1_000, 50)
        assert drawer.take() == Drawn()
        for vector in found.vectors:
            seen[known[vector]] += 1
    assert min(seen) > 85  # 150 each; five deviations are 58
    assert max(seen) < 215


@given(st.floats(0.5, 1.0), st.floats(0.5, 1.0))
def test_a_higher_auc_is_never_nearer(one: float, other: float) -> None:
    assert (distance2_of(one) <= distance2_of(other)) or one > other
    assert distance2_of(0.5) == 0.0
    assert distance2_of(0.5881) == pytest.approx(0.1, abs=0.002)  # the usual threshold of a PSI


@given(st.integers(0, 700), st.floats(0.0, 50.0), st.floats(0.0, 1.0))
def test_a_farther_space_is_never_likelier_without_drift(rows: int, distance2: float, auc: float) -> None:
    of = CALM
    near, far = (
        judge(of, (), 1_000, Policy(), DriftMemory(), [Apart(rows, distance2 + more, auc)]).shifts[0]
        for more in (0.0, 1.0)
    )
    assert far.p <= near.p
    assert far.psi >= near.psi
    assert rows >= 20 or (near.level, near.p, near.psi) == ("steady", 1.0, 0.0)


CALM = reference(100)


def test_a_space_of_too_few_vectors_or_a_torn_sample_is_no_reference() -> None:
    space = CALM.spaces[0]
    assert space.rows == 100
    for sample in (space.sample[:-1], space.sample[: 49 * 2 * DIMENSIONS], space.sample * 7):
        with pytest.raises(ValueError, match="a sample has 50 to 600"):
            Space("x", space.mean_null, space.auc_null, "output", WIDTH, "", sample)
    with pytest.raises(ValueError, match="a space has no vectors"):
        decode_reference(
            b'{"spaces":[' + msgspec.json.encode(space).replace(base64.b64encode(space.sample), b"") + b"]}"
        )
    with pytest.raises(ValueError, match="neither features nor spaces"):
        decode_reference(b"{}")


def test_embeddings_that_moved_a_little_are_told_apart_and_others_not() -> None:
    rng = np.random.default_rng(0)
    before, same, moved = rng.normal(size=(600, 64)), rng.normal(size=(600, 64)), rng.normal(0.15, 1, (600, 64))
    assert domain_auc(before, same) < 0.57 < 0.65 < domain_auc(before, moved)
