"""What a predict model said of each row, kept until control has it, for labels that come later.

Nothing is kept until control asks, nor when it has not asked for LAPSE_S. What control has stored it acknowledges with
its next question; what it never takes is dropped, the oldest first, and counted.

The path of a request only holds what came out; it is read GATHERED_ROWS at a time, or when control asks.
"""

import math
import secrets
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
from numpy.typing import NDArray

from stoker.protocol.frames import RequestHead
from stoker.runtime import said
from stoker.types.feedback import HANDED_MAX, ROWS_MAX, SEGMENT_MAX, Demand, Handover, Prediction, Wish
from stoker.types.models import Signature

KEPT_MAX: Final = 20_000  # predictions, some 5 MB
LAPSE_S: Final = 3600.0  # a control that is down this long is not waited for
GATHERED_ROWS: Final = 256  # are read together; it takes 0.5 ms
GATHERED_BYTES: Final = 1 << 20  # of outputs that are held until then

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


class _Call(NamedTuple):
    """What came out of one engine call, unread."""

    arrays: list[NDArray[Any]]
    requests: list[Rows]
    rows: int
    at_s: float  # unix time


class Predictions:
    """One model's predictions. All in one thread."""

    def __init__(self, signature: Signature, *, batches: bool, cuts: bool = False) -> None:
        self.is_on = False
        self._parameter = ""  # of a request, that says its segment
        self._signature = signature
        self._batches = batches
        self._cuts = cuts  # outputs of a batch are longer than each request's own
        self._wish: Wish | None = None
        self._read: tuple[str, ...] = ()
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
        arrays = [outputs[name] for name in self._read if name in outputs]
        rows = requests[0].rows if len(requests) == 1 else sum([one.rows for one in requests])
        if self._read[0] not in outputs or arrays[0].size == 0:
            self._dropped += rows
            return
        size_bytes = sum([_bytes_of(array) for array in arrays])
        is_large = size_bytes > GATHERED_BYTES or rows >= GATHERED_ROWS
        # Copies: an engine may write its next answer where the last one was.
        held = arrays if is_large else [array.copy() for array in arrays]
        self._gathered.append(_Call(held, requests, rows, time.time()))
        self._gathered_rows += rows
        self._gathered_bytes += size_bytes
        if self._gathered_rows >= GATHERED_ROWS or self._gathered_bytes > GATHERED_BYTES:
            self._take_in()

    def answer(self, demand: Demand) -> Handover:
        """Do what control asks; return what it has not stored yet."""
        self._asked_s = time.monotonic()
        if demand.wish != self._wish:
            self._wish = demand.wish
            self._begin()
        else:
            self._take_in()
        self._parameter = demand.wish.segment if demand.wish is not None else ""
        problem = self._problem()
        self.is_on = demand.wish is not None and not problem
        self._read = self._outputs()
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
        self._forget_gathered()

    def _forget_gathered(self) -> None:
        self._gathered: list[_Call] = []
        self._gathered_rows = 0
        self._gathered_bytes = 0

    def _outputs(self) -> tuple[str, ...]:
        """Return the outputs that are read, first the one that says it; others may say how sure it is."""
        names = [one.name for one in self._signature.outputs]
        if self._wish is None:
            return ()
        first = self._wish.output or next(iter(names), "")
        return (first,) if self._wish.kind == "regression" else (first, *(name for name in names if name != first))

    def _take_in(self) -> None:
        """Read what was gathered."""
        calls, wish = self._gathered, self._wish
        self._forget_gathered()
        if not calls or wish is None:
            return
        found = said.of_calls([call.arrays for call in calls], wish.kind, batches=self._batches)
        for call, words in zip(calls, found, strict=True):
            if words is None:
                self._dropped += call.rows
            else:
                self._keep(words, call.requests, round(call.at_s, 3))
        while len(self._kept) > KEPT_MAX:
            self._kept.popleft()
            self._first += 1
            self._dropped += 1

    def _problem(self) -> str:
        if self._wish is None:
            return ""
        known = [one.name for one in self._signature.outputs]
        if self._wish.output and self._wish.output not in known:
            return f"the model has no output {self._wish.output!r}; it has {', '.join(known)}"
        return "outputs that are padded are not read" if self._cuts else ""

    def _keep(self, words: said.Said, requests: list[Rows], at_s: float) -> None:
        for id_, segment, first, start, rows in requests:
            if segment is None:
                continue
            kept = min(rows, max(ROWS_MAX - first, 0), len(words) - start)
            self._dropped += rows - kept
            for row in range(kept):
                number = first + row
                told, confidence = words[start + row]
                if isinstance(told, float) and not math.isfinite(told):
                    self._dropped += 1
                    continue
                one = Prediction(f"{id_}#{number}" if number else id_, at_s, told, confidence, segment)
                self._kept.append(one)


def _bytes_of(array: NDArray[Any]) -> int:
    return sum(map(len, array.flat)) if array.dtype.hasobject else array.nbytes


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
