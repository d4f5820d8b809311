"""A sampled request sent once more: what is sent, and how far two answers to it agree. Pure.

Answers are compared by what they say: tensors, vectors or texts. Ids, times and usage differ between any two.
"""

import math
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from stoker.types.samples import SampleRecord

PATHS: Final = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
}


class Agreement(msgspec.Struct, frozen=True):
    """How far two answers agree. `cosine` is of all their numbers in order; None where they have none to compare."""

    equal: bool
    cosine: float | None = None


def obstacle(record: SampleRecord) -> str:
    """Return why a sample cannot be sent again, "" when it can."""
    request = record.request
    if not isinstance(request, dict):
        return "its request was not kept"
    if set(request) == {"bytes", "why"}:
        return f"its request is {request['why']}"
    if "binary_bytes" in request:
        return "raw tensors are not kept"
    return "a field of it was cut into tokens" if _is_cut_up(request) else ""


def request(record: SampleRecord, endpoint: str, version: str = "") -> tuple[str, bytes]:
    """Return path and body that ask `endpoint` the same; a stream is asked for whole.

    Args:
        version: of the endpoint's model versions, for the Open Inference Protocol; "": whichever serves.
    """
    body = dict(record.request)
    if record.method in PATHS:
        body |= {"model": endpoint, "stream": False}
        body.pop("stream_options", None)
        return PATHS[record.method], msgspec.json.encode(body)
    which = f"/versions/{version}" if version else ""
    return f"/v2/models/{endpoint}{which}/infer", msgspec.json.encode(body)


def agreement(one: Any, other: Any) -> Agreement:
    """Compare two answers, as values of JSON."""
    said, said_too = _said(one), _said(other)
    return Agreement(said == said_too, _cosine(list(_numbers(said)), list(_numbers(said_too))))


def _said(answer: Any) -> Any:
    if not isinstance(answer, dict):
        return answer
    if isinstance(answer.get("outputs"), list):
        return [(each.get("name"), each.get("data")) for each in _objects(answer["outputs"])]
    if isinstance(answer.get("choices"), list):
        return [_chosen(each) for each in _objects(answer["choices"])]
    if isinstance(answer.get("data"), list):
        return [each.get("embedding") for each in _objects(answer["data"])]
    return answer


def _chosen(choice: dict[str, Any]) -> tuple[Any, ...]:
    message = choice.get("message")
    told = message if isinstance(message, dict) else {}
    calls = [each.get("function") for each in _objects(told.get("tool_calls") or [])]
    return told.get("content"), calls, choice.get("text"), choice.get("finish_reason")


def _objects(values: list[Any]) -> Iterator[dict[str, Any]]:
    return (each for each in values if isinstance(each, dict))


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list | tuple):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def _cosine(one: list[float], other: list[float]) -> float | None:
    if not one or len(one) != len(other):
        return None
    norms = math.sqrt(math.fsum(x * x for x in one)) * math.sqrt(math.fsum(x * x for x in other))
    if norms == 0 or not math.isfinite(norms):
        return None
    return max(-1.0, min(1.0, math.fsum(x * y for x, y in zip(one, other, strict=True)) / norms))


def _is_cut_up(request: dict[str, Any]) -> bool:
    return any(isinstance(each, dict) and set(each) == {"tokens"} for each in request.values())
