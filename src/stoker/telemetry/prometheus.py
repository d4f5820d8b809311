"""A snapshot as Prometheus reads it: text exposition format 0.0.4, or OpenMetrics 1.0 with exemplars."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from stoker.telemetry.catalogue import BY_NAME
from stoker.telemetry.histogram import Distribution
from stoker.telemetry.snapshot import Snapshot
from stoker.telemetry.views import View, seen_as


def expose(snapshot: Snapshot, views: Sequence[View] = ()) -> str:
    """Return every metric of `snapshot`, and what `views` show of it, as text.

    Histograms are cumulative `le` buckets, exact at those bounds.
    """
    return "".join(pieces(snapshot, views, is_new=False))


def expose_openmetrics(snapshot: Snapshot, views: Sequence[View] = ()) -> str:
    """Return the same as OpenMetrics; buckets that have one carry an exemplar, which names a trace that was kept."""
    return "".join(pieces(snapshot, views, is_new=True))


def pieces(snapshot: Snapshot, views: Sequence[View], *, is_new: bool) -> Iterator[str]:
    """Yield the text of `expose`, or `expose_openmetrics` (`is_new`), a metric's head or a series at a time."""
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


def cumulative(distribution: Distribution, unit: str) -> tuple[Sequence[int], Sequence[float]]:
    """Return how many values lie up to each bound of the classic buckets of a metric of `unit`, and those bounds."""
    limits = _BOUNDS.get(unit, _BOUNDS_ELSE)[0]
    return _counts(distribution, limits), [*(2.0 ** (limit / 8) for limit in limits), float("inf")]


def _counts(distribution: Distribution, limits: Sequence[int]) -> list[int]:
    """Return how many values lie in native buckets up to each of `limits`, and how many there are."""
    counts: list[int] = []
    seen = 0
    left = sorted(distribution.buckets.items(), reverse=True)
    for limit in limits:
        while left and left[-1][0] <= limit:
            seen += left.pop()[1]
        counts.append(seen)
    counts.append(seen + sum([held for _, held in left]))
    return counts


def _histogram(name: str, labels: str, distribution: Distribution, unit: str, *, is_new: bool) -> str:
    limits, old, new = _BOUNDS.get(unit, _BOUNDS_ELSE)
    counts = _counts(distribution, limits)
    shown = _exemplars(distribution, limits) if is_new and distribution.traced else {}
    begin = f'{name}_bucket{{{labels}{"," if labels else ""}le="'
    texts = new if is_new else old
    if shown:
        lines = [f'{begin}{text}"}} {count}{shown.get(text, "")}\n' for text, count in zip(texts, counts, strict=True)]
    else:
        lines = [f'{begin}{text}"}} {count}\n' for text, count in zip(texts, counts, strict=True)]
    braces = _braces(labels)
    return f"{''.join(lines)}{name}_sum{braces} {_number(distribution.sum)}\n{name}_count{braces} {counts[-1]}\n"


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
