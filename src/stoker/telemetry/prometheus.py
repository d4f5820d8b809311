"""A snapshot as Prometheus reads it: text exposition format 0.0.4."""

from collections.abc import Iterator
from typing import Final

from stoker.telemetry.catalogue import BY_NAME
from stoker.telemetry.histogram import Distribution
from stoker.telemetry.snapshot import MetricValues, Snapshot

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

# Exponents of two shown as `le`; finer buckets stay inside (a line each would be eight times the text).
_EXPONENTS: Final = {"seconds": range(-14, 11), "rows": range(17)}  # 61 µs to 17 min; 1 to 65,536
_EXPONENTS_ELSE: Final = range(-20, 21, 2)


def expose(snapshot: Snapshot) -> str:
    """Return every metric of `snapshot` as text; histograms as cumulative `le` buckets, exact at those bounds."""
    lines: list[str] = []
    for metric in sorted(snapshot.metrics, key=lambda metric: metric.name):
        known = BY_NAME.get(metric.name)
        lines.append(f"# HELP {metric.name} {_escape_help(known.meaning if known else '')}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        lines.extend(_lines(metric, known.unit if known else ""))
    return "\n".join(lines) + "\n"


def _lines(metric: MetricValues, unit: str) -> Iterator[str]:
    for series in metric.series:
        labels = ",".join(
            f'{name}="{_escape(value)}"' for name, value in zip(metric.labels, series.labels, strict=True)
        )
        if metric.kind != "histogram":
            yield f"{metric.name}{_braces(labels)} {_number(series.value)}"
            continue
        comma = "," if labels else ""
        for bound, count in _cumulative(series.distribution, _EXPONENTS.get(unit, _EXPONENTS_ELSE)):
            yield f'{metric.name}_bucket{{{labels}{comma}le="{bound}"}} {count}'
        yield f"{metric.name}_sum{_braces(labels)} {_number(series.distribution.sum)}"
        yield f"{metric.name}_count{_braces(labels)} {series.distribution.count}"


def _cumulative(distribution: Distribution, exponents: range) -> Iterator[tuple[str, int]]:
    seen = 0
    left = sorted(distribution.buckets.items(), reverse=True)
    for exponent in exponents:
        while left and left[-1][0] <= 8 * exponent:
            seen += left.pop()[1]
        yield _number(2.0**exponent), seen
    yield "+Inf", seen + sum(held for _, held in left)


def _braces(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(value)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
