"""What may be kept of a request that killed replicas: its form, so that an engineer can build one like it; not what it
says.

Kept are the protocols' own field names, words and settings, the number and nesting of everything, and of each text its
length in characters and bytes and where its words, digits and signs are. Not kept is anything a person wrote: texts,
names they chose, and arrays of numbers, because token ids are a text and a row of features is a person. Of an array its
count and the order of its bounds stay. Linear in the body's size.
"""

from typing import Any, Final

import msgspec

BODY_MAX_BYTES: Final = 4 << 20  # a larger body is only measured
CHARS_MAX: Final = 2_000  # of one text; of the rest the number is told
ALL_CHARS_MAX: Final = 200_000  # of all texts together
ITEMS_MAX: Final = 64  # of one list or object
NODES_MAX: Final = 5_000
DEPTH_MAX: Final = 48


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Field names of OpenAI's API, the Open Inference Protocol and JSON Schema. A number under one of them is a setting.
_NAMES: Final = _words(
    """
    model messages role content name tool_calls tool_call_id id function arguments type text stream stream_options
    include_usage max_tokens max_completion_tokens temperature top_p top_k min_p n stop presence_penalty
    frequency_penalty seed user logit_bias ignore_eos logprobs top_logprobs response_format json_schema schema strict
    description tools tool_choice parallel_tool_calls parameters prompt echo input encoding_format dimensions
    inputs outputs shape datatype data binary_data_size binary_data classification
    properties required items enum const anyOf oneOf allOf not $ref $defs additionalProperties pattern format default
    minLength maxLength minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minItems maxItems uniqueItems
    minProperties maxProperties patternProperties prefixItems
    """
)
# Words of the protocols that are kept as they are, under the field they belong to.
_WORDS: Final = {
    "role": frozenset(("system", "developer", "user", "assistant", "tool", "function")),
    "type": _words("function text json_object json_schema image_url object array string number integer boolean null"),
    "datatype": _words("BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 BF16 FP32 FP64 BYTES"),
    "tool_choice": frozenset(("none", "auto", "required")),
    "encoding_format": frozenset(("float", "base64")),
}
_KEPT_LISTS: Final = frozenset(("shape",))
_SETTINGS_NOT: Final = frozenset(("prompt", "input", "data", "content", "enum", "const", "default", "logit_bias"))


def body(data: bytes, header_bytes: int = -1) -> Any:
    """Return what may be kept of a request's body, as a value for JSON.

    Args:
        header_bytes: of an OIP binary body, the length of its JSON part; -1 when all of it is JSON.
    """
    text = data if header_bytes < 0 else data[:header_bytes]
    if len(text) > BODY_MAX_BYTES:
        return {"bytes": len(data), "why": "too large to be read"}
    try:
        found = _Redaction().value(msgspec.json.decode(text), "", 0)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"bytes": len(data), "why": "no JSON"}
    return found if header_bytes < 0 else {"json": found, "binary_bytes": len(data) - len(text)}


def mask(text: str) -> str:
    """Return a text of the same length, in characters and in UTF-8, that shows only what kind each character is."""
    return "".join(map(_kind, text))


def _kind(letter: str) -> str:
    code = ord(letter)
    if code >= 0x80:
        return "é" if code < 0x800 else "語" if code < 0x10000 else "🎉"
    if letter.isalnum():
        return "9" if letter.isdigit() else "x" if letter.islower() else "X"
    if code < 0x20 or code == 0x7F:
        return "\n" if letter in "\r\n" else " " if letter == "\t" else "\x01"
    return " " if letter == " " else "."


class _Redaction:
    """One body; counts what was kept."""

    def __init__(self) -> None:
        self._nodes = 0
        self._chars = 0

    def value(self, value: Any, name: str, depth: int) -> Any:
        self._nodes += 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return value if value in _WORDS.get(name, ()) else self._text(value)
        if isinstance(value, int | float):
            return value if name in _NAMES and name not in _SETTINGS_NOT else type(value)()
        if depth >= DEPTH_MAX or self._nodes >= NODES_MAX:
            return {"more": len(value)}
        return self._list(value, name, depth) if isinstance(value, list) else self._object(value, depth)

    def _text(self, text: str) -> str:
        room = min(CHARS_MAX, ALL_CHARS_MAX - self._chars)
        self._chars += min(len(text), room)
        return mask(text) if len(text) <= room else f"{mask(text[:room])} … {len(text) - room} more"

    def _list(self, values: list[Any], name: str, depth: int) -> Any:
        if name not in _KEPT_LISTS and values and all(type(value) in (int, float) for value in values):
            return _numbers(values)
        kept = [self.value(value, name, depth + 1) for value in values[:ITEMS_MAX]]
        return [*kept, {"more": len(values) - ITEMS_MAX}] if len(values) > ITEMS_MAX else kept

    def _object(self, values: dict[str, Any], depth: int) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for at, (name, value) in enumerate(values.items()):
            if at >= ITEMS_MAX:
                kept["more"] = len(values) - ITEMS_MAX
                break
            is_ours = name in _NAMES
            shown = name if is_ours else f"{self._text(name)} #{at}"  # two masks may be alike
            kept[shown] = self.value(value, name if is_ours else "", depth + 1)
        return kept


def _numbers(values: list[int | float]) -> dict[str, Any]:
    """Return what may be kept of an array of numbers."""
    return {
        "numbers": len(values),
        "min": float(f"{min(values):.0e}"),  # one digit: a bound of few numbers is one of them
        "max": float(f"{max(values):.0e}"),
        "whole": sum(value == value // 1 for value in values),
        "zeros": values.count(0),
    }
