"""A snapshot as Prometheus reads it: text exposition format 0.0.4, or OpenMetrics 1.0 with exemplars."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from stoker.telemetry.catalogue import BY_NAME
from stoker.telemetry.histogram import Distribution
from stoker.telemetry.snapshot import Snapshot
from stoker.telemetry.views import View, seen_as

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def answer(snapshot: Snapshot, accept: str, views: Sequence[View] = ()) -> tuple[str, Iterator[str]]:
    """Return the content type and the pieces of the text for who accepts `accept`, an Accept header ("": none came).

    A piece is a metric, or a part of one: a loop that has others to serve makes them one by one (20 µs a histogram).
    """
    is_new = wants_openmetrics(accept)
    return (OPENMETRICS_TYPE if is_new else CONTENT_TYPE), _pieces(snapshot, views, is_new=is_new)


def wants_openmetrics(accept: str) -> bool:
    """Return whether an Accept header likes OpenMetrics at least as much as the old text."""
    best = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in accept.lower().split(",")[:32]:
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        if kind in best:
            best[kind] = max(best[kind], quality)
    liked = best["application/openmetrics-text"]
    return liked > 0.0 and liked >= best["text/plain"]


def expose(snapshot: Snapshot, views: Sequence[View] = ()) -> str:
    """Return every metric of `snapshot`, and what `views` show of it, as text.

    Histograms are cumulative `le` buckets, exact at those bounds.
    """
    return "".join(_pieces(snapshot, views, is_new=False))


def expose_openmetrics(snapshot: Snapshot, views: Sequence[View] = ()) -> str:
    """Return the same as OpenMetrics; buckets that have one carry an exemplar, which names a trace that was kept."""
    return "".join(_pieces(snapshot, views, is_new=True))


def _pieces(snapshot: Snapshot, views: Sequence[View], *, is_new: bool) -> Iterator[str]:
    shown = seen_as(snapshot, views).metrics if views else ()
    sources = {view.name: view.source for view in views}
    for metric in sorted((*snapshot.metrics, *shown), key=lambda metric: metric.name):
        known = BY_NAME.get(sources.get(metric.name, metric.name))  # None: of another version
        meaning, unit = (known.meaning, known.unit) if known is not None else ("", "")
        name = metric.name
        if is_new:
            name = name.removesuffix("_total") if metric.kind == "counter" else name
            if unit and name.endswith(f"_{unit}"):
                yield f"# UNIT {name} {unit}\n"
            meaning = meaning.replace('"', '\\"')
        yield f"# HELP {name} {_escape_help(meaning)}\n# TYPE {name} {metric.kind}\n"
        for series in metric.series:
            labels = ",".join(
                [f'{name}="{_escape(value)}"' for name, value in zip(metric.labels, series.labels, strict=True)]
            )
            if metric.kind == "histogram":
                yield _histogram(metric.name, labels, series.distribution, unit, is_new=is_new)
            else:
                yield f"{metric.name}{_braces(labels)} {_number(series.value)}\n"
    if is_new:
        yield "# EOF\n"


def _histogram(name: str, labels: str, distribution: Distribution, unit: str, *, is_new: bool) -> str:
    limits, old, new = _BOUNDS.get(unit, _BOUNDS_ELSE)
    counts: list[int] = []
    seen = 0
    left = sorted(distribution.buckets.items(), reverse=True)
    for limit in limits:
        while left and left[-1][0] <= limit:
            seen += left.pop()[1]
        counts.append(seen)
    seen += sum([held for _, held in left])
    counts.append(seen)
    shown = _exemplars(distribution, limits) if is_new and distribution.traced else {}
    begin = f'{name}_bucket{{{labels}{"," if labels else ""}le="'
    texts = new if is_new else old
    if shown:
        lines = [f'{begin}{text}"}} {count}{shown.get(text, "")}\n' for text, count in zip(texts, counts, strict=True)]
    else:
        lines = [f'{begin}{text}"}} {count}\n' for text, count in zip(texts, counts, strict=True)]
    braces = _braces(labels)
    return f"{''.join(lines)}{name}_sum{braces} {_number(distribution.sum)}\n{name}_count{braces} {seen}\n"


def _exemplars(distribution: Distribution, limits: Sequence[int]) -> dict[str, str]:
    """Return by bound what is written behind its bucket: the example of the largest value that is in no smaller one."""
    shown: dict[str, str] = {}
    for index, example in sorted(distribution.traced.items()):
        at = bisect_left(limits, index)
        bound = repr(2.0 ** (limits[at] / 8)) if at < len(limits) else "+Inf"
        # Grafana's names; 63 of the 128 characters that the specification allows.
        ids = f'trace_id="{example.trace}",span_id="{example.span}"'
        shown[bound] = f" # {{{ids}}} {_number(example.value)} {example.at_s:.3f}"
    return shown


def _braces(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(value)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _bounds(exponents: range) -> tuple[tuple[int, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the last native buckets under each bound, and the bounds as the two formats write them."""
    bounds = [2.0**exponent for exponent in exponents]
    return (
        tuple(8 * exponent for exponent in exponents),
        (*(_number(bound) for bound in bounds), "+Inf"),
        (*(repr(bound) for bound in bounds), "+Inf"),
    )


# Powers of two shown as `le`; finer buckets stay inside (a line each would be eight times the text).
_BOUNDS: Final = {
    "seconds": _bounds(range(-14, 11)),  # 61 µs to 17 min
    "rows": _bounds(range(17)),
    "tokens": _bounds(range(21)),
}
_BOUNDS_ELSE: Final = _bounds(range(-20, 21, 2))
