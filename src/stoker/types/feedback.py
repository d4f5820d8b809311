"""Predictions that wait for what turned out to be true: what a replica hands over of them, and what control asks."""

from typing import Final, Literal

import msgspec

PredictionKind = Literal["classification", "regression"]

ROWS_MAX: Final = 64  # of one request that are kept; row 0 has the request's id, row 3 the id with `#3` behind
HANDED_MAX: Final = 2_000  # predictions in one answer
ID_MAX: Final = 160  # characters: a request id and a row
SEGMENT_MAX: Final = 64  # characters
CLASS_MAX: Final = 128  # characters


class Prediction(msgspec.Struct, frozen=True, array_like=True):
    """What a model said of one row.

    at_s: unix time. said: the class, or the value of a regression. confidence: the model's own probability of the
    class, in 0–1; None where it gives none.
    """

    id: str
    at_s: float
    said: str | float
    confidence: float | None = None
    segment: str = ""


class Wish(msgspec.Struct, frozen=True):
    """Which predictions are kept; see resources.Feedback."""

    kind: PredictionKind
    output: str = ""
    segment: str = ""


class Demand(msgspec.Struct, frozen=True):
    """What control asks of a replica.

    wish: None keeps nothing from now on. since, taken: up to where control has stored what it was handed.
    """

    wish: Wish | None
    since: str = ""
    taken: int = 0


class Handover(msgspec.Struct, frozen=True):
    """What a replica answers.

    since: changes when its numbers begin anew. first: the number of the first of `predictions`. dropped: how many
    could not be kept since then. problem: why there can be none.
    """

    since: str = ""
    first: int = 0
    predictions: tuple[Prediction, ...] = ()
    dropped: int = 0
    problem: str = ""
