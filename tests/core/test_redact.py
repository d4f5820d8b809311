"""What is kept of a request that kills: its form, never its words."""

import json
import time
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from stoker.core import redact

MASKS = set("xX9 .\n\x01é語🎉")
# Letters that no field name and no mask has four of in a row.
secret = st.text(alphabet="qzjkvwüßж漢🚀QZJ", min_size=4, max_size=40)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | secret,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(secret | st.sampled_from(["content", "model"]), inner),
    max_leaves=30,
)


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    if isinstance(value, dict):
        return [text for name, item in value.items() for text in (name, *strings(item))]
    return []


@given(json_values)
def test_no_four_letters_of_any_text_survive(value: Any) -> None:
    kept = json.dumps(redact.body(msgspec.json.encode(value)), ensure_ascii=False)
    for text in strings(value):
        if text not in ("content", "model"):
            for at in range(len(text) - 3):
                assert text[at : at + 4] not in kept


@given(st.text())
@example("it's 12:30\r\n\tOK ✓")
def test_a_mask_has_the_same_size_and_nothing_of_the_text(text: str) -> None:
    masked = redact.mask(text)
    assert len(masked) == len(text)
    assert len(masked.encode("utf-8", "replace")) == len(text.encode("utf-8", "replace")) or any(
        0xD800 <= ord(letter) < 0xE000 for letter in text
    )
    assert set(masked) <= MASKS


PARAMETERS = {"properties": {"iban": {"type": "string", "maxLength": 22}}}


def test_the_form_of_a_chat_is_kept() -> None:
    body = {
        "model": "smol",
        "messages": [{"role": "user", "content": "My PIN is 4711!\n"}],
        "max_tokens": 17,
        "temperature": 0.5,
        "tools": [{"type": "function", "function": {"name": "pay", "parameters": PARAMETERS}}],
        "metadata": {"age": 42},
    }  # fmt: skip
    kept = redact.body(json.dumps(body).encode())
    assert kept["messages"] == [{"role": "user", "content": "Xx XXX xx 9999.\n"}]
    assert (kept["max_tokens"], kept["temperature"], kept["model"]) == (17, 0.5, "xxxx")
    parameters = kept["tools"][0]["function"]["parameters"]
    assert parameters == {"properties": {"xxxx #0": {"type": "string", "maxLength": 22}}}
    assert kept["xxxxxxxx #5"] == {"xxx #0": 0}


def test_tensors_keep_name_shape_type_and_bounds_and_token_ids_are_no_numbers_to_keep() -> None:
    tensor = {"name": "input", "datatype": "FP32", "shape": [2, 3], "data": [[1.25, 0, 3], [4, 5, 61234]]}
    kept = redact.body(json.dumps({"inputs": [tensor]}).encode())["inputs"][0]
    assert kept["datatype"] == "FP32"
    assert kept["shape"] == [2, 3]
    assert kept["name"] == "xxxxx"
    assert kept["data"][0] == {"numbers": 3, "min": 0.0, "max": 3.0, "whole": 2, "zeros": 1}
    assert kept["data"][1]["max"] == 60000.0
    assert redact.body(b'{"prompt": [15496, 995]}')["prompt"] == {
        "numbers": 2, "min": 1000.0, "max": 20000.0, "whole": 2, "zeros": 0,
    }  # fmt: skip
    head = json.dumps({"inputs": []}).encode()
    assert redact.body(head + b"\x00" * 40, len(head)) == {"json": {"inputs": []}, "binary_bytes": 40}


def test_what_is_no_json_or_too_large_is_only_measured() -> None:
    assert redact.body(b"please die now") == {"bytes": 14, "why": "no JSON"}
    assert redact.body(b"[" * 100_000)["why"] == "no JSON"
    assert redact.body(b'"' + b"x" * redact.BODY_MAX_BYTES + b'"')["why"] == "too large to be read"


def test_what_is_kept_is_bounded_and_takes_time_in_proportion() -> None:
    worst = [
        {"messages": [{"content": "word " * 50_000}] * 15},
        {"messages": [["ab" * 8] * 60] * 2_000},
        {f"name{n}": {f"inner{m}": "text" for m in range(200)} for n in range(200)},
        {"data": [[[n] * 5 for n in range(500)] for _ in range(500)]},
    ]
    for body in worst:
        data = json.dumps(body).encode()
        began_s = time.thread_time()
        kept = redact.body(data)
        spent_s = time.thread_time() - began_s
        assert len(json.dumps(kept)) < 1_500_000
        assert spent_s < 3, f"{len(data)} bytes took {spent_s:.2f} s"


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else "deep"


def test_what_is_deep_is_cut() -> None:
    kept = json.dumps(redact.body(json.dumps(nested(200)).encode()))
    assert "more" in kept
    assert kept.count("[") <= redact.DEPTH_MAX
