"""Which schemas are taken, and which answers keep to them. Pure, without an engine."""

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.protocol.openai import FunctionDef, Tool
from stoker.runtime.engines.json_schema import DEPTH_MAX, NODES_MAX, check_schema, violation
from stoker.runtime.engines.tools import CallReader, call_schema
from stoker.types.errors import InvalidInput

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


def schema_of(value: Any) -> dict[str, Any]:
    """Return a schema that describes exactly the shape of `value`."""
    if isinstance(value, dict):
        properties = {name: schema_of(inner) for name, inner in value.items()}
        return {"type": "object", "properties": properties, "required": list(value), "additionalProperties": False}
    if isinstance(value, list):
        first = {"prefixItems": [schema_of(inner) for inner in value]} if value else {}
        return {"type": "array", "minItems": len(value), "maxItems": len(value), **first}
    return {"const": value}


@given(VALUES)
def test_a_value_keeps_to_the_schema_of_its_shape(value: Any) -> None:
    schema = check_schema(schema_of(value), "schema")
    assert violation(json.dumps(value), schema) is None


@given(VALUES, VALUES)
def test_another_value_does_not_keep_to_it(value: Any, other: Any) -> None:
    if json.dumps(value) != json.dumps(other) and value != other:
        assert violation(json.dumps(other), schema_of(value)) is not None


@given(st.recursive(VALUES, lambda inner: st.dictionaries(st.sampled_from(["type", "items", "anyOf", "$ref"]), inner)))
def test_any_json_is_taken_or_refused_and_nothing_else(schema: Any) -> None:
    with contextlib.suppress(InvalidInput):
        violation("{}", check_schema(schema, "schema"))


@pytest.mark.parametrize(
    ("text", "schema", "words"),
    [
        ("{", {}, "not JSON"),
        ("1", {"type": "string"}, "not of type string"),
        ("true", {"type": "integer"}, "not of type integer"),
        ("1.0", {"type": "integer"}, None),
        ("null", {"type": ["string", "null"]}, None),
        ('{"a":{"b":1}}', {"properties": {"a": {"properties": {"b": {"type": "string"}}}}}, r"\$\.a\.b"),
        ("{}", {"required": ["a"]}, "a is missing"),
        ('{"a":1}', {"additionalProperties": False}, "must not be there"),
        ('{"a":1}', {"additionalProperties": False, "patternProperties": {"a": {}}}, None),
        ("[1,2,3]", {"maxItems": 2}, "3 items"),
        ('"abc"', {"maxLength": 2}, "3 characters"),
        ("5", {"maximum": 4}, "out of bounds"),
        ("4", {"exclusiveMaximum": 4}, "out of bounds"),
        ("3", {"enum": [1, 2]}, "none of the values"),
        ("3", {"anyOf": [{"type": "string"}, {"maximum": 2}]}, "no schema of anyOf"),
        ("3", {"allOf": [{"type": "integer"}, {"maximum": 2}]}, "out of bounds"),
        ("3", {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "string"}}}, "not of type"),
    ],
    ids=str,
)
def test_a_difference_is_named(text: str, schema: dict[str, Any], words: str | None) -> None:
    found = violation(text, check_schema(schema, "schema"))
    if words is None:
        assert found is None
    else:
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(found)


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        5,
        [],
        None,
        "x",
        nested(DEPTH_MAX + 1),
        {"properties": {str(n): {} for n in range(NODES_MAX + 1)}},
        {"title": "x" * 70_000},
    ],
    ids=lambda schema: str(schema)[:20],
)
def test_what_is_no_schema_or_too_large_is_refused(schema: Any) -> None:
    with pytest.raises(InvalidInput):
        check_schema(schema, "schema")
    check_schema(nested(DEPTH_MAX), "schema")


def test_a_comparison_that_would_take_for_ever_ends() -> None:
    twice = {"anyOf": [{"properties": {"a": {"$ref": "#/$defs/n"}}, "required": ["b"]}] * 2}
    schema = check_schema({"$ref": "#/$defs/n", "$defs": {"n": twice, "loop": {"$ref": "#/$defs/loop"}}}, "schema")
    start_s = time.thread_time()
    violation('{"a":' * 100 + "1" + "}" * 100, schema)
    violation("1", {"$ref": "#/$defs/loop", "$defs": schema["$defs"]})
    assert time.thread_time() - start_s < 2


@given(
    st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=6), max_size=3),
    st.lists(st.integers(1, 9), max_size=30),
)
def test_a_call_is_read_the_same_however_its_text_is_cut(arguments: dict[str, Any], cuts: list[int]) -> None:
    body = json.dumps(arguments, separators=(",", ":"))
    rest = '{"name":"f_1","arguments":' + body + "}"
    reader = CallReader("call_1", must=False)
    name, joined = "", ""
    for size in [*cuts, len(rest)]:
        piece, rest = rest[:size], rest[size:]
        text, calls = reader.feed(piece) if piece else ("", ())
        assert text == ""
        name += "".join(call.name for call in calls)
        joined += "".join(call.arguments for call in calls)
    assert reader.end(is_cut=False) == ("", ())
    assert (name, joined) == ("f_1", body)
    assert reader.is_call


@given(st.text(min_size=1).filter(lambda text: not text.startswith("{")), st.integers(1, 5))
def test_text_is_passed_on_as_it_comes(text: str, size: int) -> None:
    reader = CallReader("call_1", must=False)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert "".join(reader.feed(piece)[0] for piece in pieces) == text
    assert not reader.is_call


def test_references_of_tools_do_not_meet() -> None:
    inner = {"type": "object", "properties": {"x": {"$ref": "#/$defs/N"}}, "required": ["x"]}
    tools = [
        Tool(FunctionDef("a", parameters={**inner, "$defs": {"N": {"type": "integer"}}})),
        Tool(FunctionDef("b", parameters={**inner, "$defs": {"N": {"type": "string"}}})),
    ]
    schema = check_schema(call_schema(tools), "schema")
    assert violation('{"name":"a","arguments":{"x":1}}', schema) is None
    assert violation('{"name":"b","arguments":{"x":"s"}}', schema) is None
    assert violation('{"name":"b","arguments":{"x":1}}', schema) is not None
