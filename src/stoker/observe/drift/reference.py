"""From rows of good data to a reference: bins by quantile, counts, and the null of each feature.

Values are taken as float32, as the replicas that count do: a limit lies between two float32, never on a rounding.
"""

from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stoker.core.watched import is_category
from stoker.observe.drift.null import nulls_of
from stoker.telemetry.slots import ROWS_A_CALL, Counter
from stoker.telemetry.texts import script_of
from stoker.types.drift import (
    BINS_MAX,
    FEATURES_MAX,
    OUTSIDE,
    REFERENCE_BYTES_MAX,
    TEXT_MAX,
    Feature,
    Kind,
    Null,
    Read,
    Reference,
    Space,
    Statistic,
)
from stoker.types.errors import InvalidInput

BINS: Final = 16
ROWS_MIN: Final = 50
CATEGORIES_MAX: Final = 32
SEED: Final = 7  # the same rows make the same reference, and so the same version
_NOWHERE: Final = Null((1,), (1.0,), (1.0,), (0.0,))  # until the counts are known
_LARGEST: Final = 1e37  # beyond it float32 ends, and no limit can lie above

Columns = Mapping[str, NDArray[Any]]  # by name: float64 [rows] or object [rows] of str; NaN and "" are missing


def build(
    columns: Columns, *, source: str, made_at_s: float, bins: int = BINS, spaces: tuple[Space, ...] = ()
) -> Reference:
    """Return the reference of `columns`. Raises InvalidInput: fewer than ROWS_MIN rows, or too many columns."""
    rows = max((len(values) for values in columns.values()), default=0)
    if rows < ROWS_MIN and (columns or not spaces):
        raise InvalidInput(f"a reference needs {ROWS_MIN} rows or more, not {rows}", field="reference")
    drafts: list[Feature] = []
    sources: list[NDArray[Any]] = []
    for column, values in columns.items():
        made = _drafts(column, values, bins)
        drafts += made
        sources += [values] * len(made)
    if len(drafts) > FEATURES_MAX:
        raise InvalidInput(f"{len(drafts)} features are more than {FEATURES_MAX}; leave columns out", field="reference")
    reference = Reference(_counted(drafts, sources), source[:TEXT_MAX], made_at_s, spaces=spaces)
    size = len(msgspec.json.encode(reference))
    if size > REFERENCE_BYTES_MAX:
        raise InvalidInput(f"the reference takes {size} bytes of {REFERENCE_BYTES_MAX}; leave columns out")
    return reference


def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Columns:
    """Return the columns of arrays [rows, …] by tensor name: `name`, or `name[i]` where a row has several values."""
    columns: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        if array.ndim == 0:
            raise InvalidInput(f"{name!r} is one value, not rows", field="reference")
        flat = array.reshape(array.shape[0], -1)
        if flat.shape[1] > FEATURES_MAX:
            raise InvalidInput(f"{name!r} has {flat.shape[1]} values a row, more than {FEATURES_MAX}")
        for at in range(flat.shape[1]):
            columns[name if flat.shape[1] == 1 else f"{name}[{at}]"] = flat[:, at]
    return columns


def _drafts(column: str, values: NDArray[Any], bins: int) -> list[Feature]:
    """Return the features of a column, as if nothing had been counted yet."""
    if values.dtype != object:
        with np.errstate(over="ignore"):
            return [_number(column, column, values.astype(np.float32), bins)]
    texts = [str(value) for value in values if value not in ("", None)]
    known = tuple(sorted(set(texts)))
    if not known:
        raise InvalidInput(f"the column {column!r} is empty", field="reference")
    if is_category(column):
        # Only those seen: how many others there are is told by those that were seen once (core.distances.weights).
        usual = [value[:TEXT_MAX] for value, _ in Tally(texts).most_common(BINS_MAX)]
        return [_draft(column, column, "value", values=tuple(sorted(usual)))]
    if len(known) <= CATEGORIES_MAX and len(known) * 5 <= len(texts) and max(map(len, known)) <= TEXT_MAX:
        return [_draft(column, column, "value", values=known)]
    lengths = np.array([len(text) for text in texts], np.float32)
    scripts = tuple(sorted({script_of(text) for text in texts}))[:BINS_MAX]
    return [
        msgspec.structs.replace(_number(column, f"{column}.length", lengths, bins), read="length"),
        _draft(column, f"{column}.script", "script", values=scripts),
    ]


def _number(column: str, name: str, values: NDArray[np.float32], bins: int) -> Feature:
    known = values[np.abs(values) < _LARGEST]
    if not known.size:
        raise InvalidInput(f"the column {column!r} has no number in it", field="reference")
    limits = _limits(known, min(bins, BINS_MAX))
    wide = known.astype(np.float64)
    return _draft(column, name, "value", edges=limits, mean=float(wide.mean()), sd=float(wide.std()))


def _limits(values: NDArray[np.float32], bins: int) -> tuple[float, ...]:
    """Return the limits of bins with about the same rows each; of few different numbers each has its own bin."""
    different = np.unique(values)
    top = np.nextafter(different[-1], np.float32(np.inf), dtype=np.float32)
    if different.size > bins:
        quantiles = np.quantile(values, np.linspace(0, 1, bins + 1)[:-1], method="inverted_cdf")
        different = np.unique(quantiles.astype(np.float32))
    return tuple(float(limit) for limit in (*different, top))


def _draft(column: str, name: str, read: Read, **more: Any) -> Feature:
    bins = len(more["values"]) if "values" in more else len(more["edges"]) - 1
    kind: Kind = "category" if "values" in more else "number"
    return Feature(
        name=name[:TEXT_MAX],
        column=column[:TEXT_MAX],
        counts=(1,) * (bins + OUTSIDE),
        null=_NOWHERE,
        kind=kind,
        read=read,
        **more,
    )


def _counted(drafts: Sequence[Feature], columns: Sequence[NDArray[Any]]) -> tuple[Feature, ...]:
    """Return the features with the counts of their columns, as a replica would count them, and their null."""
    rng = np.random.default_rng(SEED)
    known: dict[tuple[float, ...], dict[Statistic, Null]] = {}
    found = []
    for draft, values in zip(drafts, columns, strict=True):
        alone = msgspec.structs.replace(draft, tensor="column")
        counter = Counter(Reference((alone,)))
        for start in range(0, len(values), ROWS_A_CALL):
            piece = values[start : start + ROWS_A_CALL]
            counter.add({"column": piece}, {}, len(piece))
        feature = msgspec.structs.replace(draft, counts=counter.slots()[0])
        nulls = nulls_of(feature, rng, len(drafts), known)
        found.append(msgspec.structs.replace(feature, null=nulls.pop("psi"), nulls=nulls))
    return tuple(found)
