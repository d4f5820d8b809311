"""What one cell of a series holds (a counter's increase, a gauge's course, a histogram's values), and its bytes.

Cells add up: what holds of twelve cells together is their sum, in any grouping. Everything that rolls up relies on it.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from stoker.telemetry.histogram import INDEX_MAX, INDEX_MIN, Distribution

_WIDTHS: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
_SPARSE: Final = 0x10
_COUNT_MAX: Final = 2**64 - 1


class Course(NamedTuple):
    """How a gauge went: `total` of all its `readings`, so that means of means are right."""

    last: float
    low: float
    high: float
    total: float
    readings: int

    @property
    def mean(self) -> float:
        """The mean of the readings."""
        return self.total / self.readings


Point = float | Course | Distribution


def reading(value: float) -> Course:
    """Return the course of a gauge that was read once."""
    return Course(value, value, value, value, 1)


def add(older: Point, newer: Point) -> Point:
    """Return what both cells hold together. Both are of one kind."""
    if isinstance(older, Course):
        assert isinstance(newer, Course)
        return Course(
            newer.last,
            min(older.low, newer.low),
            max(older.high, newer.high),
            older.total + newer.total,
            older.readings + newer.readings,
        )
    if isinstance(older, Distribution):
        assert isinstance(newer, Distribution)
        buckets = dict(older.buckets)
        for index, held in newer.buckets.items():
            buckets[index] = buckets.get(index, 0) + held
        return Distribution(buckets, older.sum + newer.sum)
    assert isinstance(newer, float)
    return older + newer


# ── bytes ────────────────────────────────────────────────────────────────────────────────────────────────────────────
# A row has a number (`value`) and bytes (`body`): a counter its increase and nothing; a gauge its total, and last, low,
# high, count as doubles; a histogram its sum, and its counts. These are the shorter of two forms, little-endian:
#   width (1 byte), lowest index (2 bytes), a count for each index from there up
#   width + 0x10,   how many (2 bytes), that many indexes (2 bytes each), that many counts
# Measured on latencies of a served model (20–40 buckets in use a minute): 30 to 70 bytes; JSON has 300.


def encode(point: Point) -> tuple[float, bytes | None]:
    """Return the number and the bytes of a row."""
    if isinstance(point, Course):
        return point.total, array("d", (point.last, point.low, point.high, float(point.readings))).tobytes()
    if isinstance(point, Distribution):
        return point.sum, pack(point.buckets)
    return point, None


def decode(kind: str, value: float, body: bytes | None) -> Point:
    """Return the point of a row. Raises ValueError when the bytes are none of a row's."""
    if kind == "counter":
        return value
    if body is None:
        raise ValueError("a row without its bytes")
    if kind == "gauge":
        numbers = array("d", body)
        if len(numbers) != 4 or not numbers[3] >= 1:
            raise ValueError("a gauge's row of another form")
        return Course(numbers[0], numbers[1], numbers[2], value, int(numbers[3]))
    return Distribution({index: held for index, held in unpack(body) if held}, value)


def pack(buckets: dict[int, int]) -> bytes:
    """Return the counts of a histogram as bytes."""
    if not buckets:
        return b""
    low, high = min(buckets), max(buckets)
    largest = min(max(buckets.values()), _COUNT_MAX)
    width = next(width for width in _WIDTHS if largest < 1 << 8 * width)
    if (high - low + 1) * width <= len(buckets) * (2 + width):
        counts = [min(buckets.get(index, 0), _COUNT_MAX) for index in range(low, high + 1)]
        return bytes((width,)) + low.to_bytes(2, "little", signed=True) + array(_WIDTHS[width], counts).tobytes()
    indexes = sorted(buckets)
    counts = [min(buckets[index], _COUNT_MAX) for index in indexes]
    head = bytes((width | _SPARSE,)) + len(indexes).to_bytes(2, "little")
    return head + array("h", indexes).tobytes() + array(_WIDTHS[width], counts).tobytes()


def unpack(body: bytes) -> Iterable[tuple[int, int]]:
    """Return index and count, by rising index. Raises ValueError when `body` is not from `pack`."""
    indexes, counts = _columns(body)
    return zip(indexes, counts, strict=True)


def counted(body: bytes, last_indexes: Sequence[int]) -> list[int]:
    """Return, for each of `last_indexes`, how many values lie in buckets up to it. Raises ValueError as `unpack`."""
    indexes, counts = _columns(body)
    return [sum(counts) if last >= INDEX_MAX else sum(counts[: bisect_right(indexes, last)]) for last in last_indexes]


def _columns(body: bytes) -> tuple[Sequence[int], Sequence[int]]:
    if not body:
        return (), ()
    code = _WIDTHS.get(body[0] & ~_SPARSE)
    if code is None or len(body) < 3:
        raise ValueError("a histogram's row of an unknown form")
    counts = array(code)
    indexes: Sequence[int]
    if not body[0] & _SPARSE:
        counts.frombytes(body[3:])
        low = int.from_bytes(body[1:3], "little", signed=True)
        indexes = range(low, low + len(counts))
    else:
        length = int.from_bytes(body[1:3], "little")
        found = array("h")
        found.frombytes(body[3 : 3 + 2 * length])
        counts.frombytes(body[3 + 2 * length :])
        indexes = found
        if len(found) != length or len(counts) != length:
            raise ValueError("a histogram's row that was cut")
    if not indexes or indexes[0] < INDEX_MIN or indexes[-1] > INDEX_MAX:
        raise ValueError("a histogram's row with indexes that cannot be")
    return indexes, counts
