"""What an expression of the query language is made of, and which functions take what. Pure.

A Range is a metric over a window behind each moment; Lines are values by label at each moment; a number is one value.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final, Literal, NamedTuple

from stoker.observe.port import Selector
from stoker.telemetry.catalogue import MetricKind
from stoker.types.errors import InvalidInput

Kind = Literal["number", "range", "lines"]


class Number(NamedTuple):
    """A constant. `at` is where it stands in the text, as everywhere here."""

    value: float
    at: int


class Metric(NamedTuple):
    """A selector, over `window_s` when it has one: then it is a Range, without it the last values of a gauge."""

    selector: Selector
    kind: MetricKind
    window_s: float | None
    at: int


class Call(NamedTuple):
    """A function. `by` None: no labels were named."""

    name: str
    arguments: tuple["Expression", ...]
    by: tuple[str, ...] | None
    at: int


class Arithmetic(NamedTuple):
    """`left operator right`."""

    operator: str
    left: "Expression"
    right: "Expression"
    at: int


Expression = Number | Metric | Call | Arithmetic


class Known(NamedTuple):
    """A metric that may be asked for. `labels` None: any."""

    kind: MetricKind
    labels: tuple[str, ...] | None


class Function(NamedTuple):
    """What a function takes. `range_of`: the kinds of metric whose ranges it takes; `lines`: whether it takes lines."""

    usage: str
    arguments: tuple[Kind, ...]  # of the last ones, "range" stands for what range_of and lines allow
    range_of: tuple[MetricKind, ...] = ()
    lines: bool = False
    groups: bool = True  # whether `by (…)` may follow it


FUNCTIONS: Final[dict[str, Function]] = {
    "rate": Function("rate(counter[5m])", ("range",), ("counter", "histogram")),
    "increase": Function("increase(counter[1h])", ("range",), ("counter", "histogram")),
    "quantile": Function("quantile(0.99, histogram[5m])", ("number", "range"), ("histogram",)),
    "under": Function("under(0.3, histogram[5m])", ("number", "range"), ("histogram",)),
    "avg": Function("avg(gauge[5m]) or avg(lines)", ("range",), ("gauge", "histogram"), lines=True),
    "min": Function("min(gauge[5m]) or min(lines)", ("range",), ("gauge",), lines=True),
    "max": Function("max(gauge[5m]) or max(lines)", ("range",), ("gauge",), lines=True),
    "sum": Function("sum(rate(counter[5m]))", ("lines",), lines=True),
    "topk": Function("topk(5, rate(counter[5m]))", ("number", "lines"), lines=True, groups=False),
    "ratio": Function("ratio(part, whole)", ("lines", "lines"), lines=True, groups=False),
}
EXAMPLES: Final = {"counter": "rate({}[5m])", "histogram": "quantile(0.99, {}[5m])", "gauge": "max({}[5m])"}


class QueryError(InvalidInput):
    """An expression that cannot be: says what was expected, and shows where."""

    def __init__(self, text: str, at: int, message: str) -> None:
        line = " ".join(text.split("\n"))
        begin = max(0, at - 60)
        shown = ("…" if begin else "") + line[begin : at + 40]
        mark = " " * (at - begin + (1 if begin else 0)) + "^"
        super().__init__(f"{message}\n  {shown}\n  {mark}", field="query")
        self.at = at


def near(word: str, words: Iterable[str]) -> str:
    """Return `; did you mean …?` when a word is like this one."""
    close = get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else "."


def check(text: str, expression: Expression) -> Kind:
    """Return what `expression` is. Raises QueryError where a function is given what it does not take."""
    if isinstance(expression, Number):
        return "number"
    if isinstance(expression, Metric):
        if expression.window_s is None and expression.kind != "gauge":
            example = EXAMPLES[expression.kind].format(expression.selector.metric)
            raise QueryError(text, expression.at, f"a {expression.kind} has no value of its own; write {example}")
        return "lines" if expression.window_s is None else "range"
    if isinstance(expression, Arithmetic):
        kinds = {_value(text, side) for side in (expression.left, expression.right)}
        return "lines" if "lines" in kinds else "number"
    function = FUNCTIONS[expression.name]
    if len(expression.arguments) != len(function.arguments):
        wanted = len(function.arguments)
        message = f"{expression.name} takes {wanted} argument{'s' if wanted > 1 else ''}: {function.usage}"
        raise QueryError(text, expression.at, message)
    for wanted_kind, argument in zip(function.arguments, expression.arguments, strict=True):
        _check_argument(text, function, wanted_kind, argument)
    if expression.by is not None and not function.groups:
        raise QueryError(
            text, expression.at, f"{expression.name} takes no by; put it inside: {expression.name}(…, sum by (…) (…))"
        )
    return "lines"


def _value(text: str, side: Expression) -> Kind:
    kind = check(text, side)
    if kind == "range":
        assert isinstance(side, Metric)
        example = EXAMPLES[side.kind].format(side.selector.metric)
        raise QueryError(text, side.at, f"a metric over a window is no value yet; write {example}")
    return kind


def _check_argument(text: str, function: Function, wanted: Kind, argument: Expression) -> None:
    found = check(text, argument)
    if wanted == "number":
        if found != "number":
            raise QueryError(text, argument.at, f"a number was expected: {function.usage}")
    elif found == "range":
        assert isinstance(argument, Metric)
        if argument.kind not in function.range_of:
            takes = " or a ".join(function.range_of) or "values, not a window"
            hint = EXAMPLES[argument.kind].format(argument.selector.metric)
            raise QueryError(
                text,
                argument.at,
                f"{argument.selector.metric} is a {argument.kind}; {function.usage} takes a {takes}."
                f" Of a {argument.kind}: {hint}",
            )
    elif found == "number" or not function.lines:
        raise QueryError(text, argument.at, f"expected {function.usage}")
