"""Queries over the catalogue. A query of a metric or label that is not there cannot be written: ValueError."""

from collections.abc import Sequence
from typing import Final

from stoker.telemetry.catalogue import BY_NAME, Metric

RATE: Final = "$__rate_interval"  # Grafana's own; rules say theirs
By = Sequence[str]


def metric(name: str) -> Metric:
    """Return the line of the catalogue. Raises ValueError."""
    found = BY_NAME.get(name)
    if found is None:
        raise ValueError(f"{name} is not in the catalogue (stoker/telemetry/catalogue)")
    return found


def select(name: str, where: str = "", *, suffix: str = "", chosen: bool = False) -> str:
    """Return a selector. `where` are label matchers; `chosen` adds those of the board's variables."""
    known = metric(name)
    matchers = [matcher for matcher in where.split(",") if matcher]
    _check(known, [matcher.partition("=")[0].rstrip("!~") for matcher in matchers])
    if chosen:
        matchers += [f'{label}=~"${label}"' for label in ("project", "endpoint") if label in known.labels]
    return f"{name}{suffix}{{{','.join(matchers)}}}" if matchers else f"{name}{suffix}"


def rate(name: str, by: By = (), where: str = "", *, window: str = RATE, chosen: bool = True) -> str:
    """Return how much a counter grows a second."""
    _check(metric(name), by)
    return _sum(f"rate({select(name, where, chosen=chosen)}[{window}])", by)


def count_rate(name: str, by: By = (), where: str = "", *, window: str = RATE, chosen: bool = True) -> str:
    """Return how many values a histogram takes a second."""
    _check(metric(name), by)
    return _sum(f"rate({select(name, where, suffix='_count', chosen=chosen)}[{window}])", by)


def mean(name: str, by: By = (), where: str = "", *, window: str = RATE, chosen: bool = True) -> str:
    """Return the mean of what a histogram took."""
    _check(metric(name), by)
    total = _sum(f"rate({select(name, where, suffix='_sum', chosen=chosen)}[{window}])", by)
    return f"{total} / {count_rate(name, by, where, window=window, chosen=chosen)}"


def quantile(q: float, name: str, by: By = (), where: str = "", *, window: str = RATE, chosen: bool = True) -> str:
    """Return a quantile of what a histogram took, within the buckets that are exposed."""
    _check(metric(name), by)
    selected = select(name, where, suffix="_bucket", chosen=chosen)
    return f"histogram_quantile({q:g}, {_sum(f'rate({selected}[{window}])', ('le', *by))})"


def gauge(name: str, by: By = (), where: str = "", *, chosen: bool = True) -> str:
    """Return a gauge over the machines that are scraped: added up, or the largest, as its rule says."""
    known = metric(name)
    _check(known, by)
    function = "sum" if known.over_processes == "sum" else "max"
    grouping = f" by ({', '.join(by)})" if by else ""
    return f"{function}{grouping} ({select(name, where, chosen=chosen)})"


def _sum(inner: str, by: By) -> str:
    return f"sum by ({', '.join(by)}) ({inner})" if by else f"sum({inner})"


def _check(known: Metric, labels: Sequence[str]) -> None:
    unknown = [label for label in labels if label not in known.labels]
    if unknown:
        raise ValueError(f"{known.name} has the labels {known.labels}, not {unknown}")
