"""A client's request as the server behind the endpoint gets it: its own words, but for the model's name and the usage.

The body was checked already (protocol/openai.py). Here it is taken apart one level deep only: what is inside of a field
goes on byte for byte, and so do fields that nobody here knows. Fields that are null are left out, because some servers
refuse a null.
"""

from typing import Final

import msgspec
from msgspec import Raw

from stoker.protocol.openai import texts_or_tokens
from stoker.types.errors import InvalidInput

METHODS: Final = {"chat": b"/chat/completions", "completions": b"/completions"}

_NULL: Final = Raw(b"null")
_TRUE: Final = Raw(b"true")
_WITH_USAGE: Final = Raw(b'{"include_usage":true}')
_decode = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_prompts = msgspec.json.Decoder(str | list[str | int | list[int]]).decode
_encode = msgspec.json.encode


class Outgoing(msgspec.Struct, frozen=True):
    """One request, and what of it decides how its answer is read.

    name: the model as the client wrote it, a JSON string. choices: prompts × n. wants_usage: in the client's stream.
    """

    method: str
    body: bytes
    name: bytes
    is_stream: bool = False
    choices: int = 1
    wants_usage: bool = False


def is_plain(method: str, body: bytes) -> bool:
    """Return whether the server may be asked directly. Answers held to a schema are compared with it in the replica."""
    return method in METHODS and b'"response_format"' not in body


def rewrite(method: str, body: bytes, model: Raw) -> Outgoing:
    """Return what the server is asked. Raises InvalidInput for a body that nobody checked."""
    try:
        fields = _decode(body)
        name = bytes(fields["model"])
        fields["model"] = model
        is_stream = fields.get("stream", _NULL) == _TRUE
        options = fields.get("stream_options", _NULL)
        wants_usage = False
        if is_stream:
            fields["stream_options"] = _WITH_USAGE
            if options != _NULL:
                asked = _decode(options)
                wants_usage = asked.get("include_usage", _NULL) == _TRUE
                fields["stream_options"] = Raw(_encode({**asked, "include_usage": True}))
        elif "stream_options" in fields:
            del fields["stream_options"]  # means nothing here, and OpenAI's own server refuses it
        choices = 1 if method == "chat" else _prompts(fields["prompt"])
        if "n" in fields and fields["n"] != _NULL:
            choices *= int(bytes(fields["n"]))
    except (msgspec.DecodeError, KeyError, ValueError) as wrong:
        raise InvalidInput(f"the body cannot be read: {wrong}", field="body") from wrong
    if b"null" in body:
        fields = {name: value for name, value in fields.items() if value != _NULL}
    return Outgoing(method, _encode(fields), name, is_stream, choices, wants_usage)


def _prompts(prompt: Raw) -> int:
    if bytes(prompt).startswith(b'"'):
        return 1
    return len(texts_or_tokens(_decode_prompts(prompt), "prompt"))
