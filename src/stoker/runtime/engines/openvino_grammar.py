"""From a checked JSON Schema to what xgrammar is given: a grammar of compact JSON where we can write one.

Given a schema, the pipeline lets a model put any amount of white space between two tokens of JSON, and a small model
then writes little else: 2 of 6 answers of SmolLM2 ended by their length in the middle of blank lines. So the common
part of JSON Schema becomes a grammar without white space here; the rest goes to xgrammar as a schema, and what that
would drop without a word is refused.
"""

from typing import Any

import msgspec

from stoker.types.errors import Unsupported

RANGE_MAX = 256  # whole numbers between two bounds that are written out
_INTEGER = '"-"? ("0" | [1-9] [0-9]{0,15})'
_NATURAL = '"0" | [1-9] [0-9]{0,15}'
_POSITIVE = "[1-9] [0-9]{0,15}"
# The rules that the others use. A string holds no control characters, so no line ends either.
_BASE = r"""
jvalue ::= jobject | jarray | jstring | jnumber | "true" | "false" | "null"
jobject ::= "{" (jstring ":" jvalue ("," jstring ":" jvalue)*)? "}"
jarray ::= "[" (jvalue ("," jvalue)*)? "]"
jstring ::= "\"" jchar* "\""
jchar ::= [^"\\\x00-\x1f] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})
jnumber ::= "-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]{1,15})? ([eE] [+-]? [0-9]{1,2})?
"""
_ANNOTATIONS = {"title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly"}
_ASIDE = _ANNOTATIONS | {"$schema", "$id", "$comment", "$defs", "definitions", "discriminator"}
_VALUES = {"const", "enum", "default", "example", "examples"}  # hold values, not schemas
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_SIMPLE = {"null": '"null"', "boolean": '"true" | "false"', "number": "jnumber"}


class _Other(Exception):
    """A schema that is not written as a grammar here."""


def compact_grammar(schema: dict[str, Any]) -> str:
    """Return an EBNF grammar (root rule `root`) of compact JSON under a checked `schema`, "" where we write none."""
    writer = _Writer(schema)
    try:
        root = writer.of(schema)
    except (_Other, RecursionError):
        return ""
    return "\n".join([f"root ::= {root}", *writer.rules, _BASE])


def refuse_unenforced(schema: Any, field: str) -> None:
    """Raise Unsupported for keywords that xgrammar drops without a word."""
    if isinstance(schema, list):
        for inner in schema:
            refuse_unenforced(inner, field)
    if not isinstance(schema, dict):
        return
    kinds = schema.get("type")
    is_whole = kinds in ("integer", ["integer"])
    dropped = [name for name in _BOUNDS if isinstance(schema.get(name), int | float) and not is_whole]
    dropped += ["multipleOf"] if isinstance(schema.get("multipleOf"), int | float) else []
    dropped += ["allOf"] if isinstance(schema.get("allOf"), list) and len(schema["allOf"]) > 1 else []
    if isinstance(schema.get("pattern"), str):
        dropped += [name for name in ("minLength", "maxLength", "format") if name in schema]
    if dropped:
        raise Unsupported(
            f"{field}: the openvino engine cannot enforce {dropped[0]}; use the llamacpp engine", field=field
        )
    for name, inner in schema.items():
        if name not in _VALUES:
            refuse_unenforced(inner, field)


class _Writer:
    """Writes the rules of one schema; a rule for each reference and each object, text for the rest."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.rules: list[str] = []
        self._root = root
        self._names: dict[str, str] = {}
        self._count = 0

    def of(self, schema: Any) -> str:
        """Return what matches `schema`, fit to stand in a sequence. Raises _Other."""
        if schema is True or schema == {}:
            return "jvalue"
        if not isinstance(schema, dict):
            raise _Other
        keys = schema.keys() - _ASIDE
        if "$ref" in keys and len(keys) == 1:
            return self._reference(schema["$ref"])
        for name in ("const", "enum"):
            if name in keys and keys <= {name, "type"}:
                values = schema[name] if name == "enum" else [schema[name]]
                return _group([_literal(msgspec.json.encode(value).decode()) for value in values])
        for name in ("anyOf", "oneOf", "allOf"):
            if keys == {name} and (name != "allOf" or len(schema[name]) == 1):
                return _group([self.of(inner) for inner in schema[name]])
        kinds = schema.get("type")
        if isinstance(kinds, list):
            if keys != {"type"}:
                raise _Other
            return _group([self._typed(kind, {}, set()) for kind in kinds])
        if kinds is None:
            raise _Other
        return self._typed(kinds, schema, keys - {"type"})

    def _typed(self, kind: str, schema: dict[str, Any], keys: set[str]) -> str:
        match kind:
            case "object" if keys <= {"properties", "required", "additionalProperties"}:
                return self._object(schema)
            case "array" if keys <= {"items", "minItems", "maxItems"}:
                return self._array(schema)
            case "string" if keys <= {"minLength", "maxLength"}:
                if not keys:
                    return "jstring"
                most = schema.get("maxLength", "")
                return f'"\\"" jchar{{{schema.get("minLength", 0)},{most}}} "\\""'
            case "integer" if keys <= {"minimum", "maximum"}:
                return _group([_integer(schema.get("minimum"), schema.get("maximum"))])
            case _ if kind in _SIMPLE and not keys:
                return _group([_SIMPLE[kind]])
        raise _Other

    def _object(self, schema: dict[str, Any]) -> str:
        """Properties come in the schema's order; others only where there are none of its own."""
        known, required = schema.get("properties", {}), set(schema.get("required", ()))
        others = schema.get("additionalProperties")
        if not known:
            if required or others is False:
                raise _Other
            pair = f'jstring ":" {self.of(True if others is None else others)}'
            return self._rule(f'"{{" ({pair} ("," {pair})*)? "}}"')
        if others not in (None, False) or required - known.keys():
            raise _Other
        # first: nothing stands before it; later: something does. Built from the last property to the first.
        first, later = '""', '""'
        for name, inner in reversed(known.items()):
            pair = f"{_literal(msgspec.json.encode(name).decode() + ':')} {self.of(inner)}"
            after = self._rule(later)
            if name in required:
                first, later = f"{pair} {after}", f'"," {pair} {after}'
            else:
                first, later = f"{pair} {after} | {self._rule(first)}", f'"," {pair} {after} | {after}'
        return f'"{{" {self._rule(first)} "}}"'

    def _array(self, schema: dict[str, Any]) -> str:
        item = self._rule(self.of(schema.get("items", True)))
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if most == 0:
            return '"[" "]"'
        more = f'("," {item}){{{max(0, least - 1)},{"" if most is None else most - 1}}}'
        return f'"[" {item} {more} "]"' if least else f'"[" ({item} {more})? "]"'

    def _reference(self, reference: str) -> str:
        if reference not in self._names:
            found: Any = self._root
            for step in reference[2:].split("/") if len(reference) > 1 else ():
                found = found[step.replace("~1", "/").replace("~0", "~")]
            self._count += 1
            self._names[reference] = name = f"r{self._count}"
            self.rules.append(f"{name} ::= {self.of(found)}")
        return self._names[reference]

    def _rule(self, body: str) -> str:
        if body == '""' or body.isalnum():
            return body
        self._count += 1
        self.rules.append(f"r{self._count} ::= {body}")
        return f"r{self._count}"


def _integer(least: Any, most: Any) -> str:
    if most is None and least is None:
        return _INTEGER
    if most is None and least in (0, 1):
        return _POSITIVE if least else _NATURAL
    if isinstance(least, int) and isinstance(most, int) and 0 <= most - least < RANGE_MAX:
        return " | ".join(f'"{value}"' for value in range(least, most + 1))
    raise _Other


def _group(options: list[str]) -> str:
    return options[0] if len(options) == 1 and "|" not in options[0] else f"({' | '.join(options)})"


def _literal(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
