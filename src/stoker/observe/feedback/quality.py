"""How good an endpoint's predictions were, by segment, revision and time; and what to expect of those without label."""

from collections.abc import Callable, Sequence
from typing import Final, cast

import msgspec

from stoker.client.views import QualityPart, QualityView
from stoker.observe.feedback.store import FeedbackStore
from stoker.types.feedback import PredictionKind

PARTS_MAX: Final = 50  # segments and revisions shown, those with the most predictions
WINDOWS: Final = 24
ROWS_MAX: Final = 5_000  # the newest, to calibrate by and to estimate
LABELS_MIN: Final = 400  # with a confidence; half of them check what the other half calibrates
RIGHT: Final = 0.5  # the least score that is a right answer
_SUMS: Final = "count(*), count(labelled), avg(score), avg(error)"
_WHERE: Final = "FROM predictions WHERE project = ? AND endpoint = ? AND at > ? AND at <= ?"

_KNOWN: Final = """SELECT confidence, score FROM predictions WHERE project = ? AND endpoint = ?
  AND confidence IS NOT NULL AND score IS NOT NULL ORDER BY at DESC LIMIT ?"""
_WAITING: Final = f"SELECT confidence {_WHERE} AND confidence IS NOT NULL AND labelled IS NULL ORDER BY at DESC LIMIT ?"


class Estimated(msgspec.Struct, frozen=True):
    """See QualityView."""

    accuracy: float | None = None
    rows: int = 0
    error: float | None = None
    by_chance: float | None = None
    because: str = ""


# Of (confidence, is it right) and of the confidences of what has no label: observe/feedback/expected.py, which takes
# a library that control does not need to start.
Expect = Callable[[Sequence[tuple[float, bool]], Sequence[float]], Estimated]


def quality(
    store: FeedbackStore, expect: Expect, key: tuple[str, str], kind: PredictionKind, window_s: float, now_s: float
) -> QualityView:
    """Return how good the predictions of the window were. May take seconds. Raises Unavailable."""
    span = (*key, now_s - window_s, now_s)
    whole = _part(("", *store.read(f"SELECT {_SUMS} {_WHERE}", span)[0]))
    by_segment, by_revision = (
        tuple(
            _part(row)
            for row in store.read(
                f"SELECT {column}, {_SUMS} {_WHERE} GROUP BY 1 ORDER BY 2 DESC LIMIT {PARTS_MAX}", span
            )
        )
        for column in ("segment", "revision")
    )
    hope = estimated(store, expect, key, kind, window_s, now_s)
    return QualityView(
        project=key[0],
        endpoint=key[1],
        kind=kind,
        window_s=window_s,
        whole=whole,
        estimated=hope.accuracy,
        estimated_rows=hope.rows,
        calibration_error=hope.error,
        by_chance=hope.by_chance,
        because=hope.because,
        segments=by_segment if by_segment != (whole,) else (),
        revisions=by_revision,
        windows=_windows(store, span, window_s),
    )


def _windows(store: FeedbackStore, span: tuple[str, str, float, float], window_s: float) -> tuple[QualityPart, ...]:
    """Return the parts of the window, oldest first; empty ones too."""
    step_s, start_s = window_s / WINDOWS, span[2]
    rows = store.read(
        f"SELECT min(CAST((at - ?) / ? AS INTEGER), {WINDOWS - 1}), {_SUMS} {_WHERE} GROUP BY 1",
        (start_s, step_s, *span),
    )
    found = {cast(int, row[0]): _part(("", *row[1:]), start_s + cast(int, row[0]) * step_s) for row in rows}
    return tuple(found.get(at, QualityPart(start_s=start_s + at * step_s)) for at in range(WINDOWS))


def _part(row: Sequence[object], start_s: float = 0.0) -> QualityPart:
    name, predictions, labelled, accuracy, mae = row
    return QualityPart(
        cast(str, name),
        start_s,
        cast(int, predictions),
        cast(int, labelled),
        cast("float | None", accuracy),
        cast("float | None", mae),
    )


def estimated(
    store: FeedbackStore, expect: Expect, key: tuple[str, str], kind: PredictionKind, window_s: float, now_s: float
) -> Estimated:
    """Return the accuracy to expect of the window's predictions without a label (CBPE), or why it cannot be told.

    Labels of any age calibrate: how right a model is when it is so sure belongs to the model, not to the hour.
    Raises Unavailable.
    """
    if kind != "classification":
        return Estimated(because="only the accuracy of classes can be estimated")
    known = cast(list[tuple[float, float]], store.read(_KNOWN, (*key, ROWS_MAX)))
    waiting = cast(list[tuple[float]], store.read(_WAITING, (*key, now_s - window_s, now_s, ROWS_MAX)))
    if len(known) < LABELS_MIN:
        return Estimated(because=f"{len(known)} labels of predictions with probabilities; {LABELS_MIN} are needed")
    if not waiting:
        return Estimated(because="no prediction with probabilities waits for its label")
    return expect([(sure, score >= RIGHT) for sure, score in known], [sure for (sure,) in waiting])
