"""What a model sees and says, counted against a reference while control wants it, or gathered for a new one.

Nothing is counted until control asks; then every engine call is, in the event loop, behind its answers.
"""

import random
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stoker.core.drawn import SLICE_MAX
from stoker.core.reference import names
from stoker.telemetry.slots import ROWS_A_CALL, Counter
from stoker.telemetry.vectors import Drawer
from stoker.types.drift import SAMPLE_MAX, Answer, Counts, Plane, Question, Reference
from stoker.types.errors import InvalidInput
from stoker.types.models import Signature, TensorSpec

GATHER_MAX: Final = 5_000  # rows
TEXT_COLUMNS_MAX: Final = 16
TEXT_MAX: Final = 1_000  # characters of a gathered text

Arrays = Mapping[str, NDArray[Any]]


class Watch:
    """One model's counts. All in one thread.

    Args:
        planes: where vectors are, of known width.
    """

    def __init__(self, signature: Signature, *, batches: bool, planes: Sequence[Plane] = ()) -> None:
        self.is_on = False
        self._signature = signature
        self._planes = {one.name: one.width for one in planes}
        self._watchable = frozenset(one.name for one in signature.inputs if names(one))
        self._batches = batches
        self._digest = ""
        self._since = ""
        self._refused = 0
        self._reference: Reference | None = None
        self._sides: tuple[Counter | None, Counter | None] = (None, None)
        self._drawers: dict[str, Drawer] = {}
        self._sample: Sample | None = None
        self._gathered: dict[str, Drawer] = {}

    def held(self, inputs: Arrays) -> Arrays:
        """Return copies of the inputs that may be watched: a model may change its inputs in place."""
        return {name: array[:ROWS_A_CALL].copy() for name, array in inputs.items() if name in self._watchable}

    def seen(self, inputs: Arrays, outputs: Arrays, rows: int) -> None:
        """Count one engine call. Outputs that nobody asked the engine for are not counted as missing."""
        for_inputs, for_outputs = self._sides
        if for_inputs is not None:
            for_inputs.add(inputs, outputs, rows)
        if for_outputs is not None and for_outputs.tensors <= outputs.keys():
            for_outputs.add(inputs, outputs, rows)
        for drawers in (self._drawers, self._gathered):
            for name, drawer in drawers.items():
                vectors = outputs[name] if name in outputs else inputs.get(name)
                if vectors is not None and vectors.ndim == 2 and vectors.shape[1] == self._planes[name]:
                    drawer.add(vectors)
        if self._sample is not None:
            self._sample.add(inputs, outputs, rows)

    def refuse(self) -> None:
        """Count a request that does not fit the signature."""
        self._refused += 1

    def answer(self, question: Question) -> Answer:
        """Do what control asks, and return what there is."""
        if not self._batches:
            return Answer(problem="the engine takes no batches, so rows cannot be told apart")
        found = self._gather(question)
        if question.reference != self._digest or not question.reference:
            wrong = self._begin(question)
            if wrong:
                found = msgspec.structs.replace(found, problem=wrong)
        self.is_on = self._reference is not None or self._sample is not None
        known = self._reference is not None and self._digest == question.reference
        return msgspec.structs.replace(found, counts=self._counts() if known else None)

    def _gather(self, question: Question) -> Answer:
        """Begin, go on or end to gather, and return what was gathered if that is asked."""
        sample, answer = self._sample, Answer()
        if question.take and sample is not None:
            vectors = {name: drawer.take() for name, drawer in self._gathered.items()}
            answer = Answer(columns=sample.columns(), vectors=vectors, widths=dict(self._planes))
        if not question.gather:
            self._sample, self._gathered = None, {}
        elif sample is None or sample.rows_max != min(question.gather, GATHER_MAX):
            self._sample = Sample(self._signature, min(question.gather, GATHER_MAX))
            most = min(question.gather, SAMPLE_MAX)
            self._gathered = {name: Drawer(width, question.seed, most) for name, width in self._planes.items()}
        return answer

    def _begin(self, question: Question) -> str:
        """Count anew, against what the question brings; return why not, if so."""
        self._reference, self._sides, self._digest, self._drawers = None, (None, None), "", {}
        if question.body is None:
            return ""
        for one in question.body.spaces:
            if self._planes.get(one.name) != one.width:
                has = self._planes.get(one.name, 0)
                return f"the reference has vectors {one.name!r} of {one.width} values, this model of {has}"
        self._reference, self._digest = question.body, question.reference
        self._since, self._refused = secrets.token_hex(4), 0
        self._sides = (_counter(question.body, "input"), _counter(question.body, "output"))
        self._drawers = {one.name: Drawer(one.width, one.seed, SLICE_MAX) for one in question.body.spaces}
        return ""

    def _counts(self) -> Counts:
        """Return the counts; inputs stand before outputs in a bound reference, as here."""
        given = [one for one in self._sides if one is not None]
        slots = tuple(slots for one in given for slots in one.slots())
        drawn = tuple(one.take() for one in self._drawers.values())
        rows = given[0].rows if given else sum(one.rows for one in drawn[:1])
        return Counts(self._since, rows, self._refused, slots, drawn)


def asked(body: bytes) -> Question:
    """Return the question in the body of a CALL. Raises InvalidInput."""
    try:
        return msgspec.msgpack.decode(body, type=Question)
    except (msgspec.DecodeError, ValueError) as odd:
        raise InvalidInput(f"no question about drift: {odd}") from odd


class Sample:
    """Rows drawn evenly from all that pass (reservoir, Vitter 1985), as columns of the model's tensors."""

    def __init__(self, signature: Signature, rows_max: int) -> None:
        self.rows_max = rows_max
        self._seen = 0
        self._kept: dict[tuple[str, str], NDArray[Any]] = {}
        self._names: dict[tuple[str, str], list[str]] = {}
        texts = 0
        for side, tensors in (("input", signature.inputs), ("output", signature.outputs)):
            for one in tensors:
                columns = names(one)
                is_text = one.datatype == "BYTES"
                texts += len(columns) if is_text else 0
                if columns and not (is_text and texts > TEXT_COLUMNS_MAX):
                    self._names[side, one.name] = columns
                    self._kept[side, one.name] = _room(one, rows_max, len(columns))

    def add(self, inputs: Arrays, outputs: Arrays, rows: int) -> None:
        """Take some of the rows of an engine call."""
        taken = []
        for row in range(min(rows, ROWS_A_CALL)):
            at = self._seen if self._seen < self.rows_max else random.randrange(self._seen + 1)
            self._seen += 1
            if at < self.rows_max:
                taken.append((at, row))
        if not taken:
            return
        into, rows_of = [at for at, _ in taken], [row for _, row in taken]
        for (side, name), kept in self._kept.items():
            array = (inputs if side == "input" else outputs).get(name)
            if (
                array is None
                or array.ndim == 0
                or array.shape[0] <= rows_of[-1]
                or array.size < len(array) * kept.shape[1]
            ):
                kept[into] = "" if kept.dtype == object else np.nan
                continue
            found = array.reshape(len(array), -1)[rows_of, : kept.shape[1]]
            kept[into] = _texts(found) if kept.dtype == object else found

    def columns(self) -> dict[str, list[float | str]]:
        """Return the rows that were kept, by column."""
        many = min(self._seen, self.rows_max)
        return {
            column: self._kept[key][:many, at].tolist()
            for key, all_of in self._names.items()
            for at, column in enumerate(all_of)
        }


def _counter(reference: Reference, side: str) -> Counter | None:
    features = tuple(one for one in reference.features if one.side == side)
    return Counter(msgspec.structs.replace(reference, features=features)) if features else None


def _room(tensor: TensorSpec, rows: int, columns: int) -> NDArray[Any]:
    if tensor.datatype == "BYTES":
        return np.full((rows, columns), "", object)
    return np.full((rows, columns), np.nan, np.float32)


def _texts(values: NDArray[Any]) -> NDArray[Any]:
    found = np.empty(values.shape, object)
    for at, value in np.ndenumerate(values):
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        found[at] = text[:TEXT_MAX]
    return found
