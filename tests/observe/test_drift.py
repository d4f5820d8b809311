"""References and counting with arrays: bins, nulls, hostile rows, and known shifts found."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from stoker.core.distances import psi
from stoker.core.drift import DriftMemory, Policy, judge
from stoker.core.reference import Misplaced, bind
from stoker.observe.drift import rows as files
from stoker.observe.drift.null import psi_rows
from stoker.observe.drift.reference import build
from stoker.telemetry.slots import GATHERED_ROWS, Counter
from stoker.types.drift import REFERENCE_BYTES_MAX, Reference, decode_reference
from stoker.types.errors import InvalidInput, NotFound
from stoker.types.models import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 2)),))


def made(rows: int = 2_000, seed: int = 0) -> Reference:
    rng = np.random.default_rng(seed)
    columns = {f"x[{at}]": rng.normal(at, 1.0, rows) for at in range(4)} | {"y[1]": rng.random(rows)}
    return bound(build(columns, source="test", made_at_s=1.0))


def bound(reference: Reference, signature: Signature = SIGNATURE) -> Reference:
    found = bind(reference, signature)
    assert isinstance(found, Reference), found
    return found


def drawn(rows: int, seed: int, shift: float = 0.0) -> dict[str, np.ndarray]:
    x = np.random.default_rng(seed).normal(size=(rows, 4)) + np.arange(4)
    x[:, 2] += shift
    return {"x": x.astype(np.float32)}


def levels(reference: Reference, x: dict[str, np.ndarray], y: np.ndarray) -> dict[str, str]:
    counter = Counter(reference)
    counter.add(x, {"y": y}, len(y))
    verdict = judge(reference, counter.slots(), counter.rows, Policy(), DriftMemory())
    return {one.feature: one.level for one in verdict.shifts}


def test_half_a_deviation_in_one_of_five_features_is_found_and_nothing_else() -> None:
    found, false = 0, 0
    for seed in range(20):
        y = np.random.default_rng(seed).random((1_000, 2)).astype(np.float32)
        level = levels(made(seed=seed), drawn(1_000, 1_000 + seed, shift=0.5), y)
        found += level.pop("x[2]") == "drifted"
        false += any(one != "steady" for one in level.values())
    assert found >= 18
    assert false <= 1


def test_windows_without_drift_stay_steady() -> None:
    windows = []
    for seed in range(10):
        reference = made(500, seed)
        for more in range(5):
            y = np.random.default_rng(seed * 10 + more).random((300, 2))
            windows.append(levels(reference, drawn(300, 5_000 + seed * 10 + more), y))
    assert sum(set(one.values()) != {"steady"} for one in windows) <= 2  # of 50, at a rate of 1 %: P(3 or more) = 0.014


def test_every_value_falls_into_its_slot_whatever_the_size_of_the_calls() -> None:
    reference = made()
    feature = reference.features[0]
    values = np.array([*feature.edges, -99.0, 99.0, np.nan, np.inf, -np.inf, 0.0], np.float32)
    x = np.tile(values[:, None], (60, 4))
    whole, small = Counter(reference), Counter(reference)
    whole.add({"x": x}, {}, len(x))
    for start in range(0, len(x), 7):
        small.add({"x": x[start : start + 7]}, {}, len(x[start : start + 7]))
    assert whole.slots() == small.slots()
    assert len(x) > GATHERED_ROWS
    slots = whole.slots()[0]
    assert sum(slots) == len(x) == whole.rows
    assert (slots[0], slots[-2], slots[-1]) == (60 * 2, 60 * 3, 60)  # -99 -inf; the top edge, 99, inf; NaN
    assert whole.slots()[4][-1] == len(x)  # an output that was not computed


def test_a_number_of_few_values_has_a_bin_for_each() -> None:
    columns = {"x[0]": np.repeat([0.0, 1.0, 5.0], 40)}
    feature = build(columns, source="", made_at_s=0.0).features[0]
    assert feature.counts == (0, 40, 40, 40, 0, 0)


def test_doubles_of_a_file_are_in_range_when_they_come_back_as_floats() -> None:
    values = np.random.default_rng(3).random(1_000) * 0.1
    reference = bound(build({"x[0]": values}, source="", made_at_s=0.0))
    counter = Counter(reference)
    counter.add({"x": values.astype(np.float32)[:, None]}, {}, 1_000)
    assert counter.slots()[0] == reference.features[0].counts


def test_text_becomes_categories_or_length_and_script() -> None:
    signature = Signature((TensorSpec("kind", "BYTES", (-1,)), TensorSpec("said", "BYTES", (-1, 1))))
    kinds = np.array(["red", "blue", ""] * 40, object)
    said = np.array([f"sentence number {at}" for at in range(60)] + [f"предложение {at}" for at in range(60)], object)
    reference = bound(build({"kind": kinds, "said": said}, source="", made_at_s=0.0), signature)
    assert [one.name for one in reference.features] == ["kind", "said.length", "said.script"]
    assert reference.features[0].values == ("blue", "red")
    assert reference.features[0].counts == (0, 40, 40, 0, 40)
    assert reference.features[2].values == ("cyrillic", "latin")
    counter = Counter(reference)
    live = {"kind": np.array([b"red", b"green", b""], object), "said": np.array([[b"\xff"], [b"hi"], ["你好"]], object)}
    counter.add(live, {}, 3)
    assert counter.slots()[0] == (0, 0, 1, 1, 1)
    assert counter.slots()[2] == (0, 0, 1, 2, 0)


def test_the_drawn_null_scores_as_the_core_does() -> None:
    rng = np.random.default_rng(0)
    expected, seen = rng.dirichlet(np.ones(8)), rng.dirichlet(np.ones(8), 5)
    assert psi_rows(expected, seen) == pytest.approx([psi(expected, one) for one in seen])


def test_the_same_rows_make_the_same_reference() -> None:
    assert msgspec.json.encode(made()) == msgspec.json.encode(made())


def test_columns_are_the_models_by_name_or_by_their_order_and_others_are_told() -> None:
    rng = np.random.default_rng(0)
    named = {name: rng.random(100) for name in ("age", "income", "y[1]", "tenure", "score")}
    placed = bound(build(named, source="", made_at_s=0.0))
    where = [(one.name, one.side, one.tensor, one.index) for one in placed.features]
    assert where[0] == ("age", "input", "x", 0)
    assert where[2:] == [("tenure", "input", "x", 2), ("score", "input", "x", 3), ("y[1]", "output", "y", 1)]
    del named["age"]
    fewer = build(named, source="", made_at_s=0.0)
    assert "3 columns, 'income' first, are none of the model's (x, y)" in str(bind(fewer, SIGNATURE))
    assert isinstance(bind(placed, Signature((TensorSpec("x", "FP32", (-1, -1)),))), Misplaced)
    with pytest.raises(InvalidInput, match="50 rows or more, not 49"):
        build({"x[0]": np.zeros(49)}, source="", made_at_s=0.0)


@pytest.mark.parametrize(
    ("find", "put"),
    [
        ('"index":0', '"index":-1'),
        ('"edges":[', '"edges":[1e9,'),
        ('"counts":[', '"counts":[-1,'),
        ('"format":1', '"format":2'),
        ('"rows":[100', '"rows":[1000'),
        ('"name":"x[1]"', '"name":"x[0]"'),
        ('"sd":', '"more":1,"sd":'),
    ],
)
def test_a_reference_that_was_tampered_with_is_refused(find: str, put: str) -> None:
    text = msgspec.json.encode(made()).decode()
    assert find in text
    with pytest.raises(ValueError, match="not a reference"):
        decode_reference(text.replace(find, put).encode())


def test_a_reference_that_is_too_large_or_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 524288 bytes"):
        decode_reference(b" " * (REFERENCE_BYTES_MAX + 1))
    with pytest.raises(ValueError, match="not a reference"):
        decode_reference(b"\xff\x00")


def test_rows_are_read_from_csv_json_and_npz_alike(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("age,kind\n1,x\n,y\nNaN,\n")
    (tmp_path / "a.jsonl").write_text('{"age":1,"kind":"x"}\n{"age":null,"kind":"y"}\n{"kind":null}\n')
    for name in ("a.csv", "a.jsonl"):
        columns = files.read(tmp_path / name)
        assert columns["age"] == pytest.approx([1.0, np.nan, np.nan], nan_ok=True)
        assert list(columns["kind"]) == ["x", "y", ""]
    np.savez(tmp_path / "a.npz", x=np.arange(6).reshape(3, 2), kind=np.array(["a", "b", "c"]))
    columns = files.read(tmp_path / "a.npz")
    assert list(columns) == ["x[0]", "x[1]", "kind"]
    assert list(columns["x[1]"]) == [1.0, 3.0, 5.0]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"", "need names"),
        ("a.csv", b"a,a\n1,2\n", "each another one"),
        ("a.csv", b"a,b\n1\n", "line 2 has 1 values, the header 2"),
        ("a.csv", b"\x00\xff\xfe", "cannot be read"),
        ("a.csv", b"a\n", "has no rows"),
        ("a.csv", ",".join(f"c{at}" for at in range(257)).encode() + b"\n", "257 columns are more than 256"),
        ("a.json", b"[" * 100_000, "cannot be read"),
        ("a.json", b'[{"a":1},{"b":1}]', "row 2 has 'b'"),
        ("a.npz", b"PK\x03\x04 no", "cannot be read"),
        ("a.parquet", b"", "none of .csv"),
    ],
)
def test_hostile_rows_are_refused_with_what_is_wrong(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=words):
        files.read(tmp_path / name)


def test_arrays_with_pickled_objects_are_never_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], object))
    with pytest.raises(InvalidInput, match="cannot be read"):
        files.read(tmp_path / "a.npz")
    with pytest.raises(NotFound):
        files.read(tmp_path / "b.npz")
