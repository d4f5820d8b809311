"""Reads rows of good data from a file: CSV, JSON rows, npz with vectors too. What is in it is not trusted.

Parquet is left out: pyarrow is 45 MB for one reader; `df.to_csv(..., index=False)` makes what is read here.
"""

import csv
import io
import zipfile
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stoker.core.watched import EMBEDDING
from stoker.observe.drift.reference import Columns, from_arrays
from stoker.types.drift import FEATURES_MAX, WIDTH_MAX
from stoker.types.errors import InvalidInput, NotFound

FILE_BYTES_MAX: Final = 256 << 20
ROWS_MAX: Final = 200_000
_MISSING: Final = frozenset({"", "na", "n/a", "nan", "null", "none"})


def read(path: Path) -> Columns:
    """Return the columns of a file, at most its first ROWS_MAX rows, by its suffix (.csv, .json, .jsonl, .npz).

    Raises NotFound, or InvalidInput that says what is wrong.
    """
    readers = {".csv": _csv, ".json": _json, ".jsonl": _json, ".npz": _npz}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InvalidInput(f"{path.name} is none of {', '.join(readers)}", field="reference")
    try:
        size = path.stat().st_size
        if size > FILE_BYTES_MAX:
            raise InvalidInput(f"{path.name} has {size} bytes, more than {FILE_BYTES_MAX}; a sample is enough")
        columns = reader(path)
    except FileNotFoundError as missing:
        raise NotFound(f"there is no file {path}") from missing
    except (OSError, ValueError, csv.Error, zipfile.BadZipFile, EOFError, RecursionError) as wrong:
        raise InvalidInput(f"{path.name} cannot be read: {wrong}", field="reference") from wrong
    is_empty = not columns or not len(next(iter(columns.values())))
    if is_empty and not read_vectors(path):
        raise InvalidInput(f"{path.name} has no rows", field="reference")
    return columns


def read_vectors(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz that `read` leaves out, because they are of vectors: float32 [rows, width].

    Raises NotFound and InvalidInput as `read` does.
    """
    if path.suffix.lower() != ".npz":
        return {}
    try:
        return {name: array.astype(np.float32) for name, array in _arrays(path).items() if _is_vectors(name, array)}
    except FileNotFoundError as missing:
        raise NotFound(f"there is no file {path}") from missing
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as wrong:
        raise InvalidInput(f"{path.name} cannot be read: {wrong}", field="reference") from wrong


def _csv(path: Path) -> Columns:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        names = next(lines, [])
        _check_names(names)
        rows: list[list[str]] = []
        for row in lines:
            if not row:
                continue
            if len(row) != len(names):
                raise InvalidInput(f"line {lines.line_num} has {len(row)} values, the header {len(names)}")
            rows.append(row)
            if len(rows) == ROWS_MAX:
                break
    return {name: _typed([row[at] for row in rows]) for at, name in enumerate(names)}


def _json(path: Path) -> Columns:
    data = path.read_bytes()
    if path.suffix.lower() == ".jsonl":
        rows = [msgspec.json.decode(line, type=dict[str, Any]) for line in io.BytesIO(data) if line.strip()]
    else:
        rows = msgspec.json.decode(data, type=list[dict[str, Any]])
    rows = rows[:ROWS_MAX]
    names = list(rows[0]) if rows else []
    _check_names(names)
    for at, row in enumerate(rows):
        if row.keys() - names:
            raise InvalidInput(f"row {at + 1} has {min(row.keys() - names)!r}, which the first row has not")
    return {name: _typed([row.get(name) for row in rows]) for name in names}


def _npz(path: Path) -> Columns:
    found = {name: array for name, array in _arrays(path).items() if not _is_vectors(name, array)}
    for name, array in found.items():
        if array.dtype.kind not in "biufUS":
            raise InvalidInput(f"{name!r} is of {array.dtype}, neither numbers nor text")
    columns = from_arrays({name: _plain(array) for name, array in found.items()})
    if found:
        _check_names(list(columns))
    if len({len(values) for values in columns.values()}) > 1:
        raise InvalidInput("the arrays differ in their rows")
    return columns


def _is_vectors(name: str, array: NDArray[Any]) -> bool:
    is_wide = name == EMBEDDING or array.shape[-1:] > (FEATURES_MAX,)
    return array.ndim == 2 and array.dtype.kind == "f" and is_wide and 2 <= array.shape[1] <= WIDTH_MAX


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(path) as inside:  # a small file can unpack to a large one
        if sum(one.file_size for one in inside.infolist()) > FILE_BYTES_MAX:
            raise InvalidInput(f"{path.name} unpacks to more than {FILE_BYTES_MAX} bytes; a sample is enough")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name][:ROWS_MAX] for name in list(arrays.files)[: FEATURES_MAX + 1]}


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "replace").astype(object)
    return array.astype(object) if array.dtype.kind == "U" else array.astype(np.float64)


def _typed(values: list[Any]) -> NDArray[Any]:
    """Return float64 with NaN where a value is missing, or str objects when one of them is no number."""
    try:
        return np.array([_number(value) for value in values], np.float64)
    except (TypeError, ValueError, OverflowError):
        texts = ["" if value is None or str(value).lower() in _MISSING else str(value) for value in values]
        return np.array([*texts, None], object)[:-1]  # numpy must not make something cleverer of them


def _number(value: Any) -> float:
    if value is None or (isinstance(value, str) and value.strip().lower() in _MISSING):
        return float("nan")
    return float(value)


def _check_names(names: list[str]) -> None:
    if not names or len(set(names)) != len(names) or not all(names):
        raise InvalidInput("the columns need names, each another one", field="reference")
    if len(names) > FEATURES_MAX:
        raise InvalidInput(f"{len(names)} columns are more than {FEATURES_MAX}; leave some out", field="reference")
