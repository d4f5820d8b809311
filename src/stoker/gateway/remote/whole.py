"""A server's whole answer as ours: its own bytes, but for the model's name."""

import math
from typing import Any, Final

import msgspec
from msgspec import Raw

from stoker.core.sizes import CHARS_PER_TOKEN
from stoker.gateway.remote.request import Outgoing
from stoker.protocol.openai_chunks import ServedUsage, told_error
from stoker.types.errors import EngineFailed
from stoker.types.replica import Usage

_KEY: Final = b'"model"'


class _Choice(msgspec.Struct):
    index: int = 0
    message: Raw = Raw(b"")
    text: Raw = Raw(b"")


class _Answer(msgspec.Struct):
    choices: list[_Choice] | None = None
    model: Raw = Raw(b"")
    usage: ServedUsage | None = None
    error: Any = None


_decode: Final = msgspec.json.Decoder(_Answer).decode


def read(body: bytes, asked: Outgoing) -> tuple[bytes, Usage]:
    """Return the body for the client, and what the answer took. Raises EngineFailed for what is no answer."""
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise EngineFailed(f"the upstream server sent an answer that cannot be read: {broken}") from broken
    if answer.error is not None:
        raise told_error(answer.error)
    if not answer.choices:
        raise EngineFailed("the upstream server sent an answer without choices")
    usage = answer.usage.counted if answer.usage is not None else _estimate(answer.choices)
    return _named(body, bytes(answer.model), asked.name), usage


def _named(body: bytes, model: bytes, name: bytes) -> bytes:
    if not model or model == name:
        return body
    at = body.find(_KEY)
    after = at + len(_KEY)
    if at >= 0 and body.find(_KEY, after) < 0:
        for colon in (b":", b": "):
            if body.startswith(colon + model, after):
                return b"".join((body[:after], b":", name, body[after + len(colon) + len(model) :]))
    fields = msgspec.json.decode(body, type=dict[str, Raw])
    fields["model"] = Raw(name)
    return msgspec.json.encode(fields)


def _estimate(choices: list[_Choice]) -> Usage:
    """Return about what an answer took whose server does not count."""
    written = sum(len(bytes(choice.message)) + len(bytes(choice.text)) for choice in choices)
    return Usage(output_tokens=math.ceil(written / CHARS_PER_TOKEN))
