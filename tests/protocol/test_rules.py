"""Rules over a request: what may be written, what is refused with which words, what they see."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.protocol import manifest, rules

KEY = {"id": "k", "project": "p", "is_admin": False}


def holds(text: str, tier: str = "", hour: int = 12, **facts: object) -> bool:
    return rules.Context({**rules.REQUEST, **facts}, {"x-stoker-tier": tier}, KEY, hour).holds(rules.Rule(text))


def test_a_rule_sees_the_request_headers_key_and_hour() -> None:
    assert holds("request.input_tokens > 2000", input_tokens=2001)
    assert not holds("request.input_tokens > 2000", input_tokens=2000)
    assert holds("headers['x-stoker-tier'] == 'gold' && !request.stream", tier="gold")
    assert holds("hour >= 22 || hour < 6", hour=3)
    assert holds("key.project == 'p' && request.method in ['chat', 'completions'] && !request.has_tools")
    assert holds("request.max_tokens * 2 + request.input_tokens > 1000 ? true : request.messages > 9", max_tokens=600)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1:1"),
        ("1 +", "1:4: Syntax error"),
        ("request.input_tokens", "it gives int, not true or false"),
        ("request.tokens > 1", "request has no field 'tokens'; it has bytes"),
        ("false && request.tokens > 1", "request has no field 'tokens'"),
        ("reqest.bytes > 1", "unknown name 'reqest'"),
        ("headers['user-agent'] == ''", "headers are x-stoker-tier"),
        ("request.bytes > 'a'", "No such overload"),
        ("[1, 2].exists(x, x == hour)", "exists() is not for rules"),
        ("[1].map //\n (x, x) == [1]", "map() is not for rules"),
        ("headers['x-stoker-tier'].matches('a+')", "matches() is not for rules"),
        ("nothing(1)", "nothing"),
        ("(" * 400 + "true" + ")" * 400, "Recursion limit"),
        ("true || " * 200 + "true", "longer than 1000 characters"),
    ],
)
def test_what_is_no_rule_is_refused_in_words(text: str, said: str) -> None:
    assert said in rules.check(text)


@given(st.text("request.bytes[]()'\"&|!=<>+-/%? :0123456789{}", max_size=80))
def test_no_text_breaks_the_checker(text: str) -> None:
    assert isinstance(rules.check(text), str)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("request.bytes > 1 && headers['x-stoker-tier'] == ''", {"bytes", "headers"}),
        ("hour > 3", set()),
        ("key.is_admin", {"is_admin"}),
        ("request['bytes'] > 1", {*rules.REQUEST, *rules.KEY, "headers"}),
        ("size(request) > 1", {*rules.REQUEST, *rules.KEY, "headers"}),
    ],
)
def test_only_values_that_a_rule_names_are_made_for_it(text: str, names: set[str]) -> None:
    rule = rules.Rule(text)
    assert rule.needs == names
    seen = rules.facts("chat", b'{"messages": [{"content": "abcdefgh"}]}', stream=True, needs=rule.needs)
    assert set(seen) == names & set(rules.REQUEST)
    key = {name: value for name, value in KEY.items() if name in names}
    assert rules.Context(seen, {"x-stoker-tier": ""}, key, 12).holds(rule) is not None


def test_a_rule_that_fails_says_so_and_is_no_truth() -> None:
    with pytest.raises(ValueError, match="division by zero"):
        holds("1 / request.max_tokens == 5", max_tokens=0)


def test_tokens_are_estimated_from_texts_and_parts() -> None:
    parts = [{"type": "text", "text": "x" * 374}]
    chat = {"messages": [{"role": "user", "content": "y" * 400}, {"role": "user", "content": parts}], "tools": [{}]}
    seen = rules.facts("chat", json.dumps({**chat, "max_tokens": 3}).encode(), stream=True)
    assert 195 <= seen.pop("input_tokens") <= 205
    assert seen.pop("bytes") > 700
    assert seen == {"method": "chat", "max_tokens": 3, "messages": 2, "has_tools": True, "stream": True}
    assert rules.facts("completions", b'{"prompt": "abcdefgh"}', stream=False)["input_tokens"] == 2
    assert rules.facts("embeddings", b'{"input": ["abcdef"]}', stream=False)["input_tokens"] == 2
    infer = {**dict.fromkeys(rules.REQUEST, 0), "method": "infer", "bytes": 2, "has_tools": False, "stream": False}
    assert rules.facts("infer", b"\0\1", stream=False) == infer


def test_who_has_no_rules_does_not_load_the_language() -> None:
    code = "import sys, stoker.app.gateway_main, stoker.protocol.manifest as m; m.load(b'{kind: Endpoint, metadata: "
    code += "{name: a}, spec: {model: m}}'); print([n for n in sys.modules if n.split('.')[0] in ('cel', 'typer')])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


MANY_WRONG = """kind: Endpoint
metadata: {name: tier}
spec:
  backends:
  - endpoint: small
    weight: 9
  - endpoint: big
    weight: 2
    when: request.tokens > 2000
  - endpoint: small
  engine: onnx
  replicas: {min: 2, max: 2}
  fallback: [a, b,
     a]
  fallback_on: []
  breaker: {open_for: 90s, window: 0}
---
kind: Endpoint
metadata: {name: none}
spec: {backends: [{endpoint: a, when: "true"}], fallback_after: 2h}
---
kind: Endpoint
metadata: {name: why}
spec: {model: m, fallback_on: [tired]}
"""


def test_a_manifest_gets_every_error_of_its_chains_with_line_and_field() -> None:
    with pytest.raises(manifest.ManifestError) as caught:
        manifest.load(MANY_WRONG)
    assert [(each.line, each.field) for each in caught.value.problems] == [
        (8, "spec.backends[1].weight"),
        (9, "spec.backends[1].when"),
        (10, "spec.backends[2].endpoint"),
        (11, "spec.engine"),
        (12, "spec.replicas"),
        (14, "spec.fallback[2]"),
        (15, "spec.fallback_on"),
        (16, "spec.breaker.window"),
        (16, "spec.breaker.open_for"),
        (20, "spec.backends"),
        (20, "spec.fallback_after"),
        (24, "spec.fallback_on[0]"),
    ]


def test_the_line_of_a_field_is_found_again_for_what_only_control_knows() -> None:
    text = "kind: Endpoint\nmetadata: {name: a}\nspec: {model: m}\n---\n- kind: Endpoint\n  metadata: {name: b}\n"
    text += "  spec:\n    model: m\n    fallback:\n    - a\n    - c\n"
    assert manifest.line_of_field(text, ("Endpoint", "default", "b"), "spec.fallback[1]") == 11
    assert manifest.line_of_field(text, ("Endpoint", "default", "a"), "spec.model") == 3
    assert manifest.line_of_field(text, ("Endpoint", "default", "z"), "spec.model") == 0
