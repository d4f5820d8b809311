"""Which JSON Schemas a language model's answer can be held to, and whether an answer keeps to one.

An engine that cannot enforce a schema may ignore it without a word, so a schema is checked here before it reaches one,
keyword by keyword, and the answer is checked again afterwards. The supported subset is what constrained decoding really
enforces (llguidance); anything else is refused with its path, because a keyword silently dropped is a promise broken.
"""

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from stoker.types.errors import InvalidInput

SCHEMA_BYTES_MAX = 64 * 2**10
DEPTH_MAX = 64
NODES_MAX = 4096
ANSWER_DEPTH_MAX = 100  # of one comparison, schemas in schemas included; the interpreter's own stack ends at 1000 calls
STEPS_MAX = 20_000  # of one comparison, about 20 ms; a hostile schema can ask for exponentially many
REPEAT_MAX = 100_000  # minLength, maxItems and their like: each repetition is state in the engine's automaton

Schema = dict[str, Any] | bool

_TYPES = {"object", "array", "string", "number", "integer", "boolean", "null"}
_ANNOTATIONS = {
    "$comment",
    "$id",
    "$schema",
    "default",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
}
_COUNTS = {"minItems", "maxItems", "minLength", "maxLength"}
_BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
_MAPS = {"properties", "patternProperties", "$defs", "definitions"}
_LISTS = {"anyOf", "oneOf", "allOf", "prefixItems"}
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}


def check_schema(schema: Any, field: str) -> dict[str, Any]:
    """Return `schema` if an answer can be held to it. Raises InvalidInput with the path of what cannot."""
    if not isinstance(schema, dict):
        raise InvalidInput(f"{field} is not an object: a JSON Schema was expected", field=field)
    try:
        size = len(msgspec.json.encode(schema))
    except RecursionError as deep:
        raise InvalidInput(f"{field} is nested too deeply", field=field) from deep
    if size > SCHEMA_BYTES_MAX:
        raise InvalidInput(f"{field} has {size} bytes; at most {SCHEMA_BYTES_MAX} are allowed", field=field)
    for nodes, (node, path, depth) in enumerate(_walk(schema, field)):
        if depth > DEPTH_MAX or nodes >= NODES_MAX:
            raise InvalidInput(
                f"{field} is too large: at most {DEPTH_MAX} levels and {NODES_MAX} schemas are allowed", field=field
            )
        _check_node(node, schema, path)
    return schema


def violation(text: str, schema: dict[str, Any]) -> str | None:
    """Return what is wrong with `text` as an answer under a checked `schema`, None when it keeps to it.

    `pattern` and `format` are left to the engine: another regular expression dialect would only disagree with it.
    """
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as broken:
        return f"it is not JSON: {broken}"
    return _Comparison(schema).differs(value, schema, "$", 0)


def _walk(schema: Any, field: str) -> Iterator[tuple[Any, str, int]]:
    """Yield every schema inside `schema` with its path and depth, without recursion."""
    stack: list[tuple[Any, str, int]] = [(schema, field, 0)]
    while stack:
        node, path, depth = stack.pop()
        yield node, path, depth
        if not isinstance(node, dict) or depth > DEPTH_MAX:
            continue
        for key in _MAPS & node.keys():
            if isinstance(node[key], dict):
                stack.extend((inner, f"{path}.{key}.{name}", depth + 1) for name, inner in node[key].items())
        for key in _LISTS & node.keys():
            if isinstance(node[key], list):
                stack.extend((inner, f"{path}.{key}[{at}]", depth + 1) for at, inner in enumerate(node[key]))
        stack.extend(
            (node[key], f"{path}.{key}", depth + 1) for key in ("items", "additionalProperties") if key in node
        )


def _check_node(node: Any, root: dict[str, Any], path: str) -> None:
    if isinstance(node, bool):
        return
    if not isinstance(node, dict):
        raise InvalidInput(f"{path} is not a schema: an object was expected", field=path)
    for key, value in node.items():
        problem = _keyword_problem(key, value, root)
        if problem:
            raise InvalidInput(f"{path}.{key} {problem}", field=f"{path}.{key}")


def _keyword_problem(key: str, value: Any, root: dict[str, Any]) -> str | None:
    """Return what is wrong with one keyword, in words that follow its path."""
    if key in _ANNOTATIONS:
        return None
    if key == "type":
        return _type_problem(value)
    if key == "$ref":
        return (
            None if _target(value, root) is not None else f"is {value!r}: only references into this schema are followed"
        )
    if key in _MAPS:
        return None if isinstance(value, dict) else "must be an object of schemas"
    if key in _LISTS:
        return None if isinstance(value, list) and value else "must be a list of schemas that is not empty"
    if key in ("items", "additionalProperties"):
        return None if isinstance(value, dict | bool) else "must be a schema"
    if key == "required":
        is_names = isinstance(value, list) and all(isinstance(name, str) for name in value)
        return None if is_names else "must be a list of names"
    if key == "enum":
        return None if isinstance(value, list) and value else "must be a list that is not empty"
    if key in _COUNTS:
        is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= REPEAT_MAX
        return None if is_count else f"must be a whole number from 0 to {REPEAT_MAX}"
    if key in _BOUNDS:
        return None if isinstance(value, int | float) and not isinstance(value, bool) else "must be a number"
    if key == "pattern":
        return None if isinstance(value, str) else "must be a regular expression"
    if key == "format":
        return None if value in _FORMATS else f"is {value!r}; known are {', '.join(sorted(_FORMATS))}"
    return None if key == "const" else "is a keyword that cannot be enforced here"


def _type_problem(value: Any) -> str | None:
    names = value if isinstance(value, list) and value else [value]
    wrong = [name for name in names if not isinstance(name, str) or name not in _TYPES]
    return f"is {wrong[0]!r}; known are {', '.join(sorted(_TYPES))}" if wrong else None


def _target(reference: Any, root: dict[str, Any]) -> Schema | None:
    """Return the schema that a local reference means, None when there is none."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return None
    found: Any = root
    for step in reference[2:].split("/") if len(reference) > 1 else ():
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found if isinstance(found, dict | bool) else None


def _is_of(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    match name:
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        case "number":
            return isinstance(value, int | float)
        case _:
            return name == "null" and value is None


class _Comparison:
    """Compares one answer with one schema. What lies past the limits passes: the engine was to enforce it already."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._steps = 0

    def differs(self, value: Any, schema: Schema, path: str, depth: int) -> str | None:
        """Return how `value` breaks `schema`, None when it does not."""
        self._steps += 1
        if isinstance(schema, bool):
            return None if schema else f"{path} must not be there"
        if self._steps > STEPS_MAX or depth > ANSWER_DEPTH_MAX:
            return None
        problem = _plain_difference(value, schema, path) or self._combined(value, schema, path, depth + 1)
        if problem:
            return problem
        if isinstance(value, dict):
            return self._object(value, schema, path, depth + 1)
        if isinstance(value, list):
            return self._array(value, schema, path, depth + 1)
        return None

    def _combined(self, value: Any, schema: dict[str, Any], path: str, depth: int) -> str | None:
        for key in ("anyOf", "oneOf"):
            if key in schema and all(self.differs(value, option, path, depth) for option in schema[key]):
                return f"{path} fits no schema of {key}"
        parts = list(schema.get("allOf", ()))
        if "$ref" in schema:
            target = _target(schema["$ref"], self._root)
            parts.extend(() if target is None else (target,))
        problems = (self.differs(value, part, path, depth) for part in parts)
        return next((problem for problem in problems if problem), None)

    def _object(self, value: dict[str, Any], schema: dict[str, Any], path: str, depth: int) -> str | None:
        known: dict[str, Schema] = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                return f"{path}.{name} is missing"
        # Names that match a pattern are the engine's to judge; see `violation`.
        others: Schema = True if "patternProperties" in schema else schema.get("additionalProperties", True)
        for name, inner in value.items():
            problem = self.differs(inner, known.get(name, others), f"{path}.{name}", depth)
            if problem:
                return problem
        return None

    def _array(self, value: list[Any], schema: dict[str, Any], path: str, depth: int) -> str | None:
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
            return f"{path} has {len(value)} items, which is not what the schema allows"
        first: list[Schema] = schema.get("prefixItems", [])
        rest: Schema = schema.get("items", True)
        for at, inner in enumerate(value):
            problem = self.differs(inner, first[at] if at < len(first) else rest, f"{path}[{at}]", depth)
            if problem:
                return problem
        return None


def _plain_difference(value: Any, schema: dict[str, Any], path: str) -> str | None:
    """Return how `value` breaks the keywords that need no other schema."""
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(_is_of(value, name) for name in names):
            return f"{path} is not of type {' or '.join(names)}"
    if "const" in schema and value != schema["const"]:
        return f"{path} is not the one value allowed"
    if "enum" in schema and value not in schema["enum"]:
        return f"{path} is none of the values allowed"
    if isinstance(value, str):
        is_of_length = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf)
        return None if is_of_length else f"{path} has {len(value)} characters, which is not what the schema allows"
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    is_within = schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf)
    is_within &= schema.get("exclusiveMinimum", -math.inf) < value < schema.get("exclusiveMaximum", math.inf)
    return None if is_within else f"{path} is {value}, which is out of bounds"
