"""What a predict model said of each row, kept until control has it, for labels that come later.

Nothing is kept until control asks, nor when it has not asked for LAPSE_S. What control has stored it acknowledges with
its next question; what it never takes is dropped, the oldest first, and counted.
"""

import math
import secrets
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stoker.core.feedback import class_text
from stoker.protocol.frames import RequestHead
from stoker.types.feedback import HANDED_MAX, ROWS_MAX, SEGMENT_MAX, Demand, Handover, Prediction, Wish
from stoker.types.models import Signature

KEPT_MAX: Final = 20_000  # predictions, some 5 MB
LAPSE_S: Final = 3600.0  # a control that is down this long is not waited for
SUM_SLACK: Final = 1e-3  # of rows of probabilities, in float16 too

Arrays = Mapping[str, NDArray[Any]]


class Rows(NamedTuple):
    """The rows `start` to `start + rows` of an engine call are those from `first` on of the request `id`.

    segment: None of a request that came before predictions were kept; it is not kept either.
    """

    id: str
    segment: str | None
    first: int
    start: int
    rows: int


class Predictions:
    """One model's predictions. All in one thread."""

    def __init__(self, signature: Signature, *, batches: bool, cuts: bool = False) -> None:
        self.is_on = False
        self._parameter = ""  # of a request, that says its segment
        self._signature = signature
        self._batches = batches
        self._cuts = cuts  # outputs of a batch are longer than each request's own
        self._wish: Wish | None = None
        self._asked_s = 0.0
        self._begin()

    def segment_of(self, head: RequestHead, body: bytes) -> str | None:
        """Return what a request says of its segment: its header, else the parameter that control named.

        None while nothing is kept: what is in flight when that begins was not read for it.
        """
        if not self.is_on:
            return None
        if head.segment or not self._parameter:
            return head.segment[:SEGMENT_MAX]
        return _parameter(body if head.header_bytes < 0 else body[: head.header_bytes], self._parameter)

    def add(self, outputs: Arrays, requests: list[Rows]) -> None:
        """Keep what one engine call said. Requests that did not ask for the output leave nothing."""
        if time.monotonic() - self._asked_s > LAPSE_S:
            self.is_on = False
            self._begin()
            return
        wish = self._wish
        assert wish is not None
        array = outputs.get(wish.output or next((one.name for one in self._signature.outputs), ""))
        if array is None or array.size == 0:
            self._dropped += sum(one.rows for one in requests)
            return
        said = _said(self._rows(array), wish.kind, [self._rows(one) for one in outputs.values() if one is not array])
        if said is None:
            self._dropped += sum(one.rows for one in requests)
            return
        self._keep(said, requests)

    def answer(self, demand: Demand) -> Handover:
        """Do what control asks; return what it has not stored yet."""
        self._asked_s = time.monotonic()
        if demand.wish != self._wish:
            self._wish = demand.wish
            self._begin()
        self._parameter = demand.wish.segment if demand.wish is not None else ""
        problem = self._problem()
        self.is_on = demand.wish is not None and not problem
        if problem or not self.is_on:
            return Handover(problem=problem)
        if demand.since == self._since:
            while self._kept and self._first < demand.taken:
                self._kept.popleft()
                self._first += 1
        handed = tuple(self._kept[at] for at in range(min(len(self._kept), HANDED_MAX)))
        return Handover(self._since, self._first, handed, self._dropped)

    def _begin(self) -> None:
        self._kept: deque[Prediction] = deque()
        self._since = secrets.token_hex(4)
        self._first = 0
        self._dropped = 0

    def _problem(self) -> str:
        if self._wish is None:
            return ""
        known = [one.name for one in self._signature.outputs]
        if self._wish.output and self._wish.output not in known:
            return f"the model has no output {self._wish.output!r}; it has {', '.join(known)}"
        return "outputs that are padded are not read" if self._cuts else ""

    def _keep(self, said: list[tuple[str | float, float | None]], requests: list[Rows]) -> None:
        at_s = round(time.time(), 3)
        for id_, segment, first, start, rows in requests:
            if segment is None:
                continue
            kept = min(rows, max(ROWS_MAX - first, 0), len(said) - start)
            self._dropped += rows - kept
            for row in range(kept):
                number = first + row
                words, confidence = said[start + row]
                if isinstance(words, float) and not math.isfinite(words):
                    self._dropped += 1
                    continue
                one = Prediction(f"{id_}#{number}" if number else id_, at_s, words, confidence, segment)
                self._kept.append(one)
        while len(self._kept) > KEPT_MAX:
            self._kept.popleft()
            self._first += 1
            self._dropped += 1

    def _rows(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return `array` as [row, value]."""
        rows = len(array) if self._batches and array.ndim else 1
        return array.reshape(rows, -1)


def _said(array: NDArray[Any], kind: str, others: list[NDArray[Any]]) -> list[tuple[str | float, float | None]] | None:
    """Return what was said of each row and the confidence in it; None when the output is nothing of the kind.

    Classes are the largest of a row's values; a single whole number or text; or, of a single fraction, 0 or 1 with
    that as the probability of 1. The confidence of a class without one is that of another output that gives
    probabilities.
    """
    is_number = array.dtype.kind in "fiub"
    if kind == "regression":
        if not is_number or array.shape[1] != 1:
            return None
        return [(value, None) for value in array[:, 0].astype(np.float64).tolist()]
    if array.shape[1] > 1:
        if not is_number:
            return None
        classes = [str(at) for at in array.argmax(axis=1).tolist()]
        return list(zip(classes, _confidences([array], len(array)), strict=True))
    return [
        _single(value, confidence)
        for value, confidence in zip(array[:, 0].tolist(), _confidences(others, len(array)), strict=True)
    ]


def _single(value: Any, confidence: float | None) -> tuple[str, float | None]:
    if isinstance(value, float) and 0 < value < 1:
        return str(int(value >= 0.5)), max(value, 1 - value)
    return class_text(value.decode("utf-8", "replace") if isinstance(value, bytes) else value), confidence


def _confidences(arrays: list[NDArray[Any]], rows: int) -> list[float | None]:
    """Return the largest of each row of the first array whose rows are probabilities; None for each without one."""
    for one in arrays:
        if one.dtype.kind != "f" or one.shape[0] != rows or one.shape[1] < 2:
            continue
        values = one.astype(np.float64)
        if (values >= 0).all() and (np.abs(values.sum(axis=1) - 1) <= SUM_SLACK).all():
            return [min(chance, 1.0) for chance in values.max(axis=1).tolist()]
    return [None] * rows


def _parameter(head: bytes, name: str) -> str:
    """Return the parameter `name` of an infer request's JSON, "" when it has none that could name a segment."""
    if b'"parameters"' not in head:
        return ""
    try:
        value = msgspec.json.decode(head, type=_Parameters).parameters.get(name, "")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return str(value)[:SEGMENT_MAX] if isinstance(value, str | int | float) else ""


class _Parameters(msgspec.Struct):
    parameters: dict[str, Any] = {}
