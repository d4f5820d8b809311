"""A snapshot as protobuf for Prometheus: its one form in which histograms are native, so without loss.

Our buckets are those of its schema 3, with the same indexes. The lowest of ours is its zero bucket; of what lies over
2^20, which is all in our highest, it is told that it lies just over it. Classic buckets go along for who wants both.
Written by hand, because it is three kinds of field and the protobuf library is not always installed.
Source: io/prometheus/client/metrics.proto of prometheus/client_model 0.6, whose numbers stand below.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Final

from stoker.telemetry.catalogue import BY_NAME, MetricKind
from stoker.telemetry.histogram import INDEX_MIN, SCHEMA, Distribution, Exemplar
from stoker.telemetry.prometheus import cumulative
from stoker.telemetry.snapshot import Series, Snapshot
from stoker.telemetry.views import View, seen_as

_TYPES: Final[dict[MetricKind, int]] = {"counter": 0, "gauge": 1, "histogram": 4}
_FIELDS: Final[dict[MetricKind, int]] = {"gauge": 2, "counter": 3, "histogram": 7}  # of Metric


def pieces(snapshot: Snapshot, views: Sequence[View] = ()) -> Iterator[bytes]:
    """Yield every metric of `snapshot`, and what `views` show of it, as delimited MetricFamily messages.

    Yields nothing but a breath (empty) while a metric of many series is made.
    """
    shown = seen_as(snapshot, views).metrics if views else ()
    sources = {view.name: view.source for view in views}
    for metric in sorted((*snapshot.metrics, *shown), key=lambda metric: metric.name):
        known = BY_NAME.get(sources.get(metric.name, metric.name))  # None: of another version
        meaning, unit = (known.meaning, known.unit) if known is not None else ("", "")
        family = [_text(1, metric.name), _text(2, meaning), _whole(3, _TYPES[metric.kind])]
        for series in metric.series:
            labels = b"".join(_pair(name, value) for name, value in zip(metric.labels, series.labels, strict=True))
            family.append(_message(4, labels + _message(_FIELDS[metric.kind], _value(metric.kind, series, unit))))
            yield b""
        body = b"".join(family)
        yield _varint(len(body)) + body


def _value(kind: MetricKind, series: Series, unit: str) -> bytes:
    return _histogram(series.distribution, unit) if kind == "histogram" else _double(1, series.value)


def _histogram(distribution: Distribution, unit: str) -> bytes:
    above = sorted((index, held) for index, held in distribution.buckets.items() if index != INDEX_MIN and held)
    counts, bounds = cumulative(distribution, unit)
    parts = [_whole(1, counts[-1]), _double(2, distribution.sum)]
    for count, bound in zip(counts, bounds, strict=True):
        body = b"\x08" + _varint(count) + _bound(bound)
        parts += (b"\x1a", _varint(len(body)), body)
    parts += (_NATIVE, _whole(7, distribution.buckets.get(INDEX_MIN, 0)))
    parts += _spans([index for index, _ in above])
    parts.append(_packed(13, _deltas(held for _, held in above)))
    parts += (_message(16, _exemplar(example)) for _, example in sorted(distribution.traced.items()))
    return b"".join(parts)


def _spans(indexes: Iterable[int]) -> Iterator[bytes]:
    """Yield the runs of buckets side by side: how far each begins behind the one before, and how long it is."""
    end, begin, length = 0, 0, 0
    for index in indexes:
        if length and index == begin + length:
            length += 1
            continue
        if length:
            yield _message(12, _whole(1, _zigzag(begin - end)) + _whole(2, length))
            end = begin + length
        begin, length = index, 1
    if length:
        yield _message(12, _whole(1, _zigzag(begin - end)) + _whole(2, length))


def _deltas(counts: Iterable[int]) -> Iterator[int]:
    before = 0
    for count in counts:
        yield _zigzag(count - before)
        before = count


def _exemplar(example: Exemplar) -> bytes:
    seconds, nanos = divmod(round(example.at_s * 1e3) * 1_000_000, 1_000_000_000)
    when = _message(3, _whole(1, seconds) + _whole(2, nanos))
    return _pair("trace_id", example.trace) + _pair("span_id", example.span) + _double(2, example.value) + when


# ── the wire: a tag (number and kind), then a varint, eight bytes, or a length and so many bytes ──────────────────────


def _pair(name: str, value: str) -> bytes:
    return _message(1, _text(1, name) + _text(2, value))


def _whole(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _double(number: int, value: float) -> bytes:
    return _varint(number << 3 | 1) + struct.pack("<d", value)


def _text(number: int, value: str) -> bytes:
    return _message(number, value.encode())


def _message(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _packed(number: int, values: Iterable[int]) -> bytes:
    body = b"".join(map(_varint, values))
    return _message(number, body) if body else b""


def _varint(value: int) -> bytes:
    if value < len(_SHORT):
        return _SHORT[value]
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


@cache
def _bound(bound: float) -> bytes:
    """Return the field of a classic bucket's bound; there are a few dozen."""
    return _double(2, bound)


_SHORT: Final = tuple(bytes((value,)) for value in range(0x80)) + tuple(
    bytes((value & 0x7F | 0x80, value >> 7)) for value in range(0x80, 0x1000)
)
_NATIVE: Final = _whole(5, _zigzag(SCHEMA)) + _double(6, 2.0 ** (INDEX_MIN / 8))
