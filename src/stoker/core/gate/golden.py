"""Examples with known answers: how they are read, and what is sent for each. Pure.

One JSON object a line:

    {"inputs": {"image": [0, 12, …]}, "expected": 7}          predict: one row, by input; or the protocol's own tensors
    {"input": [0, 12, …], "expected": {"label": 7}}           the same where there is one input; an output by its name
    {"messages": [{"role": "user", "content": "2+2?"}], "expected": "4"}         chat; "input": "2+2?" is short for it
    {"input": "red shoes", "expected": [0.1, …]}              embed; without `expected` compared with what serves

and optionally `weight` (1 by default).
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from stoker.types.models import Signature, TensorSpec
from stoker.types.releases import GOLDEN_BYTES_MAX, GOLDEN_ROWS_MAX

FAULTS_SHOWN: Final = 5
LINE_BYTES_MAX: Final = 1 << 20
CHAT_TOKENS: Final = 256  # of an answer
_KNOWN: Final = frozenset(("inputs", "input", "messages", "expected", "weight"))
METHODS: Final = {"predict": "infer", "chat": "chat", "embed": "embeddings"}


class Example(msgspec.Struct, frozen=True):
    """One line. `given` is what one of inputs, input and messages held; `expected` None: what serves now says it."""

    line: int
    field: str
    given: Any
    expected: Any
    weight: float = 1.0


class BadGolden(ValueError):
    """A file that holds no examples; the message names its lines."""


def read(data: bytes) -> tuple[Example, ...]:
    """Return the examples of a file. Raises BadGolden with the first faulty lines."""
    if len(data) > GOLDEN_BYTES_MAX:
        raise BadGolden(f"it has {len(data)} bytes; at most {GOLDEN_BYTES_MAX} are read")
    found: list[Example] = []
    faults: list[str] = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        if len(found) >= GOLDEN_ROWS_MAX:
            raise BadGolden(f"it has more than {GOLDEN_ROWS_MAX} examples; take a sample of them")
        one = _example(number, line)
        if isinstance(one, str):
            faults.append(f"line {number}: {one}")
        else:
            found.append(one)
    if faults:
        more = f"; and {len(faults) - FAULTS_SHOWN} more lines" if len(faults) > FAULTS_SHOWN else ""
        raise BadGolden("; ".join(faults[:FAULTS_SHOWN]) + more)
    if not found:
        raise BadGolden("it holds no examples; write a JSON object a line, with inputs and expected")
    return tuple(found)


def misfit(examples: tuple[Example, ...], task: str, signature: Signature) -> str:
    """Return why the examples cannot be sent to a model, with the first such line; "" when they can."""
    for each in examples:
        if each.expected is None and task != "embed":
            return f"line {each.line}: no `expected`; only vectors can be compared without"
        try:
            request(each, task, signature)
        except BadGolden as wrong:
            return f"line {each.line}: {wrong}"
    return ""


def request(example: Example, task: str, signature: Signature) -> tuple[str, bytes]:
    """Return the method and the body that ask a replica for one example. Raises BadGolden."""
    if task == "predict":
        return METHODS[task], msgspec.json.encode({"inputs": _tensors(example, signature)})
    if task == "chat":
        messages = example.given
        if example.field == "input" and isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        if example.field == "inputs" or not isinstance(messages, list) or not messages:
            raise BadGolden("a chat model takes `messages`, or `input` with a text")
        body = {"model": "golden", "messages": messages, "temperature": 0, "seed": 1, "max_tokens": CHAT_TOKENS}
        return METHODS[task], msgspec.json.encode(body)
    if example.field != "input" or not isinstance(example.given, str):
        raise BadGolden("an embedding model takes `input` with a text")
    return METHODS[task], msgspec.json.encode({"model": "golden", "input": example.given})


def _example(number: int, line: bytes) -> Example | str:
    if len(line) > LINE_BYTES_MAX:
        return f"{len(line)} bytes; at most {LINE_BYTES_MAX} are read of a line"
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        return f"no JSON: {wrong}"
    if not isinstance(value, dict):
        return "no JSON object"
    if odd := sorted(value.keys() - _KNOWN):
        return f"{odd[0]!r} is not known; a line has inputs, input or messages, and expected, weight"
    given = [name for name in ("inputs", "input", "messages") if value.get(name) is not None]
    if len(given) != 1:
        return "one of inputs, input and messages is needed" if not given else f"{' and '.join(given)}: take one"
    weight = value.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < 1e9:
        return f"weight is {weight!r}; a number over 0 is needed"
    return Example(number, given[0], value[given[0]], value.get("expected"), float(weight))


def _tensors(example: Example, signature: Signature) -> list[dict[str, Any]]:
    given = example.given
    if example.field == "messages":
        raise BadGolden("this model takes `inputs`, not `messages`")
    if isinstance(given, list) and given and all(isinstance(each, dict) and "name" in each for each in given):
        return given  # the protocol's own form; the replica checks it
    if not signature.inputs:
        raise BadGolden("the model says nothing of its inputs; give tensors with name, datatype, shape and data")
    if not isinstance(given, dict):
        if len(signature.inputs) > 1:
            names = ", ".join(each.name for each in signature.inputs)
            raise BadGolden(f"the model takes {names}; give `inputs` by name")
        given = {signature.inputs[0].name: given}
    known = {each.name: each for each in signature.inputs}
    if odd := [name for name in given if name not in known]:
        raise BadGolden(f"the model has no input {odd[0]!r}; it takes {', '.join(known)}")
    if missing := [name for name in known if name not in given]:
        raise BadGolden(f"input {missing[0]!r} is missing")
    return [_tensor(spec, given[spec.name]) for spec in signature.inputs]


def _tensor(spec: TensorSpec, value: Any) -> dict[str, Any]:
    """Return a value as the tensor that `spec` wants; one row gets its batch dimension."""
    shape: list[int] = []
    flat: Any = [value]
    while flat and isinstance(flat[0], list):
        size = len(flat[0])
        if any(not isinstance(each, list) or len(each) != size for each in flat):
            raise BadGolden(f"input {spec.name!r} is ragged")
        shape.append(size)
        flat = [item for each in flat for item in each]
    if len(shape) == len(spec.shape) - 1:
        shape.insert(0, 1)
    if len(shape) != len(spec.shape):
        raise BadGolden(f"input {spec.name!r} has {len(shape)} dimensions; the model takes {list(spec.shape)}")
    if any(want not in (-1, have) for want, have in zip(spec.shape, shape, strict=True)):
        raise BadGolden(f"input {spec.name!r} has the shape {shape}; the model takes {list(spec.shape)}")
    return {"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": flat}


def texts(examples: Sequence[Example], most: int) -> tuple[str, ...]:
    """Return at most `most` examples as plain texts, from all over the file: a prompt, and on the next line its answer.

    Raises BadGolden where one has no text.
    """
    count = min(most, len(examples))
    return tuple(_text(examples[at * len(examples) // count]) for at in range(count))


def _text(example: Example) -> str:
    said = example.given if example.field == "messages" else [{"content": example.given}]
    given = [each.get("content") if isinstance(each, dict) else None for each in said] if isinstance(said, list) else []
    given += [example.expected] if example.expected is not None else []
    found = [each for each in given if isinstance(each, str)]
    if not found or len(found) < len(given):
        raise BadGolden(
            f"line {example.line}: no text to read; `input` or `messages` with texts, and one in `expected`"
        )
    return "\n".join(found)


def simplest(task: str, signature: Signature) -> tuple[str, bytes]:
    """Return the method and body of the simplest request that a model takes: one row of zeros, or a short text."""
    if task == "chat":
        messages = [{"role": "user", "content": "Say one word."}]
        return METHODS[task], msgspec.json.encode(
            {"model": "golden", "messages": messages, "max_tokens": 16, "seed": 1}
        )
    if task == "embed":
        return METHODS[task], msgspec.json.encode({"model": "golden", "input": "a short text"})
    tensors = []
    for each in signature.inputs:
        shape = [max(size, 1) for size in each.shape]
        zero: Any = "" if each.datatype == "BYTES" else False if each.datatype == "BOOL" else 0
        values = [zero] * math.prod(shape)
        tensors.append({"name": each.name, "datatype": each.datatype, "shape": shape, "data": values})
    return METHODS[task], msgspec.json.encode({"inputs": tensors})
