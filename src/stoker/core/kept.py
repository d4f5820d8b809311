"""What is kept of a sampled request and its answer: what they say, without whom they name.

Other than core/redact.py, which keeps only the form: here the words stay, and what is recognised in them
(core/recognise) has a pseudonym. Inside JSON only texts change, so that it stays the JSON it was; a number that is
recognised becomes a text. Kept as their size alone: what is no JSON or too large to be read whole (half of it cannot
be read, so that nothing in it would be recognised), raw tensors unless they are asked for, files in base64, and words
cut into tokens (token ids, logprobs), where nothing is recognised either. A stream is kept as the text it told, for
the same reason.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import msgspec

from stoker.core import tensors
from stoker.core.pseudonyms import Pseudonyms
from stoker.core.tensors import NotRaw

DEPTH_MAX: Final = 100
PLAIN_BELOW: Final = 10**8  # a number that is smaller is nobody's
CUT_TAIL: Final = 256  # characters before a cut, where the half of something may stand
_TOKENS: Final = ("prompt", "input")  # of OpenAI's API: a text, or lists of token ids
_CUT_UP: Final = ("logprobs", "top_logprobs", "token_ids", "prompt_token_ids")
_NAMED: Final = ("data", "value", "contents", "content")  # an object's `name` says what these are


class Unread(Exception):
    """The body cannot be read; the text says why."""


def body(data: bytes, names: Pseudonyms, *, header_bytes: int = -1, bytes_max: int, with_tensors: bool = False) -> Any:
    """Return what is kept of a whole request or answer, as a value for JSON.

    Args:
        header_bytes: of an OIP binary body, the length of its JSON part; -1 when all of it is JSON.
        bytes_max: a longer one is only measured.
        with_tensors: keep the values of raw tensors too, as those of JSON.
    """
    text = data if header_bytes < 0 else data[:header_bytes]
    if len(text) > bytes_max:
        return measured(len(data))
    try:
        head = msgspec.json.decode(text)
        if header_bytes >= 0 and with_tensors:
            with suppress(NotRaw):
                return value(tensors.plain(head, data[header_bytes:]), names)
        found = value(head, names)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Unread):
        return {"bytes": len(data), "why": "no JSON that can be read"}
    return found if header_bytes < 0 else {"json": found, "binary_bytes": len(data) - len(text)}


def measured(size: int) -> dict[str, Any]:
    """Return what is kept of a body of `size` bytes that is too large."""
    return {"bytes": size, "why": "larger than max_bytes"}


def value(whole: Any, names: Pseudonyms) -> Any:
    """Return a JSON value with pseudonyms in its texts and the names of its fields. Raises Unread when too deep."""
    told: list[tuple[str, str]] = []
    fields: dict[str, str] = {}  # a row's are those of the row before: read once
    _collect(whole, "", told, fields, 0)
    made = names.texts([*(("", field) for field in fields), *told])
    return _rebuilt(whole, iter(made[len(fields) :]), dict(zip(fields, made, strict=False)))


def stream(data: bytes, names: Pseudonyms, *, is_cut: bool) -> Any:
    """Return what is kept of a server-sent stream: its texts joined, so that what came in pieces is recognised."""
    parts: dict[tuple[int, str], list[str]] = {}
    last: dict[str, Any] = {}
    events = data.split(b"\n\n")
    if is_cut:
        events.pop()
    count = 0
    for event in events:
        payload = event.removeprefix(b"data:").strip()
        if not payload.startswith(b"{"):
            continue
        try:
            piece = msgspec.json.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        count += 1
        last |= {name: piece[name] for name in ("usage", "error") if piece.get(name)}
        for choice in _objects(piece.get("choices")):
            _take(choice, parts)
    choices: dict[int, dict[str, str]] = {}
    for (index, name), texts in parts.items():
        choices.setdefault(index, {})[name] = "".join(texts)
    made = {"events": count, "choices": [{"index": index, **texts} for index, texts in sorted(choices.items())], **last}
    found = value(made, names)
    if is_cut:  # after recognising: what was cut before would be cut through something again
        for choice in found["choices"]:
            choice |= {name: text[:-CUT_TAIL] for name, text in choice.items() if isinstance(text, str)}
        found["cut"] = True
    return found


def _take(choice: dict[str, Any], parts: dict[tuple[int, str], list[str]]) -> None:
    index = choice.get("index")
    index = index if isinstance(index, int) else 0
    delta = choice.get("delta")
    told = {"text": choice.get("text"), "finish_reason": choice.get("finish_reason")}
    if isinstance(delta, dict):
        told |= {name: delta.get(name) for name in ("content", "reasoning_content", "refusal")}
        for call in _objects(delta.get("tool_calls")):
            function = call.get("function")
            if isinstance(function, dict):
                told |= {f"tool_{call.get('index', 0)}_{name}": function.get(name) for name in ("name", "arguments")}
    for name, text in told.items():
        if isinstance(text, str):
            parts.setdefault((index, name), []).append(text)


def _objects(found: Any) -> Iterator[dict[str, Any]]:
    return (each for each in found if isinstance(each, dict)) if isinstance(found, list) else iter(())


def _collect(found: Any, name: str, told: list[tuple[str, str]], fields: dict[str, str], depth: int) -> None:
    """Add to `told` each text of `found`, in the order in which `_rebuilt` asks for them, to `fields` each name."""
    if isinstance(found, str):
        if not _is_file(found):
            told.append((name, found))
    elif _is_large(found):
        told.append((name, _decimal(found)))
    elif isinstance(found, dict):
        if depth >= DEPTH_MAX:
            raise Unread("too deep")
        own = found.get("name")
        for key, inner in found.items():
            fields[key] = key
            if not _is_cut_up(key, inner):
                what = own if key in _NAMED and isinstance(own, str) and len(own) < 64 else key
                _collect(inner, what, told, fields, depth + 1)
    elif isinstance(found, list):
        if depth >= DEPTH_MAX:
            raise Unread("too deep")
        if not _is_plain(found):
            for inner in found:
                _collect(inner, name, told, fields, depth + 1)


def _rebuilt(found: Any, texts: Iterator[str], fields: dict[str, str]) -> Any:
    if isinstance(found, str):
        return _file_size(found) if _is_file(found) else next(texts)
    if _is_large(found):
        text = next(texts)
        return found if text == _decimal(found) else text
    if isinstance(found, dict):
        made: dict[str, Any] = {}
        for key, inner in found.items():
            made[fields[key]] = _counted(inner) if _is_cut_up(key, inner) else _rebuilt(inner, texts, fields)
        return made
    if isinstance(found, list):
        return found if _is_plain(found) else [_rebuilt(inner, texts, fields) for inner in found]
    return found


def _is_large(found: Any) -> bool:
    return (type(found) is int or (type(found) is float and found.is_integer())) and abs(found) >= PLAIN_BELOW


def _decimal(found: float) -> str:
    return str(int(found))


def _is_plain(found: list[Any]) -> bool:
    """Return whether a list is a tensor of numbers of which none is anybody's."""
    return all(type(each) is float or type(each) is int for each in found) and not any(map(_is_large, found))


def _is_cut_up(key: str, inner: Any) -> bool:
    if not isinstance(inner, list | dict):
        return False
    first = inner[0] if isinstance(inner, list) and inner else None
    first = first[0] if isinstance(first, list) and first else first
    return key in _CUT_UP or (key in _TOKENS and type(first) is int)


def _counted(inner: Any) -> dict[str, int]:
    return {"tokens": len(inner)}


def _is_file(text: str) -> bool:
    return text.startswith("data:") and ";base64," in text[:200]


def _file_size(text: str) -> str:
    return f"data:;base64,({len(text)} characters)"
