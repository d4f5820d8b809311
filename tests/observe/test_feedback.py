"""Predictions and labels in the file: joined once whatever the order, bounded, and of no harm when they are lost."""

import sqlite3
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.core.feedback import Label
from stoker.observe.feedback import store as stores
from stoker.observe.feedback.expected import expected
from stoker.observe.feedback.quality import LABELS_MIN, estimated, quality
from stoker.observe.feedback.store import EARLY_S, FeedbackStore, Joined, Source
from stoker.observe.objectives.slis import source
from stoker.types.errors import Unavailable
from stoker.types.feedback import Prediction
from stoker.types.slos import Objective
from tests.observe.rig import Counting, Rig

KEY = ("default", "a")
NOW_S = 1_000_000.0
SOURCE = Source(*KEY, "default.a-1", 86_400.0, 10_000)


def said(id_: str, words: str | float = "1", confidence: float | None = None, segment: str = "") -> Prediction:
    return Prediction(id_, NOW_S, words, confidence, segment)


def label(id_: str, given_: str | float = "1", at_s: float = NOW_S, how: str = "label") -> Label:
    return Label(id_, how, given_, at_s)  # type: ignore[arg-type]


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("predict"), st.integers(0, 3), st.integers(1, 2)),
        st.tuples(st.just("label"), st.integers(0, 3), st.integers(0, 4)),
        st.just(("restart", 0, 0)),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_in_any_order_with_repeats_and_restarts_each_label_counts_once_and_the_latest_stays(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int, int]]
) -> None:
    path = tmp_path_factory.mktemp("f") / "feedback.db"
    store = FeedbackStore(path)
    joined: list[Joined] = []
    predicted: set[tuple[int, int]] = set()
    latest: dict[int, int] = {}
    for kind, which, what in events:
        if kind == "predict":
            revision = SOURCE._replace(revision=f"r{what}")
            joined += store.put(revision, [said(str(which))], NOW_S)
            predicted.add((which, what))
        elif kind == "label":  # what was known at the moment `what`: even is right, odd is wrong
            outcomes, first = store.label("default", [label(str(which), str(1 + what % 2), NOW_S + what)], NOW_S)
            assert (outcomes == ["unknown"]) == all(one != which for one, _ in predicted)
            joined += first
            latest[which] = max(latest.get(which, what), what)
        else:
            store.close()
            store = FeedbackStore(path)
    rows = store.read("SELECT id, revision, score FROM predictions ORDER BY id, revision", ())
    store.close()
    wanted = [
        (str(which), f"r{revision}", float(latest[which] % 2 == 0) if which in latest else None)
        for which, revision in sorted(predicted)
    ]
    assert rows == wanted
    assert len(joined) == sum(score is not None for *_, score in wanted)


def test_a_label_that_comes_first_waits_a_minute_and_no_longer(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f.db")
    assert store.label("default", [label("a"), label("b")], NOW_S)[0] == ["unknown", "unknown"]
    assert len(store.put(SOURCE, [said("a")], NOW_S + EARLY_S - 1)) == 1
    assert store.put(SOURCE, [said("b")], NOW_S + EARLY_S) == []
    assert store.label("other", [label("a")], NOW_S)[0] == ["unknown"]  # of another project
    store.close()


def test_labels_that_wait_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "EARLY_MAX", 5)
    store = FeedbackStore(tmp_path / "f.db")
    store.label("default", [label(str(at)) for at in range(20)], NOW_S)
    assert store.read("SELECT count(*) FROM early", ()) == [(5,)]
    store.label("default", [label("later")], NOW_S + EARLY_S)
    assert store.read("SELECT id FROM early", ()) == [("later",)]
    store.close()


def test_the_newest_predictions_are_kept_up_to_the_maximum_and_the_time(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f.db")
    few = SOURCE._replace(max=100)
    for start in range(0, 1_000, 10):
        store.put(few, [Prediction(str(at), NOW_S + at, "1") for at in range(start, start + 10)], NOW_S)
        assert store.read("SELECT count(*) FROM predictions", ())[0][0] <= 111  # type: ignore[operator]
    assert store.read("SELECT count(*) FROM predictions WHERE id >= 900 AND length(id) = 3", ()) == [(100,)]
    store.put(few, [], NOW_S + 86_400 + 999)
    assert store.read("SELECT count(*) FROM predictions", ()) == [(1,)]
    store.sweep({KEY})
    assert store.read("SELECT count(*) FROM predictions", ()) == [(1,)]
    store.sweep(set())
    assert store.read("SELECT count(*) FROM predictions", ()) == [(0,)]
    store.close()


def test_a_broken_file_is_moved_aside_and_a_new_one_begun(tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    path.write_bytes(b"no database" * 1_000)
    store = FeedbackStore(path)
    store.put(SOURCE, [said("a")], NOW_S)
    assert len(list(tmp_path.glob("feedback.db.broken-*"))) == 1
    store.close()
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 99")
    other.close()
    store = FeedbackStore(path)
    assert store.read("SELECT count(*) FROM predictions", ()) == [(0,)]
    store.close()


def test_a_full_file_says_so_once_and_goes_on_without_its_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stoker.observe.feedback.tables.BYTES_MAX", 50 * 4096)
    store = FeedbackStore(tmp_path / "f.db")
    is_full = False
    for start in range(0, 4_000, 100):
        batch = [Prediction(f"{at:060}", NOW_S + at, "1") for at in range(start, start + 100)]
        for _ in range(10):  # whoever asks again finds room: each refusal makes some
            try:
                store.put(SOURCE, batch, NOW_S)
            except Unavailable:
                is_full = True
            else:
                break
        else:
            pytest.fail(f"no room for {start} after ten refusals")
    assert is_full
    newest, count = store.read("SELECT max(id), count(*) FROM predictions", ())[0]
    assert newest == f"{3_999:060}"
    assert count > 500  # type: ignore[operator]
    store.close()


def test_quality_is_told_by_segment_revision_and_time(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f.db")
    for revision, segment, right in (("r1", "eu", 3), ("r2", "us", 1)):
        rows = [said(f"{segment}{at}", segment=segment) for at in range(4)]
        store.put(SOURCE._replace(revision=revision), rows, NOW_S)
        store.label("default", [label(f"{segment}{at}", "1" if at < right else "0") for at in range(4)], NOW_S)
    store.put(SOURCE, [said("waits", segment="eu")], NOW_S)
    view = quality(store, expected, KEY, "classification", 86_400.0, NOW_S)
    assert (view.whole.predictions, view.whole.labelled, view.whole.accuracy) == (9, 8, 0.5)
    assert [(one.name, one.predictions, one.accuracy) for one in view.segments] == [("eu", 5, 0.75), ("us", 4, 0.25)]
    assert {one.name: one.accuracy for one in view.revisions} == {"r1": 0.75, "r2": 0.25, "default.a-1": None}
    assert [one.predictions for one in view.windows] == [0] * 23 + [9]
    store.put(SOURCE._replace(endpoint="price"), [said("p", 2.5)], NOW_S)
    store.label("default", [label("p", 2.0, how="value")], NOW_S)
    price = quality(store, expected, ("default", "price"), "regression", 60.0, NOW_S).whole
    assert (price.accuracy, price.mae) == (None, 0.5)
    store.close()


def filled(store: FeedbackStore, count: int, seed: int = 0) -> float:
    """Fill in a model that is right less often than it says; return how often it is, of the rows without a label."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1.0, count)
    is_right = rng.random(count) < confidence - 0.2
    rows = [Prediction(f"r{at}", NOW_S + at / count, "1", float(confidence[at])) for at in range(count)]
    store.put(SOURCE, rows, NOW_S)
    labels = [label(f"r{at}", str(int(is_right[at]))) for at in range(0, count, 2)]
    store.label("default", labels, NOW_S)
    return float(is_right[1::2].mean())


def test_the_accuracy_of_what_has_no_label_is_estimated_through_the_labels_there_are(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f.db")
    true = filled(store, 4_000)
    found = estimated(store, expected, KEY, "classification", 3600.0, NOW_S + 1)
    assert found.rows == 2_000
    assert found.accuracy == pytest.approx(true, abs=0.05)  # three standard errors of 2,000 rows; it says 0.75 itself
    store.close()


def test_why_nothing_is_estimated_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeedbackStore(tmp_path / "f.db")
    assert "only the accuracy of classes" in estimated(store, expected, KEY, "regression", 3600.0, NOW_S + 1).because
    filled(store, LABELS_MIN)
    assert f"{LABELS_MIN // 2} labels" in estimated(store, expected, KEY, "classification", 3600.0, NOW_S + 1).because
    filled(store, 4_000)
    monkeypatch.setattr("stoker.observe.feedback.expected.ERROR_MAX", -1.0)
    found = estimated(store, expected, KEY, "classification", 3600.0, NOW_S + 1)
    assert (found.accuracy, found.because.split()[:3]) == (None, ["the", "calibration", "is"])
    store.close()


def test_a_confidence_that_says_the_opposite_of_later_is_not_relied_on(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f.db")
    rows = [Prediction(f"r{at}", NOW_S + at / 2_000, "1", 0.6 + 0.3 * (at // 2 % 2)) for at in range(2_000)]
    store.put(SOURCE, rows, NOW_S)
    # Of the even rows the sure ones are right, of the odd ones the others: what one half tells is false of the other.
    labels = [label(f"r{at}", str(int((at // 2 % 2) == (at % 2)))) for at in range(1_800)]
    store.label("default", labels, NOW_S)
    found = estimated(store, expected, KEY, "classification", 3600.0, NOW_S + 1)
    assert found.accuracy is None
    assert "held out" in found.because
    store.close()


@pytest.mark.parametrize(("at_least", "good"), [(1.0, 2), (0.5, 4), (0.25, 5), (0.1, 5)])
def test_a_quality_objective_counts_the_scores_from_its_limit_on_as_good(
    tmp_path: Path, at_least: float, good: int
) -> None:
    process = Counting("control")
    whose = {"project": KEY[0], "endpoint": KEY[1]}
    scores = process.registry.histogram("stoker_prediction_score_ratio", segment="eu", **whose)
    others = process.registry.histogram("stoker_prediction_score_ratio", segment="us", **whose)
    rig = Rig(tmp_path / "m.db")
    rig.tick(process)
    for score in (0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0):
        scores.observe(score)
    others.observe(0.0)
    rig.tick(process)
    promise = Objective(name="good", target=0.9, sli="quality", at_least=at_least, segment="eu")
    found = source(*KEY, promise, {}, 0.0)
    every = source(*KEY, msgspec.structs.replace(promise, segment=""), {}, 0.0)
    asked = [found.total, *found.parts, every.total, *every.parts]
    (total,), (bad,), (all_total,), (all_bad,) = rig.run(rig.history.sums(asked, [300.0]))
    assert (all_total, all_bad) == (total + 1, bad + 1)
    rig.run(rig.history.close())
    rig.loop.close()
    assert (found.parts_are_good, total, total - bad) == (False, 7, good)
