"""Whether a tree of values fits a msgspec type: every misfit at once, each with its line and field.

msgspec's own decoder stops at the first error and knows no lines; it still makes the values, once nothing is wrong.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import inspect

from stoker.protocol.yamltree import Branch, Fault, Leaf, Row, Tree
from stoker.types.prices import parse_dollars
from stoker.types.units import parse_bytes, parse_seconds

# `Meta(extra={"unit": …})` on a field names how its text is read.
_UNITS: dict[str, Callable[[Any], float]] = {
    "bytes": parse_bytes,
    "seconds": parse_seconds,
    "dollars": parse_dollars,
}
_SHOWN_CHARACTERS_MAX = 60
_PART = re.compile(r"([^.\[\]]+(?!\]))|\[(\d+)\]")


def misfits(tree: Tree, kind: inspect.Type, field: str = "") -> list[Fault]:
    """Return what about `tree` does not fit the type `kind` (of `msgspec.inspect.type_info`), in document order."""
    faults: list[Fault] = []
    _check(tree, kind, field, faults)
    return sorted(faults, key=lambda fault: fault.line)


def suggestion(word: str, known: list[str]) -> str:
    """Return `; did you mean X?` for the nearest known word, else what is known."""
    near = difflib.get_close_matches(word.lower(), [name.lower() for name in known], n=1, cutoff=0.6)
    for name in known:
        if near and name.lower() == near[0]:
            return f"; did you mean {name}?"
    return f"; known: {', '.join(known)}" if known else ""


def line_of(tree: Tree, field: str) -> int:
    """Return the line of `field` (`spec.replicas.max`, `spec.fallback[1]`), or of its nearest written parent."""
    line = tree.line
    for name, number in _PART.findall(field):
        if isinstance(tree, Branch) and name in tree.items:
            line, tree = tree.items[name]
        elif isinstance(tree, Row) and number and int(number) < len(tree.items):
            tree = tree.items[int(number)]
            line = tree.line
        else:
            break
    return line


def meaning(kind: Any, field: str) -> str:
    """Return what the schema of the type `kind` says of the text at `field` (`access.endpoints[0]`), or nothing."""
    at: inspect.Type = inspect.type_info(kind)
    for name, _ in _PART.findall(field):
        at = _inner(at)
        if isinstance(at, inspect.StructType):
            at = next((each.type for each in at.fields if each.encode_name == name), inspect.AnyType())
        elif isinstance(at, inspect.VarTupleType | inspect.ListType):
            at = at.item_type
        else:
            return ""
    each = at.types if isinstance(at, inspect.UnionType) else (at,)
    plain = [one.type if isinstance(one, inspect.Metadata) else one for one in each]
    words = [str(word) for one in plain if isinstance(one, inspect.LiteralType) for word in one.values]
    return " or ".join(words) or next((said[2:] for said in map(_described, each) if said), "")


def _inner(kind: inspect.Type) -> inspect.Type:
    """Return a type without what is said about it, and of a union the first that has parts."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        parts = [_inner(each) for each in kind.types]
        kind = next((each for each in parts if isinstance(each, inspect.StructType | inspect.VarTupleType)), kind)
    return kind


def shown(value: object) -> str:
    """Return a value as an error message shows it, short."""
    text = "nothing" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else text[: _SHOWN_CHARACTERS_MAX - 1] + "…"


def _check(tree: Tree, kind: inspect.Type, field: str, faults: list[Fault]) -> None:
    match kind:
        case inspect.Metadata(type=inner, extra=extra):
            before = len(faults)
            _check(tree, inner, field, faults)
            if len(faults) > before and isinstance(inner, inspect.StrType) and isinstance(tree, Leaf) and tree.value:
                # The description says what the pattern means.
                faults[before:] = [Fault(tree.line, field, faults[before].message + _described(kind))]
            unit = (extra or {}).get("unit")
            if unit and len(faults) == before and isinstance(tree, Leaf):
                _check_unit(tree, unit, field, faults)
        case inspect.StructType():
            _check_struct(tree, kind, field, faults)
        case inspect.DictType(value_type=value_type):
            if branch := _branch(tree, field, faults):
                for name, (_, value) in branch.items():
                    _check(value, value_type, f"{field}.{name}", faults)
        case inspect.VarTupleType() | inspect.ListType():
            _check_row(tree, kind, field, faults)
        case inspect.UnionType(types=types):
            _check_union(tree, types, field, faults)
        case inspect.AnyType():
            pass
        case _:
            if message := _scalar_message(tree, kind):
                faults.append(Fault(tree.line, field, message))


def _check_struct(tree: Tree, kind: inspect.StructType, field: str, faults: list[Fault]) -> None:
    branch = _branch(tree, field, faults)
    if branch is None:
        return
    known = {item.encode_name: item for item in kind.fields}
    tags = [kind.tag_field] if kind.tag_field else []
    for name, (line, value) in branch.items():
        here = f"{field}.{name}" if field else name
        if name in known:
            _check(value, known[name].type, here, faults)
        elif name not in tags:
            faults.append(Fault(line, here, "unknown field" + suggestion(name, [*known, *tags])))
    for name, item in known.items():
        if item.required and name not in branch:
            faults.append(Fault(tree.line, f"{field}.{name}" if field else name, "missing" + _described(item.type)))


def _branch(tree: Tree, field: str, faults: list[Fault]) -> Mapping[str, tuple[int, Tree]] | None:
    if isinstance(tree, Branch):
        return tree.items
    faults.append(Fault(tree.line, field, f"expected a map of fields, got {_named(tree)}"))
    return None


def _check_row(tree: Tree, kind: inspect.VarTupleType | inspect.ListType, field: str, faults: list[Fault]) -> None:
    if not isinstance(tree, Row):
        faults.append(Fault(tree.line, field, f"expected a list, got {_named(tree)}"))
        return
    if kind.min_length is not None and len(tree.items) < kind.min_length:
        faults.append(Fault(tree.line, field, f"needs {kind.min_length} or more entries"))
    if kind.max_length is not None and len(tree.items) > kind.max_length:
        faults.append(Fault(tree.line, field, f"more than {kind.max_length} entries"))
    for number, value in enumerate(tree.items):
        _check(value, kind.item_type, f"{field}[{number}]", faults)


def _check_union(tree: Tree, types: tuple[inspect.Type, ...], field: str, faults: list[Fault]) -> None:
    """Take the first member that fits; of several misfits, the one that names what was expected best."""
    attempts: list[list[Fault]] = []
    for kind in types:
        attempt: list[Fault] = []
        _check(tree, kind, field, attempt)
        if not attempt:
            return
        attempts.append(attempt)
    inside = [attempt for attempt in attempts if all(fault.field != field for fault in attempt)]
    if len(inside) == 1:  # the right kind of value, with something wrong in it
        faults.extend(inside[0])
        return
    others = [types[number] for number in range(len(types)) if not isinstance(types[number], inspect.NoneType)]
    if len(others) == 1:
        faults.extend(attempts[types.index(others[0])])
    else:
        wanted = " or ".join(_wanted(kind) for kind in others)
        faults.append(Fault(tree.line, field, f"expected {wanted}, got {_named(tree)}"))


def _check_unit(leaf: Leaf, unit: str, field: str, faults: list[Fault]) -> None:
    if leaf.value is None:
        return
    try:
        if _UNITS[unit](leaf.value) < 0:
            faults.append(Fault(leaf.line, field, f"{shown(leaf.value)} is negative"))
    except (ValueError, OverflowError) as error:
        faults.append(Fault(leaf.line, field, str(error)))


def _scalar_message(tree: Tree, kind: inspect.Type) -> str:
    """Return what is wrong with a scalar, "" when it fits."""
    value = tree.value if isinstance(tree, Leaf) else tree
    match kind:
        case inspect.NoneType() if value is None:
            return ""
        case inspect.BoolType() if isinstance(value, bool):
            return ""
        case inspect.StrType() if isinstance(value, str):
            return _text_message(value, kind)
        case inspect.IntType() if isinstance(value, int) and not isinstance(value, bool):
            return _bounds_message(value, kind)
        case inspect.FloatType() if isinstance(value, int | float) and not isinstance(value, bool):
            return _bounds_message(value, kind)
        case inspect.LiteralType(values=values):
            if value in values and not isinstance(value, bool):
                return ""
            words = [str(word) for word in values]
            hint = suggestion(value, words) if isinstance(value, str) else ""
            return f"expected {' or '.join(words)}, got {_named(tree)}" + (hint if "did you" in hint else "")
    hint = ""
    if isinstance(kind, inspect.StrType) and isinstance(value, int | float):
        hint = f'; write it in quotes: "{shown(value)}"'
    return f"expected {_wanted(kind)}, got {_named(tree)}{hint}"


def _text_message(value: str, kind: inspect.StrType) -> str:
    # fullmatch: `$` alone would let a trailing newline through.
    if kind.pattern is not None and re.fullmatch(kind.pattern, value) is None:
        return f"{shown(value)} is refused"
    if kind.min_length is not None and len(value) < kind.min_length:
        return f"shorter than {kind.min_length} characters"
    if kind.max_length is not None and len(value) > kind.max_length:
        return f"longer than {kind.max_length} characters"
    return ""


def _bounds_message(value: float, kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and value < kind.ge:
        return f"{value} is less than {kind.ge}"
    if kind.gt is not None and value <= kind.gt:
        return f"{value} is not more than {kind.gt}"
    if kind.le is not None and value > kind.le:
        return f"{value} is more than {kind.le}{_share(value, kind, kind.le)}"
    if kind.lt is not None and value >= kind.lt:
        return f"{value} is not less than {kind.lt}{_share(value, kind, kind.lt)}"
    return ""


def _share(value: float, kind: inspect.IntType | inspect.FloatType, most: float) -> str:
    """Return how a percentage is written where a share is asked for."""
    is_ratio = isinstance(kind, inspect.FloatType)
    return f"; it is a share: {value:.10g} % is {value / 100:.10g}" if is_ratio and most == 1 < value <= 100 else ""


def _wanted(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata(type=inner):
            return _wanted(inner)
        case inspect.StrType():
            return "text"
        case inspect.IntType():
            return "a whole number"
        case inspect.FloatType():
            return "a number"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType(values=values):
            return " or ".join(str(word) for word in values)
        case inspect.NoneType():
            return "nothing"
        case inspect.VarTupleType() | inspect.ListType():
            return "a list"
        case _:
            return "a map of fields"


def _named(tree: Tree) -> str:
    match tree:
        case Leaf():
            return shown(tree.value)
        case Row():
            return "a list"
        case Branch():
            return "a map"


def _described(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.Metadata):
        text = (kind.extra_json_schema or {}).get("description")
        return f"; {text}" if text else ""
    return ""
