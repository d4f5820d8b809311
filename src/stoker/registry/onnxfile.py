"""Which other files an ONNX model takes its weights from, read without ONNX and without its weights.

A walk over the protobuf wire form: only the fields that lead to a tensor are entered, everything else is passed over
by its length. Source of the field numbers: onnx.proto3 of ONNX 1.23. Every length is held against what contains it, so
that a file cut short or a length that lies is found before a C++ parser sees it.
"""

from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from stoker.types.errors import RefusedArtifact

DEPTH_MAX: Final = 64  # of messages inside each other; protobuf's own readers end at 100
FIELDS_MAX: Final = 20_000_000
TEXT_BYTES_MAX: Final = 4_096
_EXTERNAL: Final = 1

# Message: {field: message}. What is not here is no way to a tensor.
_INTO: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}


class External(NamedTuple):
    """A tensor whose bytes lie in another file: the file as written, and from where to where."""

    tensor: str
    location: str
    offset: str
    length: str


def check_onnx(folder: Path, path: str, known: frozenset[str]) -> None:
    """Refuse a model that is cut short or takes weights from what is not a file of its version.

    Args:
        folder: where the version lies.
        path: the model in it.
        known: every path of the version.

    Raises:
        RefusedArtifact: names the tensor and what to do.
    """
    file = folder / path
    size_bytes = file.stat().st_size
    with file.open("rb") as opened:
        for external in _Walk(opened, path).model(size_bytes):
            _check(external, folder, path, known)


def _check(external: External, folder: Path, path: str, known: frozenset[str]) -> None:
    location = external.location
    inside = (PurePosixPath(path).parent / location).as_posix() if _is_plain(location) else ""
    if inside not in known:
        raise RefusedArtifact(
            f"{path}: the tensor {external.tensor[:100]!r} has its data in {location[:200]!r}, which is not a file of"
            " this version; push the whole folder, or save the model with its weights inside"
        )
    end = _natural(external.offset) + _natural(external.length)
    if end > (folder / inside).stat().st_size:
        raise RefusedArtifact(
            f"{path}: the tensor {external.tensor[:100]!r} ends beyond the end of {inside!r}; export the model again"
        )


def _is_plain(location: str) -> bool:
    parts = location.split("/")
    return bool(location) and "\\" not in location and not any(part in ("", "..", ".") for part in parts)


def _natural(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 2**62


class _Walk:
    """One pass over a file."""

    def __init__(self, file: BufferedReader, shown: str) -> None:
        self._file = file
        self._shown = shown
        self._at = 0
        self._fields = 0

    def model(self, size_bytes: int) -> Iterator[External]:
        """Yield every tensor with its data elsewhere, in the order of the file."""
        yield from self._message("model", size_bytes, 0)

    def _message(self, kind: str, end: int, depth: int) -> Iterator[External]:
        if depth > DEPTH_MAX:
            raise self._bad(f"has more than {DEPTH_MAX} graphs and nodes inside each other")
        for number, wire in self._fields_until(end):
            inner = _INTO[kind].get(number)
            if wire != 2 or inner is None:
                self._skip(wire, end)
                continue
            stop = self._stop(end)
            if inner == "tensor":
                if (external := self._tensor(stop)) is not None:
                    yield external
            else:
                yield from self._message(inner, stop, depth + 1)

    def _tensor(self, end: int) -> External | None:
        name, is_external = "", False
        fields: dict[str, str] = {}
        for number, wire in self._fields_until(end):
            if number == 8 and wire == 2:
                name = self._text(end)
            elif number == 13 and wire == 2:
                key, value = self._entry(self._stop(end))
                if fields.setdefault(key, value) != value:
                    raise self._bad(f"gives the tensor {name[:100]!r} two values of {key[:100]!r}")
            elif number == 14 and wire == 0:
                is_external = self._varint(end) == _EXTERNAL
            else:
                self._skip(wire, end)
        if not is_external and not fields:
            return None
        return External(name, fields.get("location", ""), fields.get("offset", "0"), fields.get("length", "0"))

    def _entry(self, end: int) -> tuple[str, str]:
        found = {1: "", 2: ""}
        for number, wire in self._fields_until(end):
            if number in found and wire == 2:
                found[number] = self._text(end)
            else:
                self._skip(wire, end)
        return found[1], found[2]

    def _fields_until(self, end: int) -> Iterator[tuple[int, int]]:
        while self._at < end:
            self._fields += 1
            if self._fields > FIELDS_MAX:
                raise self._bad(f"has more than {FIELDS_MAX} fields")
            tag = self._varint(end)
            if tag >> 3 == 0:
                raise self._bad(f"is not an ONNX model, or is damaged at byte {self._at}")
            yield tag >> 3, tag & 7

    def _skip(self, wire: int, end: int) -> None:
        match wire:
            case 0:
                self._varint(end)
            case 1 | 5:
                self._seek(self._at + (8 if wire == 1 else 4), end)
            case 2:
                self._seek(self._stop(end), end)
            case _:  # groups are not used since protobuf 2
                raise self._bad(f"is not an ONNX model, or is damaged at byte {self._at}")

    def _seek(self, to: int, end: int) -> None:
        if to > end:
            raise self._bad(f"is not an ONNX model, or is cut short at byte {self._at}")
        self._file.seek(to - self._at, 1)
        self._at = to

    def _stop(self, end: int) -> int:
        """Return where the length-delimited value that begins here ends."""
        length = self._varint(end)
        if self._at + length > end:
            raise self._bad(f"is not an ONNX model, or is cut short at byte {self._at}")
        return self._at + length

    def _text(self, end: int) -> str:
        length = self._stop(end) - self._at
        if length > TEXT_BYTES_MAX:
            raise self._bad(f"has a name of {length} bytes at byte {self._at}")
        self._at += length
        return self._file.read(length).decode("utf-8", "replace")

    def _varint(self, end: int) -> int:
        value = shift = 0
        while shift < 70:
            byte = self._file.read(1)
            self._at += 1
            if not byte or self._at > end:
                break
            value |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return value
            shift += 7
        raise self._bad(f"is not an ONNX model, or is cut short at byte {self._at}")

    def _bad(self, what: str) -> RefusedArtifact:
        return RefusedArtifact(f"{self._shown} {what}; export the model again")
