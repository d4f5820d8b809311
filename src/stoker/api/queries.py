"""Parameters: what is published of each is held before a handler sees any. Every problem names its field.

An unknown parameter is refused, as an unknown field of a body is: `?projet=shop` must not list, or delete, everything.
"""

import re
from typing import Any, Final

from starlette.requests import Request

from stoker.api.operations import Operation, Parameter
from stoker.types.access import SUBJECT_PATTERN
from stoker.types.errors import InvalidInput
from stoker.types.ids import NAME_PATTERN, is_name

NAME: Final = NAME_PATTERN[1:-1]
ENDPOINT: Final = f"({NAME}/)?{NAME}"
SECONDS: Final = r"[0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h|d)?"
NAMED: Final = ("project", "name", "alias")  # what parts of paths are names
FLAGS: Final = ("true", "false", "1", "0", "yes", "no")
_INTEGER: Final = re.compile(r"-?[0-9]{1,19}")
_NUMBER: Final = re.compile(r"-?[0-9]{1,19}(\.[0-9]{1,19})?([eE][+-]?[0-9]{1,3})?")
_KINDS: Final[dict[type, str]] = {str: "string", int: "integer", float: "number"}


def check(operation: Operation, request: Request) -> None:
    """Raise InvalidInput for a parameter that is unknown, given twice, missing, or not as its operation says.

    Names in the path too: they become names of folders (samples), where `..` is another one.
    """
    for part in NAMED:
        text = request.path_params.get(part)
        if text is not None and not is_name(text):
            raise InvalidInput(
                f"{text[:64]!r} is no name; names are lower-case letters, digits and dashes, 1 to 63 long", field=part
            )
    subject = request.path_params.get("subject")
    if subject is not None and re.search(SUBJECT_PATTERN, subject) is None:
        raise InvalidInput(f"{subject[:80]!r} is nobody; write user:NAME or service:NAME", field="subject")
    is_lenient = operation.access in ("open", "socket") or operation.is_local  # probes and scrapers send what they like
    given, known = request.query_params, {each.name: each for each in operation.query}
    for name, value in given.multi_items():
        parameter = known.get(name)
        if parameter is None and is_lenient:
            continue
        if parameter is None:
            there_are = f"there are {', '.join(known)}" if known else "it has none"
            raise InvalidInput(f"no parameter {name[:64]!r}: {there_are}", field=name[:64] or None)
        if len(given.getlist(name)) > 1:
            raise InvalidInput("it is given more than once", field=name)
        _check(parameter, value)
    for each in operation.headers:
        for value in request.headers.getlist(each.name):
            _check(each, value)
    for each in operation.query:
        if each.is_required and each.name not in given:
            raise InvalidInput(f"it is needed: {each.meaning}", field=each.name)


def schema(parameter: Parameter) -> dict[str, Any]:
    """Return the JSON schema of a parameter's value."""
    if parameter.kind is bool:
        return {"type": "string", "enum": list(FLAGS)}
    found: dict[str, Any] = {"type": _KINDS[parameter.kind]}
    for word, bound in (("minimum", parameter.low), ("maximum", parameter.high)):
        if bound is not None:
            found[word] = parameter.kind(bound)
    if parameter.kind is str:
        found["maxLength"] = parameter.longest
    if pattern := parameter.pattern or parameter.form:
        found["pattern"] = f"^(?:{pattern})$"
    if parameter.one_of:
        found["enum"] = list(parameter.one_of)
    return found


def _check(parameter: Parameter, text: str) -> None:
    name, shown = parameter.name, repr(text[:64])
    if len(text) > parameter.longest:
        raise InvalidInput(f"{len(text)} characters; at most {parameter.longest}", field=name)
    if parameter.kind is bool:
        if text.lower() not in FLAGS:
            raise InvalidInput(f"{shown} is neither 1 nor 0", field=name)
        return
    if parameter.kind is str:
        if parameter.one_of and text not in parameter.one_of:
            raise InvalidInput(f"{shown} is none of {', '.join(parameter.one_of)}", field=name)
        if "\0" in text or (parameter.pattern and re.fullmatch(parameter.pattern, text) is None):
            raise InvalidInput(f"{shown} is not {parameter.meaning}", field=name)
        return
    if (_INTEGER if parameter.kind is int else _NUMBER).fullmatch(text) is None:
        raise InvalidInput(f"{shown} is not a {'whole ' if parameter.kind is int else ''}number", field=name)
    value = int(text) if parameter.kind is int else float(text)
    low = -float("inf") if parameter.low is None else parameter.low
    high = float("inf") if parameter.high is None else parameter.high
    if not low <= value <= high:
        raise InvalidInput(f"{text} is not between {low:g} and {high:g}", field=name)
