"""CEL (the Common Expression Language): expressions, and the rules over a request that gateways ask.

The one home of the package common-expression-language. Measured: a rule costs 1 µs, and each value that it is given
about as much, so a request's values are only made as far as some rule names them (`needs`).
CEL has no clock and no side effects. What could hold up a gateway is refused: loops over lists (a rule of 700
characters ran for minutes, and there is no list to look at) and regular expressions (compiled anew for each request:
64 µs for `^curl/`, 30 ms for hostile ones). The package itself bounds nothing: whoever runs an `Expression` that may
have either does it in a process of its own (control/judge.py).
"""

import importlib.machinery
import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any, Final

import msgspec

RULE_MAX: Final = 1000
# What a rule may look at, with a value of each type. An absent header is "", so that a rule needs no `has()`.
REQUEST: Final[dict[str, Any]] = {
    "method": "chat",  # chat, completions, embeddings, infer
    "bytes": 1200,  # of the body
    "input_tokens": 250,  # estimated: characters of messages, prompt or input, divided by 4; 0 for infer
    "max_tokens": 512,  # 0: the caller says none
    "messages": 1,
    "has_tools": False,
    "stream": False,
}
HEADERS: Final = ("x-stoker-tier",)  # free for callers; gateways drop headers that nobody reads
KEY: Final[dict[str, Any]] = {"id": "0a1b2c3d", "project": "default", "is_admin": False, "budget_left": 1.0}
HOUR: Final = 12  # of the day, UTC

_SAMPLES: Final = tuple(
    {
        "request": REQUEST | {"method": method, "input_tokens": size, "max_tokens": size, "has_tools": bool(size)},
        "headers": dict.fromkeys(HEADERS, text),
        "key": KEY,
        "hour": HOUR,
    }
    for method, size, text in (("infer", 0, ""), ("chat", 100_000, "gold"))
)
_FIELDS: Final = {"request": set(REQUEST), "key": set(KEY)}
_TEXT = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'')
_SLOW = re.compile(r"\b(all|exists|exists_one|map|filter|matches)\s*(?:\(|//)")
_WHOLE = re.compile(r"\b(request|key)\b(?!\.\w)")  # all fields of it, such as in request['bytes']
_FIELD = re.compile(r"\b(request|key)\.(\w+)")
_LOOP = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*(\w+)\s*,")
_TYPES: Final = {
    "int",
    "uint",
    "double",
    "string",
    "bool",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
}
# What the package can call, tried one by one; it says so itself only when a call fails.
FUNCTIONS: Final = frozenset(
    ("bytes", "contains", "double", "duration", "dyn", "endsWith", "int", "matches", "size", "startsWith", "string",
     "timestamp", "type", "uint", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours",
     "getMilliseconds", "getMinutes", "getMonth", "getSeconds")
)  # fmt: skip
_NAMES: Final = _TYPES | {"request", "headers", "key", "hour"}


class MissingKey(ValueError):
    """An expression names a field or key that is not there."""


class Context:
    """The values of one request, made once for all rules that look at it. What no rule needs may be left out."""

    __slots__ = ("_variables",)

    def __init__(self, request: dict[str, Any], headers: dict[str, str], key: dict[str, Any], hour: int) -> None:
        values = {"request": request, "headers": headers, "key": key, "hour": hour}
        self._variables = _cel().Context({name: value for name, value in values.items() if value != {}})

    def holds(self, rule: "Rule") -> bool:
        """Return whether `rule` is true here. Raises ValueError when it cannot be told."""
        return rule.holds(self._variables)


class Rule:
    """A compiled rule. Raises ValueError, with what is wrong, for a text that is none."""

    __slots__ = ("_program", "text")

    def __init__(self, text: str) -> None:
        if len(text) > RULE_MAX:
            raise ValueError(f"longer than {RULE_MAX} characters")
        slow = _SLOW.search(text)  # in a string too: to tell what is one is the parser's business
        if slow is not None:
            raise ValueError(f"{slow[1]}() is not for rules; use startsWith, endsWith, contains, in, == and <")
        self.text = text
        self._program = _compiled(text)

    @property
    def needs(self) -> frozenset[str]:
        """The names of values that it may look at: fields of `request` and `key`, and `headers`."""
        names = {"headers", *REQUEST, *KEY}
        return frozenset(names if _WHOLE.search(self.text) else (name for name in names if name in self.text))

    def holds(self, variables: Any) -> bool:
        """Return the rule's value over `variables`. Raises ValueError when it has none, or it is no truth."""
        value = _executed(self._program, variables)
        if not isinstance(value, bool):
            raise ValueError(f"it gives {type(value).__name__}, not true or false")
        return value


class Expression:
    """Any CEL, compiled. Neither time nor memory of it are bounded. Raises ValueError for a text that is none."""

    __slots__ = ("_program", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._program = _compiled(text)

    @property
    def names(self) -> frozenset[str]:
        """The names it looks up, but those that its own loops make and those of types."""
        return frozenset(self._program.variables()) - set(_LOOP.findall(_TEXT.sub('""', self.text))) - _TYPES

    @property
    def functions(self) -> frozenset[str]:
        """The functions and methods it calls, operators not."""
        return frozenset(name for name in self._program.functions() if name.isidentifier())

    def paths(self, root: str) -> list[list[str]]:
        """Return the fields that it names below `root`: `[["spec", "model"]]` of `resource.spec.model`."""
        found = re.findall(rf"(?<![\w.]){root}((?:\.\w+)+)", _TEXT.sub('""', self.text))
        return [path.strip(".").split(".") for path in found]

    def value(self, values: Mapping[str, Any]) -> Any:
        """Return its value over named `values`. Raises ValueError when it has none; a missing key is told as one."""
        return _executed(self._program, dict(values))


def check(text: str) -> str:
    """Return what is wrong with a rule that somebody writes; "" when it is fine.

    CEL's own check of types needs declarations that the package does not have. Names and fields are checked here, in
    every branch; types by running the rule over requests of both kinds, so only in the branches that those take.
    """
    try:
        rule = Rule(text)
    except ValueError as wrong:
        return str(wrong)
    for name in rule._program.variables():
        if name not in _NAMES:
            return f"unknown name {name!r}; known: hour, headers, key, request"
    for variable, field in _FIELD.findall(_TEXT.sub('""', text)):
        if field not in _FIELDS[variable]:
            return f"{variable} has no field {field!r}; it has {', '.join(sorted(_FIELDS[variable]))}"
    for sample in _SAMPLES:
        try:
            rule.holds(sample)
        except ValueError as wrong:
            return _about(str(wrong))
    return ""


def _compiled(text: str) -> Any:
    try:
        return _cel().compile(text)
    except (ValueError, RecursionError) as wrong:
        raise ValueError(_short(str(wrong).partition("ERROR: <input>:")[2] or str(wrong))) from wrong


def _executed(program: Any, variables: Any) -> Any:
    try:
        return program.execute(variables)
    except KeyError as wrong:
        raise MissingKey(_short(str(wrong))) from wrong
    except (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError) as wrong:
        raise ValueError(_short(str(wrong))) from wrong


def _about(message: str) -> str:
    if message in HEADERS or re.fullmatch(r"[\w'\"-]+", message):
        return f"no value at {message}; headers are {', '.join(HEADERS)}"
    return message


def _short(message: str) -> str:
    line = message.strip().splitlines()[0] if message.strip() else "it cannot be read"
    return line if len(line) <= 200 else line[:199] + "…"


@cache
def _cel() -> ModuleType:
    """Return the package's compiled module, loaded with the first rule and without the package around it.

    `import cel` brings the package's own command line: 340 ms and 30 MB against 29 ms and 4 MB.
    """
    package = importlib.util.find_spec("cel")
    places = list(package.submodule_search_locations or ()) if package is not None else []
    spec = importlib.machinery.PathFinder.find_spec("cel.cel", places)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("the package common-expression-language is not installed", name="cel")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Message(msgspec.Struct, frozen=True):
    content: str | list[msgspec.Raw] | None = None


class _Body(msgspec.Struct, frozen=True):
    """The parts of an OpenAI request that rules look at; it was checked before."""

    messages: list[_Message] = []
    prompt: str | list[msgspec.Raw] = ""
    input: str | list[msgspec.Raw] = ""
    tools: list[msgspec.Raw] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


_OF_BODY: Final = frozenset(("input_tokens", "max_tokens", "messages", "has_tools"))
_decode = msgspec.json.Decoder(_Body).decode


def facts(method: str, body: bytes, *, stream: bool, needs: frozenset[str] = frozenset(REQUEST)) -> dict[str, Any]:
    """Return `request` as rules that need `needs` see it. A body that cannot be read has the facts of its size."""
    found: dict[str, Any] = {
        "method": method,
        "bytes": len(body),
        "input_tokens": 0,
        "max_tokens": 0,
        "messages": 0,
        "has_tools": False,
        "stream": stream,
    }
    if method != "infer" and not needs.isdisjoint(_OF_BODY):
        _read(body, found)
    return {name: value for name, value in found.items() if name in needs}


def _read(body: bytes, found: dict[str, Any]) -> None:
    try:
        read = _decode(body)
    except msgspec.DecodeError:
        return
    size = sum(_size(message.content) for message in read.messages) + _size(read.prompt) + _size(read.input)
    found["input_tokens"] = size // 4
    found["max_tokens"] = read.max_completion_tokens or read.max_tokens or 0
    found["messages"] = len(read.messages)
    found["has_tools"] = bool(read.tools)


def _size(text: str | list[msgspec.Raw] | None) -> int:
    """Return characters of text, bytes of parts."""
    if isinstance(text, list):
        return sum(len(memoryview(part)) for part in text)
    return len(text) if text else 0
