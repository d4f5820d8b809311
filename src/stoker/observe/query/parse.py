"""From the text of a query to an Expression. Every error names its place and what was expected there.

expression  term (('+' | '-') term)*
term        factor (('*' | '/') factor)*
factor      '-' factor | number | '(' expression ')' | function | metric
function    NAME by? '(' expression (',' expression)* ')' by?
by          'by' '(' (NAME (',' NAME)*)? ')'
metric      NAME ('{' (NAME ('=' | '!=' | '=~' | '!~') STRING),* '}')? ('[' DURATION ']')?
"""

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, cast

from stoker.observe.patterns import compiled
from stoker.observe.port import TICK_S, WINDOW_MAX_S, Matcher, Operator, Selector
from stoker.observe.query.expressions import (
    FUNCTIONS,
    Arithmetic,
    Call,
    Expression,
    Known,
    Metric,
    Number,
    QueryError,
    check,
    near,
)
from stoker.types.errors import InvalidInput

TEXT_MAX: Final = 4_000  # characters
DEPTH_MAX: Final = 30  # of what stands inside one another
METRICS_MAX: Final = 20  # in one expression
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_TOKEN: Final = re.compile(
    r"(?P<space>\s+|#[^\n]*)"
    r"|(?P<duration>(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+)(?![\w.])"
    r"|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])"
    r"|(?P<name>[A-Za-z_:][\w:]*)"
    r"|(?P<string>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')"
    r"|(?P<sign>=~|!~|!=|[-+*/(){}\[\],=])",
    re.DOTALL,
)
_PIECE: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")


class Token(NamedTuple):
    """A word of the text. `kind` is duration, number, name, string, sign or end."""

    kind: str
    text: str
    at: int


def parse(text: str, known: Callable[[str], Known | None], names: Callable[[], Iterable[str]]) -> Expression:
    """Return the expression of `text`, checked. `known` tells of a metric, `names` are all of them, for a hint.

    Raises QueryError, an InvalidInput.
    """
    if len(text) > TEXT_MAX:
        raise InvalidInput(f"the query has {len(text)} characters; at most {TEXT_MAX} are read", field="query")
    parser = _Parser(text, known, names)
    found = parser.expression(0)
    if parser.token.kind != "end":
        raise parser.wrong("the end, or an operator + - * /")
    if check(text, found) == "range":
        assert isinstance(found, Metric)
        raise QueryError(text, found.at, "a metric over a window is no value yet; put it into rate, quantile, max …")
    return found


def seconds(text: str) -> float:
    """Return the seconds of a duration such as `5m` or `1h30m`; 0 when it is none."""
    pieces = _PIECE.findall(text)
    if "".join(number + unit for number, unit in pieces) != text:
        return 0.0
    return sum(float(number) * _SECONDS[unit] for number, unit in pieces)


class _Parser:
    """Reads tokens one ahead."""

    def __init__(self, text: str, known: Callable[[str], Known | None], names: Callable[[], Iterable[str]]) -> None:
        self.text = text
        self._known = known
        self._names = names
        self._at = 0
        self._metrics = 0
        self.token = self._read()

    def expression(self, depth: int) -> Expression:
        """Read sums of terms."""
        if depth > DEPTH_MAX:
            raise QueryError(self.text, self.token.at, f"more than {DEPTH_MAX} things inside one another")
        left = self._term(depth)
        while self._is("+", "-"):
            left = Arithmetic((sign := self._take()).text, left, self._term(depth), sign.at)
        return left

    def wrong(self, expected: str) -> QueryError:
        """Return the error that `expected` does not stand here."""
        found = "the end" if self.token.kind == "end" else repr(self.token.text)
        return QueryError(self.text, self.token.at, f"expected {expected}, found {found}")

    def _term(self, depth: int) -> Expression:
        left = self._factor(depth)
        while self._is("*", "/"):
            left = Arithmetic((sign := self._take()).text, left, self._factor(depth), sign.at)
        return left

    def _factor(self, depth: int) -> Expression:
        token = self.token
        if self._is("-"):
            if depth > DEPTH_MAX:
                raise QueryError(self.text, token.at, f"more than {DEPTH_MAX} things inside one another")
            self._take()
            return Arithmetic("-", Number(0.0, token.at), self._factor(depth + 1), token.at)
        if token.kind == "number":
            self._take()
            return Number(float(token.text), token.at)
        if self._is("("):
            self._take()
            inside = self.expression(depth + 1)
            self._expect(")")
            return inside
        if token.kind != "name":
            raise self.wrong("a metric, a function, a number or (")
        self._take()
        if self._is("(") or self._is_by():
            return self._call(token, depth)
        return self._metric(token)

    def _call(self, name: Token, depth: int) -> Call:
        if name.text not in FUNCTIONS:
            hint = f"{near(name.text, FUNCTIONS)} There are {', '.join(FUNCTIONS)}"
            raise QueryError(self.text, name.at, f"no function {name.text}{hint}")
        by = self._by()
        self._expect("(")
        arguments = [self.expression(depth + 1)]
        while self._is(","):
            self._take()
            arguments.append(self.expression(depth + 1))
        self._expect(")", "',' or ')'")
        if by is None:
            by = self._by()
        call = Call(name.text, tuple(arguments), by, name.at)
        check(self.text, call)
        return call

    def _by(self) -> tuple[str, ...] | None:
        if not self._is_by():
            return None
        self._take()
        self._expect("(")
        labels: list[str] = []
        while not self._is(")"):
            if labels:
                self._expect(",", "',' or ')'")
            if self.token.kind != "name":
                raise self.wrong("a label's name")
            labels.append(self._take().text)
        self._take()
        return tuple(dict.fromkeys(labels))

    def _metric(self, name: Token) -> Metric:
        known = self._known(name.text)
        if known is None:
            hint = near(name.text, (*self._names(), *FUNCTIONS))
            raise QueryError(self.text, name.at, f"no metric {name.text}{hint}")
        self._metrics += 1
        if self._metrics > METRICS_MAX:
            raise QueryError(self.text, name.at, f"more than {METRICS_MAX} metrics in one query")
        matchers = self._matchers(name.text, known) if self._is("{") else ()
        window_s = self._window() if self._is("[") else None
        return Metric(Selector(name.text, matchers), known.kind, window_s, name.at)

    def _matchers(self, metric: str, known: Known) -> tuple[Matcher, ...]:
        self._take()
        found: list[Matcher] = []
        while not self._is("}"):
            if found:
                self._expect(",", "',' or '}'")
                if self._is("}"):
                    break
            label = self.token
            if label.kind != "name":
                raise self.wrong("a label's name or '}'")
            if known.labels is not None and label.text not in known.labels:
                has = ", ".join(known.labels) or "none"
                hint = near(label.text, known.labels)
                raise QueryError(self.text, label.at, f"{metric} has no label {label.text}{hint} It has {has}")
            self._take()
            if not self._is("=", "!=", "=~", "!~"):
                raise self.wrong("= != =~ or !~")
            operator = self._take()
            found.append(Matcher(label.text, cast(Operator, operator.text), self._string(operator.text)))
        self._take()
        return tuple(found)

    def _string(self, operator: str) -> str:
        token = self.token
        if token.kind != "string":
            raise self.wrong('a value in quotes, such as "chat"')
        value = re.sub(r"\\([\"'])" if "~" in operator else r"\\(.)", r"\1", token.text[1:-1])
        if "~" in operator:
            try:
                compiled(value)
            except ValueError as wrong:
                raise QueryError(self.text, token.at, str(wrong)) from wrong
        self._take()
        return value

    def _window(self) -> float:
        self._take()
        token = self.token
        if token.kind != "duration":
            raise self.wrong("a duration such as 30s, 5m, 1h or 7d")
        window_s = seconds(token.text)
        if not TICK_S <= window_s <= WINDOW_MAX_S:
            kept = f"{TICK_S} s to {WINDOW_MAX_S / 86_400:g} days are kept"
            raise QueryError(self.text, token.at, f"a window of {token.text}; {kept}")
        self._take()
        self._expect("]")
        return window_s

    def _is(self, *signs: str) -> bool:
        return self.token.kind == "sign" and self.token.text in signs

    def _is_by(self) -> bool:
        return self.token.kind == "name" and self.token.text == "by"

    def _expect(self, sign: str, expected: str = "") -> None:
        if not self._is(sign):
            raise self.wrong(expected or repr(sign))
        self._take()

    def _take(self) -> Token:
        taken, self.token = self.token, self._read()
        return taken

    def _read(self) -> Token:
        while self._at < len(self.text):
            match = _TOKEN.match(self.text, self._at)
            if match is None:
                raise QueryError(self.text, self._at, f"{self.text[self._at]!r} means nothing here")
            at, self._at = self._at, match.end()
            if match.lastgroup != "space":
                return Token(match.lastgroup or "", match[0], at)
        return Token("end", "", len(self.text))
