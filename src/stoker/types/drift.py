"""What a model's data looked like when it was good (a reference), and what is counted against it.

A feature is one number, category or property of a text in a row. Its values fall into slots of fixed edges, so that
what any replica counted in any minute adds up: (below, bins…, above, missing). Of a category the bins are its known
values and `above` is every other one.
"""

import math
from itertools import pairwise
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

REFERENCE_FILE: Final = "stoker.reference.json"  # in a version's files
REFERENCE_BYTES_MAX: Final = 512 << 10  # of 256 features it is some 350 kB
FEATURES_MAX: Final = 256
BINS_MAX: Final = 64
OUTSIDE: Final = 3  # slots besides the bins: below, above, missing
TEXT_MAX: Final = 200  # characters of a name or a category
ROWS_MAX: Final = 10**12
WIDTH_MAX: Final = 4_096  # dimensions of a vector that is watched
DIMENSIONS: Final = 64  # it is projected to, of 16 bits each
VECTOR_BYTES: Final = 2 * DIMENSIONS
SAMPLE_MIN: Final = 50  # vectors of a space's reference
SAMPLE_MAX: Final = 600  # of a reference, and of a window: two spaces must fit in REFERENCE_BYTES_MAX
SPACES_MAX: Final = 2

Kind = Literal["number", "category"]
Statistic = Literal["psi", "js", "wasserstein", "chi2"]
Side = Literal["input", "output"]
Read = Literal["value", "length", "script"]  # what is taken of a text; of a number its value
Text = Annotated[str, Meta(max_length=TEXT_MAX)]


class Null(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A statistic of windows without drift, by their rows: mean, standard deviation and skew of bootstrap draws.

    They are windows beside an unlucky reference, one that is farther from the truth than nearly all of its size.
    """

    rows: tuple[int, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    skew: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what could not be interpolated."""
        if not 1 <= len(self.rows) <= 32 or not len(self.rows) == len(self.mean) == len(self.sd) == len(self.skew):
            raise ValueError("a null has 1 to 32 window sizes, each with mean, sd and skew")
        if self.rows[0] < 1 or self.rows[-1] > ROWS_MAX or any(a >= b for a, b in pairwise(self.rows)):
            raise ValueError("the window sizes of a null grow, from 1 on")
        if not all(math.isfinite(x) and 0 < x < 1e6 for x in (*self.mean, *self.sd)):
            raise ValueError("mean and sd of a null are positive and finite")
        if not all(math.isfinite(x) and abs(x) < 1e3 for x in self.skew):
            raise ValueError("the skew of a null is finite")


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One watched value of a row.

    column: of the rows that the reference was made of. tensor, index, side: where that is in a model, the flat
    position within a row of an input or output; known once it is bound (core/reference.py).
    edges: of a number, of its k bins the k+1 limits; a bin holds its lower limit and not its upper one.
    values: of a category, the k known ones. counts: of the reference, k+3 slots. mean, sd: of a number.
    null: of the PSI. nulls: of the other statistics that fit the kind; a reference that was made before they were
    judged has none, and a replica, which only counts, is sent none.
    """

    name: Text
    column: Text
    counts: tuple[int, ...]
    null: Null
    tensor: str = ""
    side: Side = "input"
    kind: Kind = "number"
    read: Read = "value"
    index: Annotated[int, Meta(ge=0, lt=1 << 24)] = 0
    edges: tuple[float, ...] = ()
    values: tuple[Text, ...] = ()
    mean: float = 0.0
    sd: float = 0.0
    nulls: dict[Statistic, Null] | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        """Refuse edges that do not grow, and counts that are not one a slot."""
        bins = self.bins
        if not 1 <= bins <= BINS_MAX or len(self.counts) != bins + OUTSIDE:
            raise ValueError(f"{self.name}: 1 to {BINS_MAX} bins, and {OUTSIDE} more counts than bins")
        if any(not 0 <= count <= ROWS_MAX for count in self.counts) or not sum(self.counts):
            raise ValueError(f"{self.name}: counts are not negative, and there are some")
        if not all(math.isfinite(edge) for edge in self.edges) or any(a >= b for a, b in pairwise(self.edges)):
            raise ValueError(f"{self.name}: edges grow and are finite")
        if len(set(self.values)) != len(self.values) or bool(self.edges) == bool(self.values):
            raise ValueError(f"{self.name}: a number has edges, a category different values")
        if not (math.isfinite(self.mean) and math.isfinite(self.sd) and self.sd >= 0):
            raise ValueError(f"{self.name}: mean and sd are finite")

    def null_of(self, statistic: Statistic) -> Null | None:
        """Return the null of `statistic`, None where it is not judged."""
        if statistic == "psi":
            return self.null
        return None if self.nulls is msgspec.UNSET else self.nulls.get(statistic)

    @property
    def bins(self) -> int:
        """How many bins there are."""
        return len(self.values) if self.kind == "category" else len(self.edges) - 1

    @property
    def rows(self) -> int:
        """How many rows the reference had."""
        return sum(self.counts)


class Plane(msgspec.Struct, frozen=True):
    """Where vectors are in a model: of what name, and how many values one has; 0 when only the replica knows."""

    name: str
    side: Side
    width: int = 0


class Space(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Vectors of good rows.

    name, side, width: of its plane. seed: of the projection. sample: float16 [rows, DIMENSIONS], drawn evenly; empty
    where it only says how to project. mean_null, auc_null: of the squared distance of the means, in deviations of the
    reference, and of the classifier's AUC.
    """

    name: Text
    mean_null: Null
    auc_null: Null
    side: Side = "output"
    width: Annotated[int, Meta(ge=1, le=WIDTH_MAX)] = 1
    seed: Text = ""
    sample: bytes = b""

    def __post_init__(self) -> None:
        """Refuse a sample of the wrong size."""
        if len(self.sample) % VECTOR_BYTES or self.rows > SAMPLE_MAX or 0 < self.rows < SAMPLE_MIN:
            raise ValueError(f"{self.name}: a sample has {SAMPLE_MIN} to {SAMPLE_MAX} vectors of {VECTOR_BYTES} bytes")

    @property
    def rows(self) -> int:
        """How many vectors there are."""
        return len(self.sample) // VECTOR_BYTES


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Statistics of good data, small enough to go with a model. `source` says where the rows came from."""

    features: Annotated[tuple[Feature, ...], Meta(max_length=FEATURES_MAX)] = ()
    source: Text = ""
    made_at_s: float = 0.0
    format: Literal[1] = 1
    spaces: Annotated[tuple[Space, ...], Meta(max_length=SPACES_MAX)] = ()

    def __post_init__(self) -> None:
        """Refuse nothing at all, and what is given twice."""
        if not self.features and not self.spaces:
            raise ValueError("it has neither features nor spaces")
        named = [(one.side, one.name) for one in self.features] + [(one.side, one.name) for one in self.spaces]
        if len(set(named)) != len(named):
            raise ValueError("a feature is given twice")

    @property
    def rows(self) -> int:
        """How many rows it was made of."""
        return self.features[0].rows if self.features else self.spaces[0].rows


class Drawn(msgspec.Struct, frozen=True, omit_defaults=True):
    """Vectors of one space, drawn evenly from all that passed; joined in core/drawn.py.

    rows: how many passed. Each has a random rank in [0, 1), and those with a rank below `limit` are here: their
    ranks, rising, and their vectors, float16 [DIMENSIONS] each.
    """

    rows: int = 0
    limit: float = 1.0
    ranks: tuple[float, ...] = ()
    vectors: tuple[bytes, ...] = ()


class Counts(msgspec.Struct, frozen=True):
    """What one replica counted since it began with this reference; only grows. `slots`: one tuple a feature.

    since: tells this count from one that began anew. refused: requests that did not fit the model's signature.
    drawn: one a space, what passed since it was asked last; of it alone an answer that is lost loses something.
    """

    since: str = ""
    rows: int = 0
    refused: int = 0
    slots: tuple[tuple[int, ...], ...] = ()
    drawn: tuple[Drawn, ...] = ()


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """What control asks a replica: to count against a reference, and to gather rows for a new one.

    reference: its digest, "" for none: nothing is counted. body: the reference, bound, once the replica said that it
    does not know it, its spaces without their samples. gather: rows to keep from now on, 0 for none. seed: of the
    projection of gathered vectors. take: answer with the gathered rows.
    """

    reference: str = ""
    body: Reference | None = None
    gather: int = 0
    seed: str = ""
    take: bool = False


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a replica answers. `counts` is None when it does not know the reference.

    columns: gathered rows by column; a value that is missing is NaN or "". vectors, widths: those gathered, by space.
    problem: why it cannot watch at all.
    """

    counts: Counts | None = None
    columns: dict[str, list[float | str]] = {}
    vectors: dict[str, Drawn] = {}
    widths: dict[str, int] = {}
    problem: str = ""


def decode_reference(data: bytes) -> Reference:
    """Return the reference in `data`. Raises ValueError that says what is wrong; nothing in it is trusted."""
    if len(data) > REFERENCE_BYTES_MAX:
        raise ValueError(f"a reference has at most {REFERENCE_BYTES_MAX} bytes, this one {len(data)}")
    try:
        found = msgspec.json.decode(data, type=Reference)
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:  # ValidationError is one
        raise ValueError(f"not a reference: {wrong}") from wrong
    if any(not one.rows for one in found.spaces):
        raise ValueError("not a reference: a space has no vectors")
    return found
