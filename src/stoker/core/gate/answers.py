"""What a replica's answer to an example says, in a form that can be held against what was expected. Pure."""

import math
from typing import Any, Final

from stoker.core.gate.golden import Example
from stoker.types.releases import Metric

LABELS_MAX: Final = 1_000  # different ones that can be compared by F1


class Odd(ValueError):
    """An answer that says nothing that could be compared."""


def said(answer: Any, task: str, output: str) -> Any:
    """Return what an answer (its JSON) says: a text, a vector, or an output's value. Raises Odd."""
    try:
        if task == "chat":
            return answer["choices"][0]["message"]["content"] or ""
        if task == "embed":
            return answer["data"][0]["embedding"]
        outputs = answer["outputs"]
        chosen = outputs[0] if not output else next(each for each in outputs if each["name"] == output)
        data = chosen["data"]
    except (KeyError, IndexError, TypeError) as odd:
        raise Odd(f"an answer without {odd}") from odd
    except StopIteration as missing:
        raise Odd(f"an answer without the output {output!r}") from missing
    return data[0] if isinstance(data, list) and len(data) == 1 else data


def output_of(example: Example, output: str) -> str:
    """Return which output an example is about: the named one, or the one that its expectation names."""
    if not output and isinstance(example.expected, dict) and len(example.expected) == 1:
        return str(next(iter(example.expected)))
    return output


def expected_of(example: Example, output: str) -> Any:
    """Return what is expected of an output. Raises Odd."""
    value = example.expected
    if isinstance(value, dict):
        if output_of(example, output) not in value:
            raise Odd(f"line {example.line}: `expected` names {', '.join(value) or 'nothing'}, not {output!r}")
        value = value[output_of(example, output)]
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def usual_metric(task: str, expected: list[Any]) -> Metric:
    """Return what examples are compared by where nobody says it."""
    if task == "chat":
        return "exact"
    if task == "embed":
        return "cosine"
    is_number = any(isinstance(each, list) or (isinstance(each, float) and each != int(each)) for each in expected)
    return "rmse" if is_number else "accuracy"


def score(metric: Metric, expected: Any, found: Any) -> float:
    """Return how well one answer fits: 1 or 0; of rmse the mean squared error; of cosine the cosine. Raises Odd."""
    if metric in ("accuracy", "f1"):
        return float(label(found, expected) == label(expected, expected))
    if metric == "exact":
        return float(_plain(found) == _plain(expected))
    one, other = _numbers(expected), _numbers(found)
    if len(one) != len(other):
        raise Odd(f"{len(other)} numbers where {len(one)} were expected")
    if metric == "rmse":
        return math.fsum((x - y) ** 2 for x, y in zip(one, other, strict=True)) / len(one)
    norms = math.sqrt(math.fsum(x * x for x in one)) * math.sqrt(math.fsum(y * y for y in other))
    if norms == 0:
        raise Odd("a vector of nothing but zeros")
    return max(-1.0, min(1.0, math.fsum(x * y for x, y in zip(one, other, strict=True)) / norms))


def label(value: Any, like: Any) -> str:
    """Return a class as a text. Scores where a class is expected (`like`) are the class with the highest."""
    if isinstance(value, list) and not isinstance(like, list):
        scores = _numbers(value)
        return str(scores.index(max(scores)))
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return str(value)


def _plain(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _numbers(value: Any) -> list[float]:
    found: list[float] = []
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, list):
            stack.extend(reversed(one))
        elif isinstance(one, bool) or not isinstance(one, int | float) or not math.isfinite(one):
            raise Odd(f"{str(one)[:40]!r} is no number")
        else:
            found.append(float(one))
    if not found:
        raise Odd("no numbers")
    return found
