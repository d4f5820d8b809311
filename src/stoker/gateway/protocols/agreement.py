"""Whether two revisions answered one request alike: tensors, vectors, chats.

Numbers agree that differ by at most `tolerance` times the larger of both, or by a thousandth of that of the largest of
their tensor: what is near nothing beside the others is nothing. Whole numbers, labels and texts agree when they are
equal. A chat that was drawn at random agrees in its form only: how it ended, which tools it calls, whether it is JSON.
"""

import base64
import math
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

NEAR_NOTHING: Final = 1e-3
_CODES: Final = {"FP32": "f", "FP64": "d"}
_FLOATS: Final = frozenset(("FP16", "BF16", "FP32", "FP64"))


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. header_bytes: where the JSON ends and binary tensors begin, negative for none of these."""

    body: bytes
    header_bytes: int = -1


def agree(method: str, one: Answer, other: Answer, tolerance: float, *, is_exact: bool) -> bool | None:
    """Return whether two answers of `method` agree; None when they cannot be compared.

    Args:
        is_exact: the request leaves nothing to chance, so that texts are to be equal.
    """
    if one == other:
        return True
    try:
        if method == "infer":
            return _tensors_agree(_tensors(one), _tensors(other), tolerance)
        if method == "embeddings":
            return _vectors_agree(_vectors(one.body), _vectors(other.body), tolerance)
        mine, theirs = _choices(one.body), _choices(other.body)
    except (msgspec.DecodeError, LookupError, TypeError, ValueError, AttributeError, struct.error):
        return None
    if is_exact:
        return mine == theirs
    return {at: _form(each) for at, each in mine.items()} == {at: _form(each) for at, each in theirs.items()}


def numbers_agree(one: Sequence[float], other: Sequence[float], tolerance: float) -> bool:
    """Return whether all pairs of numbers do."""
    if len(one) != len(other):
        return False
    largest = max((abs(each) for each in (*one, *other) if math.isfinite(each)), default=0.0)
    nothing = tolerance * NEAR_NOTHING * largest
    return all(
        math.isclose(mine, theirs, rel_tol=min(tolerance, 1.0), abs_tol=nothing)
        or (math.isnan(mine) and math.isnan(theirs))
        for mine, theirs in zip(one, other, strict=True)
    )


# ---- tensors: by name, with datatype, shape, and values


def _tensors(answer: Answer) -> dict[str, tuple[str, list[int], Any]]:
    size = answer.header_bytes if answer.header_bytes >= 0 else len(answer.body)
    found = {}
    for output in msgspec.json.decode(answer.body[:size])["outputs"]:
        binary = (output.get("parameters") or {}).get("binary_data_size")
        values: Any
        if binary is not None:
            values, size = _binary(output["datatype"], answer.body[size : size + binary]), size + binary
        else:
            values = list(_flat(output["data"]))
        found[output["name"]] = (output["datatype"], output["shape"], values)
    return found


def _binary(datatype: str, data: bytes) -> Any:
    code = _CODES.get(datatype)
    if code is not None:
        return array(code, data).tolist()
    if datatype == "FP16":
        return list(struct.unpack(f"<{len(data) // 2}e", data))
    if datatype == "BF16":
        wide = b"".join(b"\x00\x00" + data[at : at + 2] for at in range(0, len(data), 2))
        return array("f", wide).tolist()
    return data


def _flat(data: Any) -> Iterator[Any]:
    for each in data:
        if isinstance(each, list):
            yield from _flat(each)
        else:
            yield each


def _tensors_agree(one: dict[str, Any], other: dict[str, Any], tolerance: float) -> bool:
    if one.keys() != other.keys():
        return False
    for name, (datatype, shape, values) in one.items():
        their_type, their_shape, theirs = other[name]
        if (datatype, shape) != (their_type, their_shape) or type(values) is not type(theirs):
            return False
        if datatype in _FLOATS:
            if not numbers_agree([_number(each) for each in values], [_number(each) for each in theirs], tolerance):
                return False
        elif values != theirs:
            return False
    return True


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


# ---- vectors


def _vectors(body: bytes) -> list[list[float]]:
    found = []
    for each in msgspec.json.decode(body)["data"]:
        vector = each["embedding"]
        found.append(array("f", base64.b64decode(vector)).tolist() if isinstance(vector, str) else vector)
    return found


def _vectors_agree(one: list[list[float]], other: list[list[float]], tolerance: float) -> bool:
    return len(one) == len(other) and all(
        len(mine) == len(theirs) and _cosine(mine, theirs) >= 1.0 - tolerance
        for mine, theirs in zip(one, other, strict=True)
    )


def _cosine(one: list[float], other: list[float]) -> float:
    size = math.hypot(*one) * math.hypot(*other)
    return sum(map(float.__mul__, map(float, one), map(float, other))) / size if size else float(one == other)


# ---- chats: by choice (text, tools with their arguments, how it ended)


def _choices(body: bytes) -> dict[int, tuple[str, list[tuple[str, str]], str | None]]:
    pieces = [msgspec.json.decode(body)] if body[:1] == b"{" else list(_events(body))
    if not pieces:
        raise ValueError("no answer of a chat")
    texts: dict[int, str] = {}
    tools: dict[int, dict[int, list[str]]] = {}
    ends: dict[int, str | None] = {}
    for piece in pieces:
        for choice in piece["choices"]:
            at = choice["index"]
            said = choice.get("message") or choice.get("delta") or {}
            texts[at] = texts.get(at, "") + (said.get("content") or choice.get("text") or "")
            for place, call in enumerate(said.get("tool_calls") or ()):
                held = tools.setdefault(at, {}).setdefault(call.get("index", place), ["", ""])
                held[0] += call["function"].get("name") or ""
                held[1] += call["function"].get("arguments") or ""
            ends[at] = choice.get("finish_reason") or ends.get(at)
    return {
        at: (
            " ".join(text.split()),
            [(name, " ".join(arguments.split())) for name, arguments in tools.get(at, {}).values()],
            ends[at],
        )
        for at, text in texts.items()
    }


def _events(body: bytes) -> Iterator[Any]:
    for line in body.splitlines():
        data = line.removeprefix(b"data: ")
        if data is not line and data != b"[DONE]" and data:
            yield msgspec.json.decode(data)


def _form(choice: tuple[str, list[tuple[str, str]], str | None]) -> tuple[list[str], str | None, bool]:
    text, tools, end = choice
    return [name for name, _ in tools], end, _is_json(text)


def _is_json(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text.encode("utf-8", "surrogatepass")), dict | list)
    except msgspec.DecodeError:
        return False
