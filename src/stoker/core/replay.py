"""A sampled request sent once more: what is sent, and how far two answers to it agree. Pure.

Answers are compared by what they say: tensors, vectors or texts. Ids, times and usage differ between any two.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from stoker.types.errors import ReplicaLost, UnprocessableInput
from stoker.types.replay import Agreement, Outcome, Reply, Summary
from stoker.types.samples import SampleRecord

PATHS: Final = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
}


_SHOWN: Final = 24  # characters of each text around the first that differs
_KILLING: Final = (UnprocessableInput.code, ReplicaLost.code)


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


def is_killing(record: SampleRecord) -> bool:
    """Return whether a replica died of a sample, or may have: a gateway that is passed by cannot keep it from more."""
    return record.code in _KILLING


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
    cosine = _cosine(list(_numbers(said)), list(_numbers(said_too)))
    return Agreement(said == said_too, cosine, "" if said == said_too else _apart(said, said_too, ""))


def reply(answer: Any, status: int, took_s: float, problem: str = "") -> Reply:
    """Return what one of two did, with the tokens that its answer counts."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    told = usage if isinstance(usage, dict) else {}
    tokens = [told.get(name) for name in ("prompt_tokens", "completion_tokens")]
    went_in, came_out = (each if isinstance(each, int) else 0 for each in tokens)
    return Reply(status, took_s, problem, went_in, came_out)


def outcome(record: SampleRecord, one: tuple[Reply, Any], other: tuple[Reply, Any]) -> Outcome:
    """Return what became of a sample, from both replies with their answers."""
    (before, said), (after, said_too) = one, other
    agreed = agreement(said, said_too) if before.status == after.status == 200 else None
    return Outcome(record.id, sum(record.hidden.values()), record.status, before, after, agreed)


def summary(outcomes: Sequence[Outcome], skipped: Mapping[str, int], before: str = "", after: str = "") -> Summary:
    """Return the numbers of a whole replay; `before` and `after` name who was asked."""
    statuses: dict[str, int] = {}
    for each in outcomes:
        change = f"{each.before.status} → {each.after.status}"
        statuses[change] = statuses.get(change, 0) + 1
    agreed = [each.agreement for each in outcomes if each.agreement is not None]
    cosines = [each.cosine for each in agreed if each.cosine is not None]
    ones, others = [each.before for each in outcomes], [each.after for each in outcomes]
    times, times_too = (sorted(each.took_s for each in side) for side in (ones, others))
    return Summary(
        sent=len(outcomes),
        skipped=dict(skipped),
        statuses=dict(sorted(statuses.items())),
        p50_s=(_quantile(times, 0.5), _quantile(times_too, 0.5)),
        p99_s=(_quantile(times, 0.99), _quantile(times_too, 0.99)),
        answered=len(agreed),
        equal=sum(each.equal for each in agreed),
        cosine_min=min(cosines, default=None),
        cosine_mean=sum(cosines) / len(cosines) if cosines else None,
        input_tokens=(sum(each.input_tokens for each in ones), sum(each.input_tokens for each in others)),
        output_tokens=(sum(each.output_tokens for each in ones), sum(each.output_tokens for each in others)),
        before=before,
        after=after,
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def _said(answer: Any) -> Any:
    """Return what an answer says, without its ids and times."""
    if not isinstance(answer, dict):
        return answer
    if isinstance(answer.get("outputs"), list):
        return {str(each.get("name")): each.get("data") for each in _objects(answer["outputs"])}
    if isinstance(answer.get("choices"), list):
        return {"choices": [_chosen(each) for each in _objects(answer["choices"])]}
    if isinstance(answer.get("data"), list):
        return {"embeddings": [each.get("embedding") for each in _objects(answer["data"])]}
    return answer


def _apart(one: Any, other: Any, path: str) -> str:
    """Return the first place where two values differ, and what each says there. Only for values that differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        name = next(name for name in (*one, *other) if one.get(name, ...) != other.get(name, ...))
        return _apart(one.get(name, ...), other.get(name, ...), f"{path}.{name}" if path else str(name))
    if isinstance(one, list) and isinstance(other, list):
        for at, (mine, theirs) in enumerate(zip(one, other, strict=False)):
            if mine != theirs:
                return _apart(mine, theirs, f"{path}[{at}]")
        return f"{path}: {len(one)} values → {len(other)} values"
    if isinstance(one, str) and isinstance(other, str):
        differ = (at for at, (mine, theirs) in enumerate(zip(one, other, strict=False)) if mine != theirs)
        first = next(differ, min(len(one), len(other)))
        return f"{path} at character {first}: {_around(one, first)} → {_around(other, first)}"
    return f"{path}: {_short(one)} → {_short(other)}"


def _around(text: str, at: int) -> str:
    start, end = max(0, at - _SHOWN // 2), at + _SHOWN
    shown = " ".join(text[start:end].split())
    return f"{'…' if start else ''}{shown}{'…' if end < len(text) else ''}" or "(its end)"


def _short(value: Any) -> str:
    if value is ...:
        return "(nothing)"
    text = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _SHOWN * 2 else text[: _SHOWN * 2] + "…"


def _chosen(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    told = message if isinstance(message, dict) else choice
    calls = [each.get("function") for each in _objects(told.get("tool_calls") or [])]
    said = {"content": told.get("content"), "text": choice.get("text"), "finish_reason": choice.get("finish_reason")}
    return {name: value for name, value in {**said, "tool_calls": calls}.items() if value}


def _objects(values: list[Any]) -> Iterator[dict[str, Any]]:
    return (each for each in values if isinstance(each, dict))


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for name in sorted(value):
            yield from _numbers(value[name])
    elif isinstance(value, list):
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
