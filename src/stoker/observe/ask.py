"""The questions that are not text: sums over windows, distributions, lines. Functions of a Reader; checked maxima."""

from collections.abc import Callable, Sequence

from stoker.observe.port import SELECTORS_MAX, TICK_S, WINDOW_MAX_S, WINDOWS_MAX, Selector, Series
from stoker.observe.reading import Reader, tick
from stoker.telemetry.catalogue import BY_NAME
from stoker.telemetry.histogram import Distribution
from stoker.types.errors import InvalidInput

Select = Callable[[Selector], list[Series]]


def sums(
    reader: Reader, select: Select, selectors: Sequence[Selector], windows_s: Sequence[float], now_s: int
) -> list[tuple[float, ...]]:
    """See port.Questions.sums. Time is cut at the windows' beginnings, so that each cell is read once for all."""
    if len(selectors) > SELECTORS_MAX:
        raise InvalidInput(f"{len(selectors)} selectors; at most {SELECTORS_MAX} are summed at once")
    edges = _edges(windows_s, now_s)
    chosen = [select(_counting(each)) for each in selectors]
    found: dict[float | None, dict[Series, list[float]]] = {}
    for at_most in {each.at_most for each in selectors}:
        wanted = {
            series: None
            for selector, of_it in zip(selectors, chosen, strict=True)
            if selector.at_most == at_most
            for series in of_it
        }
        found[at_most] = reader.totals(wanted, edges, at_most)
    return [
        _windows([found[selector.at_most][series] for series in of_it], edges, windows_s, now_s)
        for selector, of_it in zip(selectors, chosen, strict=True)
    ]


def sums_by(
    reader: Reader, select: Select, selector: Selector, by: Sequence[str], windows_s: Sequence[float], now_s: int
) -> dict[tuple[str, ...], tuple[float, ...]]:
    """See port.Questions.sums_by."""
    edges = _edges(windows_s, now_s)
    totals = reader.totals(select(_counting(selector)), edges, selector.at_most)
    groups: dict[tuple[str, ...], list[list[float]]] = {}
    for series, pieces in totals.items():
        groups.setdefault(tuple(series.label(name) for name in by), []).append(pieces)
    return {group: _windows(pieces, edges, windows_s, now_s) for group, pieces in groups.items()}


def distribution(reader: Reader, select: Select, selector: Selector, window_s: float, end_s: int) -> Distribution:
    """See port.Questions.distribution."""
    if (known := BY_NAME.get(selector.metric)) is not None and known.kind != "histogram":
        raise InvalidInput(f"{selector.metric} is a {known.kind}; only a histogram has a distribution")
    return reader.distribution(select(selector), _begin(window_s, end_s), end_s)


def _counting(selector: Selector) -> Selector:
    known = BY_NAME.get(selector.metric)
    if known is not None and known.kind == "gauge":
        raise InvalidInput(f"{selector.metric} is a gauge: it counts nothing that could be summed over time")
    if known is not None and known.kind == "counter" and selector.at_most is not None:
        raise InvalidInput(f"{selector.metric} is a counter: it has no values that could be at most so large")
    return selector


def _begin(window_s: float, end_s: int) -> int:
    if not TICK_S <= window_s <= WINDOW_MAX_S:
        raise InvalidInput(f"a window of {window_s:g} s; it is between {TICK_S} s and {WINDOW_MAX_S / 86400:g} days")
    return tick(end_s - window_s)


def _edges(windows_s: Sequence[float], now_s: int) -> list[int]:
    if not 1 <= len(windows_s) <= WINDOWS_MAX:
        raise InvalidInput(f"{len(windows_s)} windows; between 1 and {WINDOWS_MAX} are summed at once")
    return sorted({*(_begin(window_s, now_s) for window_s in windows_s), now_s})


def _windows(
    pieces: Sequence[Sequence[float]], edges: Sequence[int], windows_s: Sequence[float], now_s: int
) -> tuple[float, ...]:
    """Return the sum of each window: of all pieces of time from its beginning on."""
    after = {edges[-1]: 0.0}
    for at in range(len(edges) - 2, -1, -1):
        after[edges[at]] = after[edges[at + 1]] + sum(each[at] for each in pieces)
    return tuple(after[_begin(window_s, now_s)] for window_s in windows_s)
