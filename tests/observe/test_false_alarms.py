"""What is promised of drift: windows without any are calm whatever reference one happened to draw, real ones are told.

Each reference is one draw, and all its windows share it: so what is counted is the rate of each reference by itself.
"""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from stoker.core import distances
from stoker.core.drift import DriftMemory, Judgement, Policy, judge
from stoker.core.reference import bind
from stoker.observe.drift.null import chi_square_rows, js_rows, psi_rows, wasserstein_rows
from stoker.observe.drift.reference import build
from stoker.telemetry.slots import ROWS_A_CALL, Counter
from stoker.types.drift import Reference, decode_reference
from stoker.types.models import Signature, TensorSpec

Columns = dict[str, np.ndarray]
SIGNATURE = Signature(
    (
        TensorSpec("age", "FP32", (-1, 1)),
        TensorSpec("income", "FP32", (-1, 1)),
        TensorSpec("visits", "FP32", (-1, 1)),
        TensorSpec("kind", "BYTES", (-1, 1)),
    )
)
RATE = Policy().false_alarms


def rows_of(rng: np.random.Generator, rows: int) -> Columns:
    return {
        "age": rng.normal(40.0, 10.0, rows),
        "income": np.where(rng.random(rows) < 0.1, np.nan, np.exp(rng.normal(0.0, 1.0, rows))),
        "visits": rng.poisson(3.0, rows).astype(float),
        "kind": np.array(rng.choice(list("abcdef"), rows, p=[0.4, 0.3, 0.15, 0.1, 0.04, 0.01]), object),
    }


def reference_of(columns: Columns) -> Reference:
    found = bind(build(columns, source="test", made_at_s=1.0), SIGNATURE)
    assert isinstance(found, Reference), found
    return found


def verdict(reference: Reference, columns: Columns) -> Judgement:
    counter, rows = Counter(reference), len(columns["age"])
    for start in range(0, rows, ROWS_A_CALL):
        piece = {name: values[start : start + ROWS_A_CALL] for name, values in columns.items()}
        counter.add(piece, {}, len(piece["age"]))
    return judge(reference, counter.slots(), rows, Policy(rows_min=50), DriftMemory())


def test_no_reference_of_thirty_alarms_three_times_as_often_as_declared() -> None:
    rates = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        reference = reference_of(rows_of(rng, 150))
        moved = [any(one.level != "steady" for one in verdict(reference, rows_of(rng, 300)).shifts) for _ in range(40)]
        rates.append(float(np.mean(moved)))
    assert np.median(rates) <= RATE, rates
    assert max(rates) <= 3 * RATE, rates
    assert np.mean(rates) <= RATE, rates


def test_a_window_that_shows_the_truth_does_not_find_that_a_small_reference_missed_it() -> None:
    """Of 10,000 rows the window's own chance is nothing: what is left is how far the reference is from the truth."""
    calm = []
    for seed in range(10):
        rng = np.random.default_rng(1_000 + seed)
        levels = {one.level for one in verdict(reference_of(rows_of(rng, 200)), rows_of(rng, 10_000)).shifts}
        calm.append(levels == {"steady"})
    assert all(calm), calm


def mean_by_half(columns: Columns, rng: np.random.Generator) -> None:
    columns["age"] += 5.0


def wider(columns: Columns, rng: np.random.Generator) -> None:
    columns["age"] = 40.0 + 1.5 * (columns["age"] - 40.0)


def far_tail(columns: Columns, rng: np.random.Generator) -> None:
    columns["age"][rng.random(len(columns["age"])) < 0.04] = 95.0


def kinds_swapped(columns: Columns, rng: np.random.Generator) -> None:
    columns["kind"] = np.array([{"a": "d", "d": "a"}.get(kind, kind) for kind in columns["kind"]], object)


def new_kind(columns: Columns, rng: np.random.Generator) -> None:
    columns["kind"][rng.random(len(columns["kind"])) < 0.04] = "zz"


@pytest.mark.parametrize(
    ("change", "feature"),
    [(mean_by_half, "age"), (wider, "age"), (far_tail, "age"), (kinds_swapped, "kind"), (new_kind, "kind")],
)
def test_a_known_shift_of_a_thousand_rows_is_found_nine_times_of_ten(
    change: Callable[[Columns, np.random.Generator], None], feature: str
) -> None:
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        reference = reference_of(rows_of(rng, 3_000))
        window = rows_of(rng, 1_000)
        change(window, rng)
        levels = {one.feature: one.level for one in verdict(reference, window).shifts}
        found.append(levels.pop(feature) == "drifted")
    assert sum(found) >= 9, found


def test_a_feature_is_judged_by_what_fits_its_type_and_each_has_a_limit_of_its_own() -> None:
    rng = np.random.default_rng(0)
    reference = reference_of(rows_of(rng, 1_000))
    assert [sorted(one.nulls) for one in reference.features] == [["js", "wasserstein"]] * 3 + [["chi2", "js"]]
    shifts = {one.feature: one for one in verdict(reference, rows_of(rng, 1_000)).shifts}
    for one in shifts.values():
        assert 0.0 < one.psi < one.expected
        assert 0.0 < one.js < one.js_expected
        assert (one.wasserstein < one.wasserstein_expected) == (one.feature != "kind")
        assert one.by in {"psi", "js", "chi2" if one.feature == "kind" else "wasserstein"}
    assert shifts["age"].chi2_p == 1.0 > shifts["kind"].chi2_p > 0.01


def test_a_reference_from_before_is_still_judged_by_its_psi() -> None:
    rng = np.random.default_rng(0)
    made = reference_of(rows_of(rng, 1_000))
    features = tuple(msgspec.structs.replace(one, nulls=msgspec.UNSET) for one in made.features)
    old = decode_reference(msgspec.json.encode(msgspec.structs.replace(made, features=features)))
    assert b"nulls" not in msgspec.json.encode(old)
    window = rows_of(rng, 1_000)
    mean_by_half(window, rng)
    shifts = {one.feature: one for one in verdict(old, window).shifts}
    assert {one.by for one in shifts.values()} == {"psi"}
    assert (shifts["age"].level, shifts["age"].wasserstein_expected) == ("drifted", 0.0)


@pytest.mark.parametrize("rows", [100, 5_000])
def test_the_drawn_nulls_score_as_the_core_does(rows: int) -> None:
    rng = np.random.default_rng(0)
    for feature in reference_of(rows_of(rng, 500)).features:
        slots = rng.multinomial(rows, rng.dirichlet(np.ones(len(feature.counts)), 5))
        expected = np.asarray(distances.expected_shares(feature))
        for name, found in (
            ("psi", psi_rows(expected, slots / rows)),
            ("js", js_rows(expected, slots / rows)),
            ("chi2", chi_square_rows(feature.counts, slots / rows, rows)),
            *([("wasserstein", wasserstein_rows(feature, slots / rows))] if feature.kind == "number" else []),
        ):
            assert found == pytest.approx([distances.distance(name, feature, one.tolist()) for one in slots]), name
