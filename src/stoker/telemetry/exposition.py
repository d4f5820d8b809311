"""Which form of `/metrics` who asks gets: Prometheus' text, OpenMetrics, or protobuf with native histograms."""

from collections.abc import Iterator, Sequence
from typing import Final

from stoker.telemetry import prometheus, prometheus_protobuf
from stoker.telemetry.snapshot import Snapshot
from stoker.telemetry.views import View

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROTOBUF: Final = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"

PARTS_MAX: Final = 32  # of an Accept header that are read


def answer(snapshot: Snapshot, accept: str, views: Sequence[View] = ()) -> tuple[str, Iterator[bytes]]:
    """Return the content type and the pieces of the answer for who accepts `accept`, an Accept header ("": none came).

    A piece is a metric, or a part of one, and may be empty: a loop that has others to serve makes them one by one
    (20 µs a histogram, 80 µs as protobuf, which is a fifth of the bytes).
    """
    form = chosen(accept)
    if form == PROTOBUF:
        return form, prometheus_protobuf.pieces(snapshot, views)
    return form, (piece.encode() for piece in prometheus.pieces(snapshot, views, is_new=form == OPENMETRICS))


def chosen(accept: str) -> str:
    """Return the content type that an Accept header likes best; of those it likes alike the one that says more."""
    liked = dict.fromkeys((PROTOBUF, OPENMETRICS, TEXT), 0.0)
    for part in accept.lower().split(",")[:PARTS_MAX]:
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        given = dict(parameter.partition("=")[::2] for parameter in parameters)
        form = _form(kind, given)
        if form is not None:
            liked[form] = max(liked[form], _quality(given.get("q", "1")))
    best = max(liked, key=lambda form: liked[form])
    return best if liked[best] > 0.0 else TEXT


def _form(kind: str, given: dict[str, str]) -> str | None:
    if kind == "application/vnd.google.protobuf":
        is_ours = given.get("proto") == "io.prometheus.client.metricfamily" and given.get("encoding") == "delimited"
        return PROTOBUF if is_ours else None
    return {"application/openmetrics-text": OPENMETRICS, "text/plain": TEXT}.get(kind)


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
